package patch

import (
	"errors"
	"fmt"
)

// Kinds of refusal; every error of this package is an *Error with one of them.
var (
	// ErrMalformed: the patch itself is not one.
	ErrMalformed = errors.New("malformed patch")
	// ErrNotApplicable: the patch does not fit the resource.
	ErrNotApplicable = errors.New("patch not applicable")
	// ErrTooLarge: a limit of limits.go.
	ErrTooLarge = errors.New("patch too large")
)

// Error is a refused patch.
type Error struct {
	Kind error
	Text string // for the client
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Kind }

func malformed(format string, args ...any) error {
	return &Error{ErrMalformed, fmt.Sprintf(format, args...)}
}

func notApplicable(format string, args ...any) error {
	return &Error{ErrNotApplicable, fmt.Sprintf(format, args...)}
}

func tooLarge(format string, args ...any) error {
	return &Error{ErrTooLarge, fmt.Sprintf(format, args...)}
}

// inOperation says where in a patch an error lies; n counts from 0.
func inOperation(n int, err error) error {
	var own *Error
	if errors.As(err, &own) {
		return &Error{own.Kind, fmt.Sprintf("Operation %d of the patch: %s", n+1, own.Text)}
	}
	return err
}
