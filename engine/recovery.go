package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sort"

	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
	"kiln/wal"
)

// recovery is the state being rebuilt: a checkpoint, and the log after it.
//
// Let F be the checkpoint's flushed LSN and C its own. The log is replayed
// from F+1:
//
//	record LSN   head (versions, head places)   runs, marks, progress, clock
//	F < n <= C   applied                        skipped: the checkpoint has them
//	n > C        applied                        applied
//
// A head place in F < n <= C may name a version up to F: it went into a run
// before the checkpoint, which has the mark. After C that is damage.
type recovery struct {
	fs    vfs.FS
	dir   string
	cache *index.Cache

	checkpoint checkpointFile
	// checkpoints are the files that exist, oldest first, the one in use last.
	checkpoints []checkpointMark
	runs        map[index.RunID]*runState
	metas       map[index.RunID]index.RunMeta
	entries     []*headEntry // in LSN order
	flushed     uint64
	lastLSN     uint64
	viewLSN     uint64
	clock       int64
	nextRun     uint64
	progress    map[uint64][]byte
	fields      []*search.Field // of added search parameters, by number
	// lenient, when not nil, takes note of what records name and is not there; an
	// opening refuses it.
	lenient *leniency
}

// loadCheckpoint finds the newest valid checkpoint. found is false when there
// is no checkpoint at all. A damaged one is passed over only if an older one is
// good: the log reaches back to it, or wal.Open refuses.
func (r *recovery) loadCheckpoint(storeID uint64) (found bool, err error) {
	dir := path.Join(r.dir, checkpointsDir)
	names, err := r.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot list %q: %w", dir, err)
	}
	var firstErr error
	var marks []checkpointMark
	for _, name := range names { // oldest first: the names sort by LSN
		if _, ok := parseHexName(name, checkpointSuffix); !ok {
			continue
		}
		found = true
		c, err := r.readCheckpoint(path.Join(dir, name), storeID)
		if errors.Is(err, ErrNewerFormat) {
			return true, err
		}
		if err != nil {
			firstErr = errors.Join(firstErr, err)
			continue
		}
		r.checkpoint = *c
		marks = append(marks, checkpointMark{lsn: c.lsn, flushed: c.flushed})
	}
	if found && len(marks) == 0 {
		return true, fmt.Errorf("no checkpoint is sound; run kiln repair: %w", firstErr)
	}
	r.checkpoints = marks
	return found, nil
}

func (r *recovery) readCheckpoint(name string, storeID uint64) (*checkpointFile, error) {
	data, err := vfs.ReadFile(r.fs, name, checkpointBytesMax)
	if err != nil {
		return nil, err
	}
	c, err := parseCheckpoint(name, data)
	if err != nil {
		return nil, err
	}
	lsn, _ := parseHexName(path.Base(name), checkpointSuffix)
	if c.storeID != storeID || c.lsn != lsn {
		return nil, &vfs.CorruptError{File: name, What: "the checkpoint is of another store or another LSN"}
	}
	return c, nil
}

// begin takes up the checkpoint's state.
func (r *recovery) begin() error {
	c := &r.checkpoint
	r.runs = map[index.RunID]*runState{}
	r.metas = map[index.RunID]index.RunMeta{}
	r.flushed, r.lastLSN, r.viewLSN = c.flushed, c.lsn, c.lsn
	r.clock, r.nextRun = c.clock, max(c.nextRun, 1)
	r.progress, r.fields = c.progress, c.fields
	if r.progress == nil {
		r.progress = map[uint64][]byte{}
	}
	for i := range c.runs {
		run := &c.runs[i]
		if err := r.addRun(run.meta, run, c.lsn); err != nil {
			return err
		}
	}
	return nil
}

// addRun enters a run as it was at an LSN; openRuns opens it, unless a later
// record replaces it.
func (r *recovery) addRun(meta index.RunMeta, run *checkpointRun, lsn uint64) error {
	if _, ok := r.metas[meta.ID]; ok {
		return fmt.Errorf("run %016x is published twice", uint64(meta.ID))
	}
	r.metas[meta.ID] = meta
	r.runs[meta.ID] = newRunState(nil, run.publishLSN, run.kind, run.rank, run.superseded, run.void, lsn)
	r.nextRun = max(r.nextRun, uint64(meta.ID)+1)
	return nil
}

// openRuns opens the runs that are left when the whole log was replayed. A run
// that a REPLACE took out may have no file any more, whether the checkpoint or
// a record named it.
func (r *recovery) openRuns() error {
	for _, id := range slices.Sorted(maps.Keys(r.metas)) {
		run, err := index.OpenRun(r.fs, path.Join(r.dir, runsDir), r.metas[id], 0, r.cache)
		if err != nil {
			return r.missing(r.metas[id], err)
		}
		r.runs[id].run = run
		r.runs[id].trimVoid()
	}
	return nil
}

// missing turns "no such file" into damage: the log says that the run exists.
func (r *recovery) missing(meta index.RunMeta, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &vfs.CorruptError{
			File: path.Join(r.dir, runsDir, runFileName(uint64(meta.ID))),
			What: "the run is part of the store but its file is missing; run kiln repair",
		}
	}
	if errors.Is(err, index.ErrNewerFormat) {
		err = fmt.Errorf("%w: %w", ErrNewerFormat, err)
	}
	return fmt.Errorf("cannot open run %016x: %w", uint64(meta.ID), err)
}

// close lets go of what was opened, when the recovery failed.
func (r *recovery) close() {
	for _, run := range r.runs {
		if run.run != nil {
			_ = run.run.Close() // the failure that brought us here is what is told
		}
	}
}

// view builds the store's first view.
func (r *recovery) view() *view {
	gen := newHeadGen(0)
	entries := make([]headEntry, 0, replayBatchEntries)
	for rest := r.entries; len(rest) > 0; {
		n := min(len(rest), replayBatchEntries)
		entries = entries[:0]
		for _, e := range rest[:n] {
			entries = append(entries, *e)
		}
		gen.add(entries)
		rest = rest[n:]
	}
	return newView(slices.Collect(maps.Values(r.runs)), []*headGen{gen})
}

// replayBatchEntries go into the head's directory at once.
const replayBatchEntries = 4096

// find returns the replayed head entry of a place; nil: none.
func (r *recovery) find(lsn uint64, number uint32) *headEntry {
	i := sort.Search(len(r.entries), func(i int) bool {
		e := r.entries[i]
		return e.lsn > lsn || (e.lsn == lsn && e.index >= number)
	})
	if i == len(r.entries) || r.entries[i].lsn != lsn || r.entries[i].index != number {
		return nil
	}
	return r.entries[i]
}

// replay applies one record. Its errors name the record.
func (r *recovery) replay(ctx context.Context, rec wal.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.apply(rec); err != nil {
		if errors.Is(err, ErrNewerFormat) {
			return fmt.Errorf("cannot replay the record of LSN %d: %w", rec.LSN, err)
		}
		var corrupt *vfs.CorruptError
		if errors.As(err, &corrupt) {
			return fmt.Errorf("cannot replay the record of LSN %d: %w", rec.LSN, err)
		}
		return &vfs.CorruptError{
			File:   path.Join(r.dir, logDir) + fmt.Sprintf(", segment %d", rec.Position.Segment),
			Offset: int64(rec.Position.Offset),
			What:   fmt.Sprintf("the record of LSN %d cannot be applied: %v; run kiln repair", rec.LSN, err),
		}
	}
	r.lastLSN = max(r.lastLSN, uint64(rec.LSN))
	return nil
}
