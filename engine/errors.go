package engine

import (
	"errors"
	"fmt"

	"kiln/index"
)

// Errors that callers tell apart with errors.Is / errors.As.
var (
	ErrNotFound       = errors.New("not found")
	ErrPrecondition   = errors.New("the precondition does not hold")
	ErrNoSpace        = errors.New("no space left on the data disk")
	ErrOutcomeUnknown = errors.New("the outcome of the write is unknown")
	ErrReadOnly       = errors.New("the store takes no writes")
	// ErrOpenedReadOnly is an ErrReadOnly that no restart mends by itself.
	ErrOpenedReadOnly = fmt.Errorf("%w: it was opened for reading", ErrReadOnly)
	ErrClosed         = errors.New("the store is closed")
	ErrTooLarge       = errors.New("the resource is too large")
	// ErrSameKey refuses a Commit with several changes of one resource.
	ErrSameKey = errors.New("several changes of one resource in one commit")
	// ErrVersionsExhausted refuses a version after the largest possible one.
	ErrVersionsExhausted = errors.New("the resource has no version numbers left")
	// ErrUnindexable refuses a resource with a value that cannot be a search term.
	ErrUnindexable = index.ErrTerms
	// Refusals of Open.
	ErrLocked      = errors.New("the data directory is in use by another process")
	ErrForeign     = errors.New("the directory is not a Kiln data directory")
	ErrNewerFormat = errors.New("the data directory was written by a newer Kiln")
)

// ConflictError says which change failed and what is current (0: nothing).
type ConflictError struct {
	Index          int
	CurrentVersion int64
	CurrentDeleted bool
}

func (e *ConflictError) Error() string { return ErrPrecondition.Error() }
func (e *ConflictError) Unwrap() error { return ErrPrecondition }
