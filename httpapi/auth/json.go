package auth

import (
	"errors"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/json"
)

// readObject reads a JSON object that nobody vouches for into dst. Deep nesting,
// members that come twice and bytes that are not UTF-8 are errors: two readers
// could take them for different things.
func readObject(text []byte, dst any) error {
	switch {
	case !isShallow(text):
		return errors.New("it is nested too deeply")
	case !utf8.Valid(text):
		return errors.New("it is not UTF-8")
	case firstByte(text) != '{':
		return errors.New("it is no object")
	}
	return json.Unmarshal(text, dst)
}

// isShallow says whether brackets nest to jsonDepthMax at most. Text that is no
// JSON may be called either.
func isShallow(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > jsonDepthMax {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}

func firstByte(text []byte) byte {
	for _, c := range text {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}
