package query

import "strings"

// In values the characters "," "|" "$" and "\" stand for themselves behind a
// backslash (R4 search.html#escaping).

// split cuts text at the separators that are not escaped. The parts keep their
// escapes.
func split(text string, separator byte) []string {
	if strings.IndexByte(text, '\\') < 0 {
		return strings.Split(text, string(separator))
	}
	var parts []string
	start := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case separator:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

// cut is split into what is in front of the first separator and what follows.
func cut(text string, separator byte) (before, after string, found bool) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case separator:
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

// plain takes the escapes out. A backslash in front of any other character
// stands for itself, since many clients do not escape it.
func plain(text string) string {
	if strings.IndexByte(text, '\\') < 0 {
		return text
	}
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) && strings.IndexByte(`,|$\`, text[i+1]) >= 0 {
			i++
		}
		b = append(b, text[i])
	}
	return string(b)
}
