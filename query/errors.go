package query

import "fmt"

// Kind says why a search is refused.
type Kind uint8

// The kinds.
const (
	Invalid      Kind = iota // the search is not well-formed
	NotSupported             // it asks for what this server does not do
	TooCostly                // a bound was reached
)

// Error is a search that is refused. Its text is for the client.
type Error struct {
	Kind Kind
	Text string
}

func (e *Error) Error() string { return e.Text }

func invalid(format string, args ...any) error {
	return &Error{Invalid, fmt.Sprintf(format, args...)}
}

func notSupported(format string, args ...any) error {
	return &Error{NotSupported, fmt.Sprintf(format, args...)}
}

func tooCostly(format string, args ...any) error {
	return &Error{TooCostly, fmt.Sprintf(format, args...)}
}
