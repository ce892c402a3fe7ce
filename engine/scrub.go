package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"time"

	"kiln/index"
	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// The scrub reads everything that is on disk, slowly, and checks it: FORMAT, the
// checkpoints, the log, then the runs by their ids, each block with its checksum and
// each file with its hash, then the files of jobs (ScrubAlso). Damage that nobody has asked for yet is found while what it
// takes to mend it, a backup say, is still around. Decoded blocks are not looked at and
// none are cached; pages that the system has in memory are read from there.
//
// A pass that was stopped goes on with the run it was at: the catalog has its place.
// What a merge puts in place meanwhile has been read by that merge, and comes in the
// next pass. A run that a merge takes away while it is read is no damage.

// Scrub is how far the check in the background is, since the store was opened.
type Scrub struct {
	Running bool
	Bytes   uint64 // read
	Passes  uint64
	LastEnd time.Time // of the last whole pass, former processes' too; zero: none yet
}

// scrub is the state of the scrub.
type scrub struct {
	mu sync.Mutex // guards all
	Scrub
	// next is the run that the pass under way is at; 0: none is.
	next index.RunID
	// also are asked at the end of a pass.
	also []ScrubFunc
}

// ScrubFunc reads files that the engine knows nothing of, through fsys, which keeps the
// scrub's pace, and reports damage. An error is one that kept it from reading on.
type ScrubFunc func(ctx context.Context, fsys vfs.FS, report func(error)) error

// ScrubAlso adds files to what the scrub reads.
func (s *Store) ScrubAlso(fn ScrubFunc) {
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	s.scrub.also = append(s.scrub.also, fn)
}

func (s *scrub) status() Scrub {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Scrub
}

const (
	// scrubStartDelay keeps a pass that is due from the first minute, in which a
	// server has enough to do.
	scrubStartDelay = time.Minute
	// scrubRestFactor: of the disk's time at most a fifth is the scrub's. Where others
	// use the disk its reads take longer, and so do its rests.
	scrubRestFactor = 4
	// scrubRestMax bounds one rest, so that a read that hung does not end a pass.
	scrubRestMax = 10 * time.Second
	// scrubKey is where the catalog has the place.
	scrubKey = "scrub"
)

// scrubLoop does pass after pass.
func (s *Store) scrubLoop() {
	if s.opts.ScrubInterval < 0 {
		return
	}
	s.loadScrub()
	for wait := max(scrubStartDelay, s.scrubDue()); s.pause(s.ctx, wait) == nil; wait = max(scrubStartDelay, s.scrubDue()) {
		if err := s.scrubPass(s.ctx); err != nil {
			return // the store is closing
		}
	}
}

// scrubDue is how long it is until the next pass.
func (s *Store) scrubDue() time.Duration {
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	if s.scrub.next != 0 || s.scrub.LastEnd.IsZero() {
		return 0
	}
	return s.scrub.LastEnd.Add(s.opts.ScrubInterval).Sub(s.opts.Now())
}

// pause waits, or returns the error of a ctx that ended before.
func (s *Store) pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// scrubPass does a pass, or what is left of one; its error is ctx's.
func (s *Store) scrubPass(ctx context.Context) error {
	end := s.beginPass()
	report := func(err error) { s.noteDamage(err, "the scrub") }
	s.scrubFiles(ctx, report)
	if err := s.log.Scrub(ctx, s.scrubFS(ctx), report); err != nil {
		return err
	}
	for {
		run := s.scrubNext(end)
		if run == nil {
			break
		}
		if err := s.scrubRun(ctx, run, report); err != nil {
			return err
		}
	}
	s.damages.forget(func(file string) bool {
		_, err := s.opts.FS.Stat(file)
		return errors.Is(err, fs.ErrNotExist)
	})
	s.scrub.mu.Lock()
	also := s.scrub.also
	s.scrub.mu.Unlock()
	for _, fn := range also {
		err := fn(ctx, s.scrubFS(ctx), report)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !s.noteDamage(err, "the scrub") {
			s.opts.Logger.Warn("the scrub cannot read some files", "error", err)
		}
	}
	s.endPass()
	return nil
}

// beginPass gives the id that the pass ends before.
func (s *Store) beginPass() index.RunID {
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	s.scrub.Running = true
	s.scrub.next = max(s.scrub.next, 1)
	return index.RunID(s.nextRun.Load())
}

func (s *Store) endPass() {
	s.scrub.mu.Lock()
	s.scrub.Running, s.scrub.next, s.scrub.LastEnd = false, 0, s.opts.Now()
	s.scrub.Passes++
	s.scrub.mu.Unlock()
	s.keepScrub()
}

