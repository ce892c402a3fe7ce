package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"kiln/index"
	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
	"kiln/wal"
)

// ingestsMax is the weight of SnapshotAt on the ingests semaphore; each ingest
// takes one, so it is also how many may be under way.
const ingestsMax = 1 << 20

// Store is one open data directory. Safe for concurrent use.
type Store struct {
	opts   Options
	lock   io.Closer
	format formatFile
	log    *wal.Log
	cache  *index.Cache
	// fields is what makes search terms. Stored under defineMu, in the slot.
	fields   atomic.Pointer[fieldState]
	defineMu sync.Mutex // held while fields are added; taken before the slot
	// readThrough makes searches read few rows through whatever it costs, for tests.
	readThrough bool
	// columns says when columns are made and used, for tests.
	columns columnRule
	lists   sync.Pool // of *[]uint32: room for the rows of a search
	catalog *catalog

	// ctx ends when Close begins; background work runs under it.
	ctx        context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup
	stopping   chan struct{} // closed when Close begins
	stopped    chan struct{} // closed when the committer has ended
	closeOnce  sync.Once
	closeErr   error

	// turn is the slot. Taken after flushMu and before mu.
	turn           sync.Mutex
	commits        chan *request
	slots          chan slotOp
	queued         *semaphore.Weighted // bytes of waiting Commits
	flushKick      chan struct{}
	trimKick       chan struct{}
	checkpointKick chan struct{}
	mergeKicks     [mergePools]chan struct{}
	mergePiece     sync.Mutex   // held by the merge that computes: see merge_pace.go
	asked          atomic.Int64 // when a client last asked for something, UTC nanoseconds
	reindexKick    chan struct{}
	flushDue       atomic.Bool
	mergesStuck    atomic.Bool // the last one failed, or found no room

	// ingests: each Ingest holds 1 from BeginIngest to its end, SnapshotAt
	// takes all. First come, first served.
	ingests *semaphore.Weighted
	// flushMu is held for a whole flush or checkpoint: one at a time. Taken
	// before the slot and before mu.
	flushMu sync.Mutex
	nextRun atomic.Uint64
	poison  atomic.Pointer[error] // why the store takes no more writes

	// mu guards the fields up to the blank line, and all refs counts. Held for
	// short, never over a file operation. The slot alone writes visible, view
	// and progress, so it may read them without mu.
	mu        sync.Mutex
	visible   uint64 // the newest LSN that readers may see
	view      *view  // nil after Close
	views     []*view
	snapshots map[uint64]int // live snapshots by LSN
	logHolds  map[uint64]int // LSNs from which backups need the log
	progress  map[uint64][]byte
	// reindexing has how the last attempts to index a run again failed.
	reindexing Reindexing
	// mergeEnded is closed, and another put in its place, when a merge ends.
	mergeEnded chan struct{}
	// checkpoints that exist, oldest first; only flushMu's holder writes.
	checkpoints []checkpointMark

	// The fields below belong to the slot: whoever holds turn.
	clock     clock
	batch     batch
	group     []*request
	viewLSN   uint64 // of the last record that changed the list of runs, or purged versions
	flushed   uint64 // head versions up to it are in runs
	sealedLSN uint64 // the waiting generation has the versions up to it
	flushErr  error  // of the last flush; nil after a success
	flushes   []flushedRange
	// moves say where merges moved the rows of runs that are gone.
	moves map[index.RunID]movedRun
	// checkpointRecord is the LSN of the last CHECKPOINT record.
	checkpointRecord       uint64
	ingestsSinceCheckpoint int

	// checkpointErr is why the last checkpoint was not written, or the log not trimmed;
	// nil after a success.
	checkpointErr atomic.Pointer[error]

	stats   storeStats
	health  health
	damages damages
	scrub   scrub
	space   space
}

// Open recovers the data directory, making it when it is missing or empty.
// When it refuses, it has changed nothing but perhaps the LOCK file.
func Open(ctx context.Context, opts Options) (*Store, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	_, fresh, err := inspectDir(opts.FS, opts.Dir)
	if err != nil {
		return nil, pointToRepair(err)
	}
	if fresh && opts.ReadOnly {
		return nil, fmt.Errorf("cannot open %q for reading: %w: nothing was ever written to it", opts.Dir, ErrForeign)
	}
	if err := makeDir(opts, fresh); err != nil {
		return nil, fmt.Errorf("cannot make the data directory %q: %w", opts.Dir, err)
	}
	lock, err := lockDir(opts.FS, opts.Dir)
	if err != nil {
		return nil, err
	}
	s := newStore(opts, lock)
	if err := s.recover(ctx); err != nil {
		return nil, errors.Join(pointToRepair(err), s.release())
	}
	s.start()
	return s, nil
}

// pointToRepair makes a refusal for damage say what to do.
func pointToRepair(err error) error {
	var corrupt *vfs.CorruptError
	if errors.As(err, &corrupt) && !strings.Contains(err.Error(), "kiln repair") {
		return fmt.Errorf("%w; run kiln repair", err)
	}
	return err
}

