package wal

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
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
	TypeFields     RecordType = 6 // fields of search parameters that were added
)

// Position is where bytes lie in the log: the payload of a record, and so many bytes
// further inside it, counted as they were appended.
type Position struct {
	Segment uint64
	Offset  uint32
	Inner   uint32
}

// Entry is a record to append. Type is not 0.
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
	// Key is what the payload is sealed under in the log; zeros: it is plain.
	Key sealed.KeyID
}

const (
	// SegmentBytesDefault is small enough that a trimmed log gives its space
	// back soon, and large enough that making a segment (three syncs) is noise.
	SegmentBytesDefault = 64 << 20
	// FirstSegmentBytesDefault is what a log begins with; each segment then is
	// twice as long as the one before, up to SegmentBytes. Imports leave some
	// hundred bytes of log for each round: a store that is filled by them has
	// reserved no more than this, and one with many writes is at the full length
	// after four more segments.
	FirstSegmentBytesDefault = 4 << 20
	// zeroStepsPerSegment makes steps of 64 KiB by default: some 40 lone writes
	// share one. From 32 KiB to 1 MiB the mean was the same; a shorter step holds
	// up the one write less.
	zeroStepsPerSegment = 1024
	// zeroStepBytesMin is the block of most file systems: less saves nothing.
	zeroStepBytesMin = 4 << 10
	// segmentBytesMin is room for a header and one small record.
	segmentBytesMin = 1 << 10
	// segmentBytesMax keeps offsets in the 32 bits of a Position.
	segmentBytesMax = 1 << 31
)

// Options are explicit; zero values of FS, Dir and NewID are refused.
type Options struct {
	FS vfs.FS
	// Dir is the log's own directory: a file in it that is not the log's is refused.
	// FS leaves its files as they are, also one that seals others; see seal.go.
	Dir string
	// SegmentBytes is the length that segments grow to, a multiple of 8; 0 means
	// SegmentBytesDefault. A record must fit a segment of it: with small
	// segments Append refuses payloads below PayloadBytesMax as well.
	SegmentBytes int64
	// FirstSegmentBytes is the length of a new log's first segment, a multiple of 8; 0 means
	// FirstSegmentBytesDefault, or SegmentBytes where that is less.
	FirstSegmentBytes int64
	// NewID gives random segment ids; seeded in tests.
	NewID func() uint32
	// PrepareInline makes the next segment in Append instead of in the
	// background, so that simulations are deterministic.
	PrepareInline bool
	// MustExist refuses to make a new log: set it when something else, such as
	// a checkpoint, shows that there was one.
	MustExist bool
	// Replayed is called when every record was given to replay, before Open
	// changes anything; its error refuses the log. nil: not called.
	Replayed func() error
	// Now times the syncs for Stats; nil leaves them untimed.
	Now func() time.Time
	// ReadOnly opens a log that exists and changes nothing: a torn tail is passed
	// over and not cut. Append fails with ErrReadOnly.
	ReadOnly bool
}

var (
	// ErrOutcomeUnknown: a write or fsync failed, the records may or may not
	// be durable, and the log takes no more until it is opened again.
	ErrOutcomeUnknown = errors.New("the outcome of the write is unknown")
	// ErrPoisoned: an earlier write failed with ErrOutcomeUnknown; this one was
	// not tried, nothing of it is in the log.
	ErrPoisoned = errors.New("the log takes no more writes until it is opened again")
	// ErrNoSpace: the disk is full; nothing was written and a later Append may succeed.
	ErrNoSpace = errors.New("no space left for the log")
	// ErrReadOnly: the log was opened with Options.ReadOnly.
	ErrReadOnly = errors.New("the log was opened for reading")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("the log is closed")
	// ErrTooLarge: a payload is over PayloadBytesMax.
	ErrTooLarge = errors.New("the record is too large")
	// ErrTrimmed: what is asked for is no longer in the log.
	ErrTrimmed = errors.New("no longer in the log")
	// ErrNewerFormat: the log was written by a newer program.
	ErrNewerFormat = errors.New("the format is newer than this program")
	// ErrForeign: the log's directory holds a file that is not the log's.
	ErrForeign = errors.New("not a file of the log")
	// ErrNoLog: there is no log and Options.MustExist asked for one.
	ErrNoLog = errors.New("there is no log")
)