// scrubFiles reads FORMAT and the checkpoints.
func (s *Store) scrubFiles(ctx context.Context, report func(error)) {
	fsys := s.scrubFS(ctx)
	note := func(file string, err error) {
		if errors.Is(err, ErrNewerFormat) { // it was not when the store was opened
			err = &vfs.CorruptError{File: file, What: err.Error()}
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) { // an old checkpoint may go meanwhile
			report(err)
		}
	}
	data, err := vfs.ReadFile(fsys, s.path(formatName), formatBytesMax)
	if err == nil {
		_, err = parseFormatFile(s.path(formatName), data)
	}
	note(s.path(formatName), err)
	s.mu.Lock()
	marks := append([]checkpointMark(nil), s.checkpoints...)
	s.mu.Unlock()
	r := &recovery{fs: fsys, dir: s.opts.Dir}
	for _, mark := range marks {
		name := path.Join(s.path(checkpointsDir), checkpointFileName(mark.lsn))
		_, err := r.readCheckpoint(name, s.format.storeID)
		note(name, err)
	}
}

// scrubNext is the run that comes next; nil: there is none below end.
func (s *Store) scrubNext(end index.RunID) *runState {
	s.scrub.mu.Lock()
	from := s.scrub.next
	s.scrub.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return nil
	}
	for _, r := range s.view.runs { // by id
		if id := r.run.Meta().ID; id >= from && id < end {
			return r
		}
	}
	return nil
}

// errRunGone ends the reading of a run that is no longer part of the store.
var errRunGone = errors.New("the run was replaced")

// scrubRun reads a run and moves the pass behind it.
func (s *Store) scrubRun(ctx context.Context, r *runState, report func(error)) error {
	id, left := r.run.Meta().ID, int(r.run.Meta().Bytes)
	began := s.opts.Now()
	pace := func(ctx context.Context, bytes int) error {
		left -= bytes
		took := s.opts.Now().Sub(began)
		err := s.scrubRest(ctx, bytes, took)
		if !s.hasRun(id) {
			err = errors.Join(err, errRunGone)
		}
		began = s.opts.Now()
		return err
	}
	err := r.run.Check(ctx, pace, func(damage *vfs.CorruptError) { report(damage) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// No snapshot is held, which would hold the log too: a merge may have closed the file.
	if err != nil && s.hasRun(id) {
		report(err)
	}
	s.scrub.mu.Lock()
	if err == nil {
		s.scrub.Bytes += uint64(left) // of which no pace was asked for
	}
	s.scrub.next = id + 1
	s.scrub.mu.Unlock()
	s.keepScrub()
	return nil
}

func (s *Store) hasRun(id index.RunID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view != nil && s.view.run(id) != nil
}

// scrubRest counts bytes that took so long to read, and rests.
func (s *Store) scrubRest(ctx context.Context, bytes int, took time.Duration) error {
	s.scrub.mu.Lock()
	s.scrub.Bytes += uint64(bytes)
	s.scrub.mu.Unlock()
	if s.opts.PrepareInline {
		return ctx.Err()
	}
	return s.pause(ctx, scrubRest(bytes, took, s.opts.ScrubRate))
}

// scrubRest is how long to rest after a read.
func scrubRest(bytes int, took time.Duration, rate int64) time.Duration {
	due := time.Duration(float64(bytes) / float64(rate) * float64(time.Second))
	return min(max(due-took, scrubRestFactor*took), scrubRestMax)
}

// scrubFS reads files for the scrub, at its pace.
func (s *Store) scrubFS(ctx context.Context) vfs.FS { return &scrubFS{s.opts.FS, s, ctx} }

type scrubFS struct {
	vfs.FS
	store *Store
	ctx   context.Context
}

// Keys are those of the store: the log asks.
func (f *scrubFS) Keys() *sealed.Keys { return sealed.KeysOf(f.FS) }

func (f *scrubFS) Open(name string) (vfs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return &scrubFile{file, f}, nil
}

type scrubFile struct {
	vfs.File
	fs *scrubFS
}

func (f *scrubFile) ReadAt(dst []byte, offset int64) (int, error) {
	now := f.fs.store.opts.Now
	began := now()
	n, err := f.File.ReadAt(dst, offset)
	if rest := f.fs.store.scrubRest(f.fs.ctx, n, now().Sub(began)); rest != nil {
		return n, rest
	}
	return n, err
}

// loadScrub reads where a former process was. What cannot be read counts as nothing.
func (s *Store) loadScrub() {
	text, err := s.CatalogGet(scrubKey)
	var end, next int64
	if err == nil {
		_, err = fmt.Sscanf(string(text), "%d %d", &end, &next)
	}
	if err != nil {
		return
	}
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	if end > 0 {
		s.scrub.LastEnd = time.UnixMilli(end)
	}
	s.scrub.next = index.RunID(next)
}

// keepScrub writes the place. A disk that has no room for it costs a pass begun anew.
func (s *Store) keepScrub() {
	s.scrub.mu.Lock()
	end := int64(0)
	if !s.scrub.LastEnd.IsZero() {
		end = s.scrub.LastEnd.UnixMilli()
	}
	text := fmt.Appendf(nil, "%d %d", end, uint64(s.scrub.next))
	s.scrub.mu.Unlock()
	if s.opts.ReadOnly {
		return
	}
	if err := s.CatalogPut(scrubKey, text); err != nil {
		s.opts.Logger.Debug("cannot keep the scrub's place", "error", err)
	}
}