// makeDir makes the data directory. A fresh one may exist already, made a moment
// ago by somebody who did not sync it: a power cut would take it with all that
// was acknowledged in it, so its parent is synced in any case.
func makeDir(opts Options, fresh bool) error {
	if opts.ReadOnly {
		return nil // it is there
	}
	if err := opts.FS.MkdirAll(opts.Dir); err != nil || !fresh {
		return err
	}
	parent := path.Dir(path.Clean(opts.Dir))
	err := opts.FS.SyncDir(parent)
	if errors.Is(err, fs.ErrPermission) {
		// Who may not open the parent did not make the directory in it.
		opts.Logger.Warn("cannot sync the parent of a new data directory", "dir", parent, "error", err)
		return nil
	}
	return err
}

func lockDir(fsys vfs.FS, dir string) (io.Closer, error) {
	lock, err := fsys.Lock(path.Join(dir, lockName))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, fmt.Errorf("cannot open %q: %w", dir, ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot lock %q: %w", dir, err)
	}
	return lock, nil
}

func newStore(opts Options, lock io.Closer) *Store {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Store{
		opts: opts, lock: lock, ctx: ctx, cancel: cancel,
		cache:    index.NewCache(opts.CacheBytes),
		stopping: make(chan struct{}), stopped: make(chan struct{}),
		commits: make(chan *request, commitQueueRequests), slots: make(chan slotOp),
		queued:    semaphore.NewWeighted(queuedBytesMax),
		flushKick: make(chan struct{}, 1), trimKick: make(chan struct{}, 1), checkpointKick: make(chan struct{}, 1),
		reindexKick: make(chan struct{}, 1),
		ingests:     semaphore.NewWeighted(ingestsMax),
		snapshots:   map[uint64]int{}, mergeEnded: make(chan struct{}), logHolds: map[uint64]int{}, moves: map[index.RunID]movedRun{},
	}
	for pool := range s.mergeKicks {
		s.mergeKicks[pool] = make(chan struct{}, 1)
	}
	return s
}

// recover makes or reads everything, and deletes only when all of it succeeded.
func (s *Store) recover(ctx context.Context) error {
	// Once more, now that nobody else can change it.
	format, fresh, err := inspectDir(s.opts.FS, s.opts.Dir)
	if err != nil {
		return err
	}
	if fresh {
		if format, err = s.initFormat(); err != nil {
			return err
		}
	}
	s.format, s.opts.FS = format, format.strictly(s.opts.FS)
	r := &recovery{fs: s.opts.FS, dir: s.opts.Dir, cache: s.cache}
	if err := s.recoverFrom(ctx, r); err != nil {
		r.close()
		return err
	}
	return nil
}

func (s *Store) recoverFrom(ctx context.Context, r *recovery) error {
	found, err := r.loadCheckpoint(s.format.storeID)
	if err != nil {
		return err
	}
	if !found && s.opts.ReadOnly {
		return fmt.Errorf("cannot open %q for reading: %w: its making was interrupted; open it for writing once", s.opts.Dir, ErrOpenedReadOnly)
	}
	if !found {
		if err := s.noteKeys(); err != nil {
			return err
		}
		if err := s.finishInit(ctx, r); err != nil {
			return err
		}
	}
	if err := r.begin(); err != nil {
		return err
	}
	if err := s.openLog(ctx, r); err != nil {
		return err
	}
	st, err := s.opts.newFieldState(r.fields)
	if err != nil {
		return fmt.Errorf("cannot use the fields of added search parameters: %w", err)
	}
	s.fields.Store(st)
	s.adopt(r, r.view())
	r.runs = nil // they are the store's now, which closes them
	if err := s.findBallast(); err != nil {
		return err
	}
	if err := s.noteKeys(); err != nil {
		return err
	}
	err = s.withRelief(func() (err error) {
		s.catalog, err = openCatalog(s.opts, s.format.plain || len(s.format.keys) > 1)
		return err
	})
	if err != nil {
		return err
	}
	s.catalog.keys, s.catalog.strict = sealed.KeysOf(s.opts.FS), len(s.format.keys) > 0 && !s.format.plain
	if err := s.resealCatalog(); err != nil || s.opts.ReadOnly {
		return err
	}
	return s.removeOrphans()
}

// initFormat writes the FORMAT file of a new data directory.
func (s *Store) initFormat() (formatFile, error) {
	format := newFormat(s.opts.NewID(), s.opts.FS)
	err := vfs.WriteFileAtomic(s.opts.FS, s.path(formatName), format.marshal())
	if err != nil {
		return format, fmt.Errorf("cannot make the data directory %q: %w", s.opts.Dir, noSpace(err))
	}
	return format, nil
}