// Log is the write-ahead log of one data directory. Append has one caller at a
// time (the committer); every other method is safe for concurrent use.
type Log struct {
	opts     Options
	prepared *preparer
	seal     *sealer // nil: payloads are written as they are
	opener   *opener

	// The next fields belong to the caller of Append.
	active *segment // the newest, which takes the records
	end    place    // where the next record goes in it
	buf    []byte
	sealed []byte // a payload, before it goes into buf
	placed []Placed
	// zeroed is the offset in active up to which the log has written something,
	// zeros at least, as far as this process knows.
	zeroed int64
	zeros  []byte // of a step, made when they are first needed
	// closing is set by Close, which must not run during an Append.
	closing bool

	// trimMu is held by the one Trim at work; it is taken before mu.
	trimMu sync.Mutex
	// mu guards the segments and their files. Appending a record does not take
	// it; making a segment live, trimming, reading and closing do.
	mu       sync.RWMutex
	segments []*segment // oldest first, at least one
	closed   bool

	last     atomic.Uint64 // LSN of the newest durable record
	failure  atomic.Pointer[error]
	counters counters
	// waiting is since when the Append at work has been at it, in Unix
	// nanoseconds; 0: none is.
	waiting atomic.Int64
}

type counters struct {
	appends, records, bytes, syncs, syncNanos, rolls, noSpace atomic.Int64
}

// Stats are the log's counters since it was opened.
type Stats struct {
	Appends   int64 // calls of Append that succeeded
	Records   int64
	Bytes     int64 // of records, with headers and padding
	Syncs     int64 // of records; one for each Append and segment
	SyncNanos int64 // spent in them, 0 without Options.Now
	Rolls     int64 // segments made live
	NoSpace   int64 // calls of Append refused with ErrNoSpace
	Segments  int64 // live now
}

// Open recovers the log in opts.Dir (making it when there is none, its first
// LSN then being from), and calls replay in order for every record with LSN >= from.
// A torn tail is cut; damage is refused with a *vfs.CorruptError. A log whose
// oldest record is newer than from, or that ends before from-1, is refused.
// When Open fails no segment was changed. Segments wholly below from are not read.
func Open(ctx context.Context, opts Options, from LSN, replay func(Record) error) (*Log, error) {
	if opts.SegmentBytes == 0 {
		opts.SegmentBytes = SegmentBytesDefault
	}
	if opts.FirstSegmentBytes == 0 {
		opts.FirstSegmentBytes = min(FirstSegmentBytesDefault, opts.SegmentBytes)
	}
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if from == 0 {
		return nil, errors.New("cannot open the log: the first LSN is 1")
	}
	keys := sealed.KeysOf(opts.FS)
	l := &Log{opts: opts, prepared: newPreparer(opts), opener: newOpener(keys)}
	var err error
	if l.seal, err = newSealer(keys); err != nil {
		return nil, fmt.Errorf("cannot open the log in %q: %w", opts.Dir, err)
	}
	if err := l.open(ctx, from, replay); err != nil {
		l.closeFiles()
		return nil, fmt.Errorf("cannot open the log in %q: %w", opts.Dir, err)
	}
	if !opts.ReadOnly {
		l.prepareWhenDue()
	}
	return l, nil
}

func (o *Options) validate() error {
	if o.FS == nil || o.Dir == "" || o.NewID == nil {
		return errors.New("cannot open the log: FS, Dir and NewID must be set")
	}
	for _, bytes := range []int64{o.SegmentBytes, o.FirstSegmentBytes} {
		if bytes < segmentBytesMin || bytes > segmentBytesMax || bytes%recordAlign != 0 {
			return fmt.Errorf("cannot open the log: a segment of %d bytes is not a multiple of %d from %d to %d",
				bytes, recordAlign, segmentBytesMin, int64(segmentBytesMax))
		}
	}
	return nil
}

func (o *Options) replayed() error {
	if o.Replayed == nil {
		return nil
	}
	return o.Replayed()
}

