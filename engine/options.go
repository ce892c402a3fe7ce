package engine

import (
	"errors"
	"log/slog"
	"time"

	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
)

// Options are explicit. FS, Dir, Now and NewID are required.
type Options struct {
	FS  vfs.FS
	Dir string
	Now func() time.Time
	// After is the clock that background work waits by, as time.After; nil: that.
	After func(time.Duration) <-chan time.Time
	NewID func() uint64 // random numbers for ids; seeded in tests
	// Logger gets the background loops' failures; nil is slog.Default().
	Logger       *slog.Logger
	SegmentBytes int64 // that the log's segments grow to; 0: default 64 MiB
	// FirstSegmentBytes is the length of a new log's first segment; 0: default 4 MiB,
	// or SegmentBytes if that is less.
	FirstSegmentBytes int64
	HeadBytes         int64 // of log before the head is flushed; 0: default 64 MiB
	CacheBytes        int64 // decoded blocks; 0: default 128 MiB
	BlockBytes        int   // of bodies that a run compresses together; 0: default 120 KiB
	FreeBytesMin      int64 // writes are refused below; 0: default 256 MiB, negative: never
	// BallastBytes is the most that the file has that holds space for the day the disk is
	// full: an eighth of it at first, all of it once the head is nearly full, and at most a
	// 16th of what is free; 0: what is there stays, negative: none.
	BallastBytes int64
	// MergeFanIn is how many runs are merged at once; 0: default 16, negative:
	// runs are never merged.
	MergeFanIn    int
	MergeBytesMax int64 // of a merged run; 0: default 16 GiB
	// ScrubRate bounds how many bytes a second the check in the background reads;
	// 0: default 16 MiB. ScrubInterval is from the end of one pass to the next; 0:
	// default a week, negative: never.
	ScrubRate     int64
	ScrubInterval time.Duration
	// ReadOnly opens a directory that exists and changes nothing in it but the
	// LOCK file: no flush, merge, trim or repair of a torn tail, and every write is
	// refused with ErrOpenedReadOnly.
	ReadOnly bool
	// TempDir is where ReadOnly may put a copy of a job catalog that was not closed,
	// or that lies where nothing can be written; it is removed again. "": the jobs of
	// such a catalog are not known.
	TempDir       string
	PrepareInline bool // deterministic background work, for simulations
	CatalogInMem  bool // the job catalog is not kept, for simulations
	// newExtraction takes the place of index.NewExtraction, for simulations, which
	// open stores with the same fields by the thousand; nil: it does not.
	newExtraction func([]*search.Field) (*index.Extraction, error)
	// builders lends run builders their memory, of several stores in simulations;
	// nil: the store has its own.
	builders *index.BuilderPool
}

const (
	// headBytesDefault bounds what a restart replays and what the head keeps
	// in memory; 64 MiB replay in about a second.
	headBytesDefault = 64 << 20
	// cacheBytesDefault holds about 2,000 decoded body blocks.
	cacheBytesDefault = 128 << 20
	// scrubRateDefault is a tenth of what a slow disk gives: a terabyte takes 17 hours.
	scrubRateDefault = 16 << 20
	// scrubIntervalDefault: most of what a disk loses is found by a look every two weeks.
	scrubIntervalDefault = 7 * 24 * time.Hour
	// freeBytesMinDefault leaves room for one flush, a checkpoint and two log
	// segments, so that the store can get out of the state by itself.
	freeBytesMinDefault = 256 << 20
)

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil || o.Dir == "" || o.Now == nil || o.NewID == nil {
		return o, errors.New("cannot open the store: FS, Dir, Now and NewID are required")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.After == nil {
		o.After = time.After
	}
	if o.HeadBytes == 0 {
		o.HeadBytes = headBytesDefault
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = cacheBytesDefault
	}
	if o.MergeFanIn == 0 {
		o.MergeFanIn = mergeFanInDefault
	}
	if o.MergeBytesMax == 0 {
		o.MergeBytesMax = mergeBytesMaxDefault
	}
	if o.builders == nil {
		o.builders = new(index.BuilderPool)
	}
	if o.ScrubRate <= 0 {
		o.ScrubRate = scrubRateDefault
	}
	if o.ScrubInterval == 0 {
		o.ScrubInterval = scrubIntervalDefault
	}
	if o.FreeBytesMin == 0 {
		o.FreeBytesMin = freeBytesMinDefault
	}
	return o, nil
}
