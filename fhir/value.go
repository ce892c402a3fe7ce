package fhir

import "bytes"

// Minify checks that src holds exactly one JSON value, by the rules of Scan, and
// returns it without white space; src itself when it has none. Repeated keys are
// not looked for. Every error is a *ScanError.
func Minify(src []byte) ([]byte, error) {
	s := Scanner{chosen: noPaths, topKeys: newKeySet(), meta: metaScan{keys: newKeySet()}}
	s.reset(src, nil)
	if len(src) > SourceBytesMax {
		s.fail(SourceBytesMax, ErrSyntax, "longer than 2 GiB")
		return nil, s.err
	}
	end := s.skip(s.blanks(0))
	if end < 0 {
		return nil, s.err
	}
	text := s.body(end)
	if rest := s.blanks(end); rest < len(src) {
		s.failByte(rest, "after the value")
		return nil, s.err
	}
	return text, nil
}

// AppendText appends the characters that a JSON string stands for. quoted is a
// string of a text that was checked, with its quotes.
func AppendText(dst, quoted []byte) []byte {
	return AppendUnescaped(dst, quoted[1:len(quoted)-1])
}

// StringEnd is the offset past the string at i. text is checked JSON.
func StringEnd(text []byte, i int) int {
	for i++; ; i++ {
		i = PlainEnd(text, i)
		switch text[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
}

// ValueEnd is the offset past the value at i. text is checked JSON without white
// space, as Minify gives it.
func ValueEnd(text []byte, i int) int {
	for depth := 0; ; {
		switch text[i] {
		case '"':
			i = StringEnd(text, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':':
			i++
			continue
		default:
			for i < len(text) && text[i] != ',' && text[i] != '}' && text[i] != ']' {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}

// Members calls fn for each member of the object at i, with the places of its key
// and its value, until fn returns false. text is as for ValueEnd.
func Members(text []byte, i int, fn func(key []byte, at, end int) bool) {
	var space []byte
	for i++; text[i] != '}'; {
		if text[i] == ',' {
			i++
		}
		keyEnd := StringEnd(text, i)
		key := text[i+1 : keyEnd-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			space = AppendUnescaped(space[:0], key)
			key = space
		}
		end := ValueEnd(text, keyEnd+1)
		if !fn(key, keyEnd+1, end) {
			return
		}
		i = end
	}
}

// MemberText is the text of a string member of the value at i; ok is false when that is
// no object, or has no such member that is a string. text is as for ValueEnd.
func MemberText(text []byte, i int, name string) (value []byte, ok bool) {
	if text[i] != '{' {
		return nil, false
	}
	Members(text, i, func(key []byte, at, end int) bool {
		if string(key) == name && text[at] == '"' {
			value, ok = AppendText(nil, text[at:end]), true
		}
		return !ok
	})
	return value, ok
}

// Elements calls fn for each element of the array at i until fn returns false.
// text is as for ValueEnd.
func Elements(text []byte, i int, fn func(at, end int) bool) {
	for i++; text[i] != ']'; {
		if text[i] == ',' {
			i++
		}
		end := ValueEnd(text, i)
		if !fn(i, end) {
			return
		}
		i = end
	}
}