// nextBytes is the length of the segment behind one of so many bytes (0: there is none),
// which begins with a record of a payload that is stored in so many.
func (o *Options) nextBytes(before int64, stored int) int64 {
	bytes := max(2*before, o.FirstSegmentBytes)
	for bytes < segmentHeaderBytes+recordBytes(stored) {
		bytes *= 2
	}
	return min(bytes, o.SegmentBytes)
}

// storedBytesMax is the largest payload that fits a segment, as it is stored.
func (o *Options) storedBytesMax() int64 {
	return o.SegmentBytes - segmentHeaderBytes - recordHeaderBytes
}

// zeroStepBytes is what zeros are written up to a multiple of.
func (o *Options) zeroStepBytes() int64 {
	return max(zeroStepBytesMin, o.SegmentBytes/zeroStepsPerSegment)
}

func (l *Log) open(ctx context.Context, from LSN, replay func(Record) error) error {
	dir, err := listDir(l.opts.FS, l.opts.Dir)
	if err != nil {
		return err
	}
	if len(dir.segments) == 0 {
		return l.create(from, dir)
	}
	if err := l.recover(ctx, dir, from, replay); err != nil {
		return err
	}
	if l.opts.ReadOnly {
		return nil
	}
	return l.removeStale(dir)
}

// create makes the first segment.
func (l *Log) create(from LSN, dir dirList) error {
	if l.opts.MustExist || l.opts.ReadOnly {
		return ErrNoLog
	}
	if err := l.opts.replayed(); err != nil {
		return err
	}
	if err := l.opts.FS.MkdirAll(l.opts.Dir); err != nil {
		return err
	}
	if err := l.removeStale(dir); err != nil {
		return err
	}
	if err := l.prepared.ensure([]int64{l.opts.nextBytes(0, 0)}); err != nil {
		return err
	}
	l.end = place{lsn: from}
	l.last.Store(uint64(from) - 1)
	return l.roll()
}

// removeStale removes segments that were made ahead and never used, and makes
// what was done to the directory by the last process durable.
func (l *Log) removeStale(dir dirList) error {
	for _, name := range dir.prepared {
		if err := l.opts.FS.Remove(path.Join(l.opts.Dir, name)); err != nil {
			return err
		}
	}
	return errors.Join(l.opts.FS.SyncDir(l.opts.Dir), l.opts.FS.SyncDir(path.Dir(path.Clean(l.opts.Dir))))
}

// LastLSN is the newest durable record's, or from-1 when there is none.
func (l *Log) LastLSN() LSN { return LSN(l.last.Load()) }

// Bytes is the space the live segments hold on disk.
func (l *Log) Bytes() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var total int64
	for _, s := range l.segments {
		total += s.bytes
	}
	return total
}

// FirstLSN is the oldest record's that is still in the log; when there is none
// it is the next one's.
func (l *Log) FirstLSN() LSN {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.segments[0].header.firstLSN
}

// Stats reads the counters.
func (l *Log) Stats() Stats {
	l.mu.RLock()
	defer l.mu.RUnlock()
	c := &l.counters
	return Stats{
		Appends: c.appends.Load(), Records: c.records.Load(), Bytes: c.bytes.Load(), Syncs: c.syncs.Load(),
		SyncNanos: c.syncNanos.Load(), Rolls: c.rolls.Load(), NoSpace: c.noSpace.Load(), Segments: int64(len(l.segments)),
	}
}

// Waiting is how long the Append at work has been at it: writing, syncing, making
// a segment. 0 when none is, and without Options.Now. It waits for nothing.
func (l *Log) Waiting() time.Duration {
	since := l.waiting.Load()
	if since == 0 || l.opts.Now == nil {
		return 0
	}
	return max(0, time.Duration(l.opts.Now().UnixNano()-since))
}

// Err is the failure that poisoned the log, or nil.
func (l *Log) Err() error {
	if p := l.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// Close closes the log; all that Append returned is durable already. It returns
// the error that poisoned the log, if any. It must not run during an Append.
func (l *Log) Close() error {
	if l.closing {
		return ErrClosed
	}
	l.closing = true
	return errors.Join(l.Err(), l.closeFiles())
}

func (l *Log) closeFiles() error {
	errs := []error{l.prepared.close()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, s := range l.segments {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}