// finishInit makes the directories and the checkpoint of an empty store, whose
// presence says that the log exists. Nothing is acknowledged before it is
// durable, so runs or log records without any checkpoint are damage.
func (s *Store) finishInit(ctx context.Context, r *recovery) error {
	for _, dir := range []string{logDir, runsDir, checkpointsDir} {
		if err := s.opts.FS.MkdirAll(s.path(dir)); err != nil {
			return fmt.Errorf("cannot make the data directory %q: %w", s.opts.Dir, noSpace(err))
		}
	}
	if err := s.refuseRemains(); err != nil {
		return err
	}
	log, err := wal.Open(ctx, s.logOptions(), 1, func(rec wal.Record) error {
		return &vfs.CorruptError{File: s.path(checkpointsDir), What: "the log has records but no checkpoint exists"}
	})
	if err != nil {
		return err
	}
	if err := log.Close(); err != nil {
		return err
	}
	c := checkpointFile{storeID: s.format.storeID, nextRun: 1}
	data, err := c.marshal()
	if err != nil {
		return err
	}
	name := path.Join(s.path(checkpointsDir), checkpointFileName(0))
	if err := vfs.WriteFileAtomic(s.opts.FS, name, data); err != nil {
		return fmt.Errorf("cannot write the first checkpoint: %w", noSpace(err))
	}
	r.checkpoint, r.checkpoints = c, []checkpointMark{{}}
	return nil
}

func (s *Store) refuseRemains() error {
	names, err := s.opts.FS.List(s.path(runsDir))
	if err != nil {
		return fmt.Errorf("cannot list %q: %w", s.path(runsDir), err)
	}
	if len(names) > 0 {
		return &vfs.CorruptError{File: s.path(checkpointsDir), What: "there are runs but no checkpoint exists"}
	}
	return nil
}

func (s *Store) logOptions() wal.Options {
	return wal.Options{
		FS: s.opts.FS, Dir: s.path(logDir), SegmentBytes: s.opts.SegmentBytes, FirstSegmentBytes: s.opts.FirstSegmentBytes,
		NewID:         func() uint32 { return uint32(s.opts.NewID()) },
		PrepareInline: s.opts.PrepareInline,
		Now:           s.opts.Now,
		ReadOnly:      s.opts.ReadOnly,
	}
}

func (s *Store) openLog(ctx context.Context, r *recovery) error {
	from := wal.LSN(r.checkpoint.flushed + 1)
	opts := s.logOptions()
	opts.MustExist = true // the checkpoint shows that there was one
	var openErr error
	opts.Replayed = func() error {
		openErr = r.openRuns()
		return openErr
	}
	log, err := wal.Open(ctx, opts, from, func(rec wal.Record) error { return r.replay(ctx, rec) })
	switch {
	case openErr != nil:
		return openErr
	case errors.Is(err, wal.ErrNewerFormat):
		return fmt.Errorf("%w: %w", ErrNewerFormat, err)
	case errors.Is(err, wal.ErrNoLog):
		return &vfs.CorruptError{File: s.path(logDir), What: "the log is missing; run kiln repair"}
	}
	if err != nil {
		return fmt.Errorf("cannot recover the log: %w", noSpace(err))
	}
	s.log = log
	if last := uint64(log.LastLSN()); last < r.checkpoint.lsn {
		return &vfs.CorruptError{
			File: s.path(logDir),
			What: fmt.Sprintf("the log ends at LSN %d, before the checkpoint of LSN %d", last, r.checkpoint.lsn),
		}
	}
	return nil
}

// adopt makes the recovered state the store's.
func (s *Store) adopt(r *recovery, v *view) {
	s.clock.restore(r.clock)
	s.nextRun.Store(r.nextRun)
	s.progress = r.progress
	s.flushed, s.viewLSN = r.flushed, r.viewLSN
	s.checkpoints = r.checkpoints
	s.install(v, r.lastLSN)
}

func (s *Store) start() {
	s.turnOverIfFull()
	go s.commitLoop()
	if !s.opts.PrepareInline {
		s.background.Go(s.watchLoop)
		s.background.Go(s.scrubLoop)
	}
	if !s.opts.PrepareInline && !s.opts.ReadOnly && s.spaceChecked() {
		s.background.Go(s.spaceLoop)
	}
	if !s.opts.PrepareInline && !s.opts.ReadOnly {
		s.background.Go(s.backgroundLoop)
		for pool := range mergePools {
			s.background.Go(func() { s.mergeLoop(pool) })
		}
		s.background.Go(s.reindexLoop)
		s.kickMerges()
	}
}

// Close stops background work, and releases the lock. Snapshots must be released before.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.cancel()
		close(s.stopping)
		<-s.stopped
		// A flush under way ends soon, the slot being gone; only then nobody
		// adds to background any more. The loop there may want flushMu too.
		s.awaitFlush()
		s.background.Wait()
		s.flushMu.Lock()
		defer s.flushMu.Unlock()
		s.closeErr = s.release()
	})
	return s.closeErr
}

func (s *Store) awaitFlush() {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
}

// release closes whatever is open.
func (s *Store) release() error {
	s.cancel()
	err := s.closeViews()
	if s.catalog != nil {
		err = errors.Join(err, s.closeCatalog())
	}
	if s.log != nil {
		err = errors.Join(err, s.log.Close())
	}
	return errors.Join(err, s.lock.Close())
}

// Dir is the data directory.
func (s *Store) Dir() string { return s.opts.Dir }

// FS is what the data directory lies on.
func (s *Store) FS() vfs.FS { return s.opts.FS }
