package fhir

import (
	"errors"
	"fmt"
)

// Kinds of refusal; every error of Scan wraps one of them in a *ScanError.
var (
	ErrSyntax       = errors.New("not valid JSON")
	ErrNotResource  = errors.New("not a FHIR resource")
	ErrDuplicateKey = errors.New("repeated key")
	ErrTooDeep      = errors.New("nested too deep")
)

// ErrInstant is wrapped by what ParseInstant and ParseSince refuse.
var ErrInstant = errors.New("not a valid instant")

// ScanError says why and where a text was refused.
type ScanError struct {
	Offset int64  // of the byte at fault, from the start of the scanned text
	Err    error  // one of the kinds of refusal
	Detail string // what was found and what was expected
}

// Error reads like "not valid JSON at byte 17: unexpected end of input".
func (e *ScanError) Error() string {
	return fmt.Sprintf("%v at byte %d: %s", e.Err, e.Offset, e.Detail)
}

// Unwrap gives the kind of refusal.
func (e *ScanError) Unwrap() error { return e.Err }
