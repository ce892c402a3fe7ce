package index

import (
	"errors"

	"kiln/fhir"
)

// Ordinal is the position of a version inside its run, from 0, in arrival order.
type Ordinal uint32

// RunID names a run for ever; file "%016x.run". Ids rise in publishing order.
type RunID uint64

// Flags of a row.
type Flags uint8

const (
	FlagDeleted Flags = 1 << iota // a delete left the version
	FlagCreated                   // there was no live version before; runs of older builds and of imports never say so
	FlagPosted                    // a POST to the type made it, with an id of the server's choice; likewise
	// FlagLost stands with FlagDeleted, so that nothing takes the row for content:
	// the version was lost with what damaged the store, and is a gap in the history.
	FlagLost
)

// Row is what the columns hold of one version.
type Row struct {
	Type        fhir.TypeCode
	VersionID   int64
	LastUpdated fhir.Instant
	// LSN is when the version was committed; 0 in a Builder's row stands for
	// the LSN of the record that publishes the run.
	LSN   uint64
	Flags Flags
}

// Stored is one version's body in a run. The slices alias a decoded block and
// hold until the callback returns, or for ever when returned by Body.
type Stored struct {
	ID     []byte
	Body   []byte
	Splice fhir.Splice
}

// Found is one version of a looked-up key.
type Found struct {
	VersionID int64
	Ordinal   Ordinal
}

// RunMeta describes a sealed run; it is what the log and the checkpoint keep.
type RunMeta struct {
	ID           RunID
	Bytes        int64
	Hash         uint64 // xxh64 of the whole file, as the footer has it
	Rows         uint32 // ordinals, dropped ones included
	Live         uint32 // ordinals that were not dropped
	MilliMin     int64  // lastUpdated range of live rows; 0 when there are none
	MilliMax     int64
	BodyBytesRaw int64 // of all rows, dropped ones included
}

var (
	// ErrNewerFormat refuses a run of a later format version.
	ErrNewerFormat = errors.New("the run was written by a newer Kiln")
	// ErrFull says that a Builder takes no more; seal it and begin another.
	ErrFull = errors.New("the run is full")
	// ErrBodyTooLarge refuses a body above BodyBytesMax.
	ErrBodyTooLarge = errors.New("the body is too large")
	// ErrNoRow is the answer for an ordinal that is out of range or dropped.
	ErrNoRow = errors.New("the run has no such row")
)
