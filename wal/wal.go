package wal

import (
	"context"
	"errors"

	"kiln/internal/vfs"
)

// LSN is a log sequence number: the one total order of all commits. The first is 1.
type LSN uint64

// RecordType says what a record's payload is. 0 is never written.
type RecordType uint8

const (
	TypeCommit     RecordType = 1 // one atomic set of versions
	TypeIngest     RecordType = 2 // runs that join the store
	TypeReplace    RecordType = 3 // a merge: runs in, runs out
	TypePurge      RecordType = 4 // hard delete, purge history
	TypeCheckpoint RecordType = 5 // the log below is no longer needed
)

// Position is where bytes lie in the log.
type Position struct {
	Segment uint64
	Offset  uint32
}

// Entry is a record to append.
type Entry struct {
	Type    RecordType
	Payload []byte
}

// Placed is where an appended record went. Position is the first byte of its payload.
type Placed struct {
	LSN      LSN
	Position Position
}

// Record is one record read back; Payload holds until the callback returns.
type Record struct {
	Type     RecordType
	LSN      LSN
	Position Position
	Payload  []byte
}

// Options are explicit; zero values of FS, Dir and NewID are refused.
type Options struct {
	FS           vfs.FS
	Dir          string
	SegmentBytes int64         // 0: SegmentBytesDefault
	NewID        func() uint32 // random segment ids; seeded in tests
	// PrepareInline makes the next segment in Append instead of in the
	// background, so that simulations are deterministic.
	PrepareInline bool
}

var (
	// ErrOutcomeUnknown: a write or fsync failed, the records may or may not
	// be durable, and the log takes no more until it is opened again.
	ErrOutcomeUnknown = errors.New("the outcome of the write is unknown")
	// ErrNoSpace: the disk is full; nothing was written and a later Append may succeed.
	ErrNoSpace = errors.New("no space left for the log")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("the log is closed")
	// ErrTooLarge: a payload is over PayloadBytesMax.
	ErrTooLarge = errors.New("the record is too large")
)

// Log is the write-ahead log of one data directory. Append has one caller at a
// time (the committer); every other method is safe for concurrent use.
type Log struct{}

// Open recovers the log in opts.Dir (making it when there is none, its first
// LSN then being from), and calls replay in order for every record with LSN >= from.
// A torn tail is cut; damage is refused with a *vfs.CorruptError. A log whose
// oldest record is newer than from, or that ends before from-1, is refused.
func Open(ctx context.Context, opts Options, from LSN, replay func(Record) error) (*Log, error) {
	panic("skeleton")
}

// Append frames the entries, writes them and syncs once. On nil all are durable.
func (l *Log) Append(entries []Entry) ([]Placed, error) { panic("skeleton") }

// LastLSN is the newest durable record's, or from-1 when there is none.
func (l *Log) LastLSN() LSN { panic("skeleton") }

// ReadAt fills dst from a position that Append or replay gave out (plus an
// offset inside that payload). The caller verifies the bytes.
func (l *Log) ReadAt(dst []byte, at Position) error { panic("skeleton") }

// Tail calls fn in order for every durable record with LSN >= from.
func (l *Log) Tail(ctx context.Context, from LSN, fn func(Record) error) error { panic("skeleton") }

// Trim removes the segments that hold only records below upto.
func (l *Log) Trim(upto LSN) error { panic("skeleton") }

// Bytes is the space the live segments hold on disk.
func (l *Log) Bytes() int64 { panic("skeleton") }

// Close syncs and closes. It returns the first error of the log's life, if any.
func (l *Log) Close() error { panic("skeleton") }
