package terminology

import "fmt"

// Kind says why there is no answer.
type Kind uint8

// The kinds.
const (
	Unknown      Kind = iota // what is named is not stored
	NotSupported             // what is stored does not answer for certain
	TooLarge                 // a bound was reached
)

// Error is a question without an answer. Its text is for the client, and says
// what to do.
type Error struct {
	Kind Kind
	Text string
}

func (e *Error) Error() string { return e.Text }

func unknown(format string, args ...any) error {
	return &Error{Unknown, fmt.Sprintf(format, args...)}
}

func notSupported(format string, args ...any) error {
	return &Error{NotSupported, fmt.Sprintf(format, args...)}
}

func tooLarge(format string, args ...any) error {
	return &Error{TooLarge, fmt.Sprintf(format, args...)}
}
