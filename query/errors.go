package query

import "fmt"

// Kind says why a search is refused.
type Kind uint8

// The kinds.
const (
	Invalid      Kind = iota // the search is not well-formed
	NotSupported             // it asks for what this server does not do
	TooCostly                // a bound was reached
	NotFound                 // it names a resource that is not there
)

// Error is a search that is refused. Its text is for the client.
type Error struct {
	Kind   Kind
	Text   string
	placed bool // Text says which part of a _filter it is about
}

func (e *Error) Error() string { return e.Text }

func invalid(format string, args ...any) error {
	return &Error{Kind: Invalid, Text: fmt.Sprintf(format, args...)}
}

func notSupported(format string, args ...any) error {
	return &Error{Kind: NotSupported, Text: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &Error{Kind: NotFound, Text: fmt.Sprintf(format, args...)}
}

func tooCostly(format string, args ...any) error {
	return &Error{Kind: TooCostly, Text: fmt.Sprintf(format, args...)}
}
