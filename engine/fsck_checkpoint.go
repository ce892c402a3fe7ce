package engine

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"path"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
	"kiln/internal/vfs"
	"kiln/wal"
)

// checkAgreement holds the newest checkpoint against what the older one and the log
// between the two give: an opening reads the newest alone, and a bit in it that is
// wrong, under a hash that is right, would show or hide versions for ever.
func (f *fsck) checkAgreement(ctx context.Context, r *recovery, storeID uint64) error {
	if len(r.checkpoints) < 2 {
		return nil // a store that was restored or repaired has one
	}
	dir := path.Join(f.dir, checkpointsDir)
	old, c, err := f.olderCheckpoint(r, storeID)
	if err != nil {
		return err
	}
	newer, err := old.readCheckpoint(path.Join(dir, checkpointFileName(r.checkpoint.lsn)), storeID) // r has changed its own
	if err != nil {
		return err
	}
	if err = old.begin(); err == nil {
		err = f.replayUpto(ctx, old, r.checkpoint.lsn)
	}
	if err != nil {
		return joined(ctx.Err(), func() error {
			p := problemOf(err)
			p.What = fmt.Sprintf("the newest checkpoint cannot be made again from the one before, of LSN %d: %s", c.lsn, p.What)
			f.report(p)
			return nil
		})
	}
	a := &agreement{old: old, newer: newer, open: r.runs, wrong: func(format string, args ...any) {
		f.disagrees = true
		f.report(Problem{
			File: path.Join(dir, checkpointFileName(r.checkpoint.lsn)),
			What: fmt.Sprintf("by the checkpoint before and the log, it should be otherwise: "+format, args...),
		})
	}}
	a.runs()
	a.rest()
	return nil
}

// olderCheckpoint is a recovery that has not begun, from the checkpoint before the newest.
func (f *fsck) olderCheckpoint(r *recovery, storeID uint64) (*recovery, *checkpointFile, error) {
	old := &recovery{fs: f.fs, dir: f.dir, cache: r.cache}
	c, err := old.readCheckpoint(path.Join(f.dir, checkpointsDir, checkpointFileName(r.checkpoints[len(r.checkpoints)-2].lsn)), storeID)
	if err != nil {
		return nil, nil, err // it was read a moment before
	}
	old.checkpoint = *c
	return old, c, nil
}

// tryOlder is for a newest checkpoint with which the log makes no whole store: where
// the older one does, it is the newest that is wrong.
func (f *fsck) tryOlder(ctx context.Context, r *recovery, storeID uint64) error {
	if len(r.checkpoints) < 2 {
		return nil
	}
	dir := path.Join(f.dir, checkpointsDir)
	old, c, err := f.olderCheckpoint(r, storeID)
	if err != nil {
		return err
	}
	defer old.close()
	if err = old.begin(); err == nil {
		err = f.replayUpto(ctx, old, math.MaxUint64)
	}
	if err == nil {
		err = old.openRuns()
	}
	if err != nil || old.lastLSN < r.checkpoint.lsn {
		return ctx.Err()
	}
	f.disagrees = true
	f.report(Problem{
		File: path.Join(dir, checkpointFileName(r.checkpoint.lsn)),
		What: fmt.Sprintf("with the log it makes no whole store, and the checkpoint before, of LSN %d, does", c.lsn),
	})
	return nil
}

// replayUpto is replay for records up to an LSN, all of which must be there.
func (f *fsck) replayUpto(ctx context.Context, r *recovery, upto uint64) error {
	next := r.checkpoint.flushed + 1
	_, err := wal.Dump(ctx, f.fs, path.Join(f.dir, logDir), func(rec wal.Record) error {
		if uint64(rec.LSN) < next || uint64(rec.LSN) > upto {
			return nil
		}
		if uint64(rec.LSN) > next {
			return &vfs.CorruptError{File: path.Join(r.dir, logDir), What: fmt.Sprintf("the records from LSN %d to %d are missing", next, rec.LSN-1)}
		}
		next++
		return r.replay(ctx, rec)
	})
	return err
}

// agreement compares a checkpoint with a state that should be the same.
type agreement struct {
	old   *recovery
	newer *checkpointFile
	open  map[index.RunID]*runState // the store's runs, as far as they are there now
	wrong func(format string, args ...any)
}

func (a *agreement) runs() {
	left := maps.Clone(a.old.metas)
	for i := range a.newer.runs {
		run := &a.newer.runs[i]
		state, ok := a.old.runs[run.meta.ID]
		if !ok || a.old.metas[run.meta.ID] != run.meta {
			a.wrong("run %016x is not the store's, or is described otherwise", uint64(run.meta.ID))
			continue
		}
		delete(left, run.meta.ID)
		if run.publishLSN != state.publishLSN || run.kind != state.kind || run.rank != state.rank {
			a.wrong("run %016x was published at LSN %d, kind %d, rank %016x", uint64(run.meta.ID), state.publishLSN, state.kind, uint64(state.rank))
		}
		a.rows(run, state)
	}
	for _, id := range slices.Sorted(maps.Keys(left)) {
		a.wrong("run %016x is the store's", uint64(id))
	}
}

// rows compares what is superseded and void. Rows that a merge left out are forgotten
// among the void ones when a store is opened.
func (a *agreement) rows(run *checkpointRun, state *runState) {
	if differ := roaring.Xor(orEmpty(run.superseded), orEmpty(state.superseded(a.newer.lsn))); !differ.IsEmpty() {
		a.wrong("in run %016x %d rows are superseded and should not, or the other way round, the first is row %d", uint64(run.meta.ID), differ.GetCardinality(), differ.Minimum())
	}
	is, should := orEmpty(run.void), orEmpty(state.voidAt(a.newer.lsn))
	differ := roaring.Xor(is, should)
	if now := a.open[run.meta.ID]; now == nil || now.run == nil {
		differ = roaring.AndNot(is, should)
	} else {
		differ.And(now.run.Live())
	}
	if !differ.IsEmpty() {
		a.wrong("in run %016x %d rows are void and should not, or the other way round, the first is row %d", uint64(run.meta.ID), differ.GetCardinality(), differ.Minimum())
	}
}

func orEmpty(rows *roaring.Bitmap) *roaring.Bitmap {
	if rows == nil {
		return roaring.New()
	}
	return rows
}

// rest compares all else. Clock and run numbers may be ahead: what was given out and
// came to nothing is in no record.
func (a *agreement) rest() {
	if a.newer.flushed < a.old.flushed {
		a.wrong("versions up to LSN %d are in runs, and not up to %d", a.old.flushed, a.newer.flushed)
	}
	for _, e := range a.old.entries {
		if e.lsn <= a.newer.flushed && e.purged == 0 {
			a.wrong("the version of LSN %d is in no run, and is not read from the log", e.lsn)
			break
		}
	}
	if a.newer.clock < a.old.clock {
		a.wrong("the clock is at %d, and not at %d", a.old.clock, a.newer.clock)
	}
	if a.newer.nextRun < a.old.nextRun {
		a.wrong("the next run is %016x, and not %016x", a.old.nextRun, a.newer.nextRun)
	}
	if !maps.EqualFunc(a.newer.progress, a.old.progress, bytes.Equal) {
		a.wrong("the progress of %d imports is known, here of %d, or of some otherwise", len(a.old.progress), len(a.newer.progress))
	}
	if !bytes.Equal(appendFields(nil, a.newer.fields), appendFields(nil, a.old.fields)) {
		a.wrong("there are %d added fields, here %d, or others", len(a.old.fields), len(a.newer.fields))
	}
}
