package patch

import "strings"

// pointer is a JSON Pointer (RFC 6901), unescaped.
type pointer []string

func parsePointer(text string) (pointer, error) {
	if text == "" {
		return nil, nil
	}
	if text[0] != '/' {
		return nil, malformed("The path '%s' does not begin with '/'.", text)
	}
	tokens := strings.Split(text[1:], "/")
	for i, token := range tokens {
		for at := range len(token) {
			if token[at] == '~' && (at+1 == len(token) || token[at+1] != '0' && token[at+1] != '1') {
				return nil, malformed("The path '%s' has a '~' that is not followed by 0 or 1.", text)
			}
		}
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}

func (p pointer) String() string {
	var out strings.Builder
	for _, token := range p {
		out.WriteString("/" + strings.ReplaceAll(strings.ReplaceAll(token, "~", "~0"), "/", "~1"))
	}
	return out.String()
}

// within says whether p lies below other.
func (p pointer) within(other pointer) bool {
	if len(p) <= len(other) {
		return false
	}
	for i := range other {
		if p[i] != other[i] {
			return false
		}
	}
	return true
}

// elementIndex reads an index of an array with count elements; "-" is the place
// past the last. The result is at most count.
func elementIndex(token string, count int) (int, error) {
	if token == "-" {
		return count, nil
	}
	if token == "" || len(token) > 1 && token[0] == '0' || strings.Trim(token, "0123456789") != "" {
		return 0, notApplicable("'%s' is not an index of an array.", token)
	}
	n := 0
	for i := range len(token) {
		if n = n*10 + int(token[i]-'0'); n > count {
			return 0, notApplicable("The array has no place %s; it has %d elements.", token, count)
		}
	}
	return n, nil
}
