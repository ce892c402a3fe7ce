package engine

import (
	"context"
	"errors"
	"fmt"
	"math"

	"kiln/index"
	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// A merge in steps, and what a crash after each leaves:
//
//  1. Neighbours in the order of compareRuns are chosen; a snapshot keeps them
//     open. (Memory only.)
//  2. The result is written, sealed and durable. (An orphan file; open removes it.)
//  3. Slot: what is superseded in the inputs by now is superseded in the
//     result, one REPLACE record puts it in their place, and a view without
//     them is installed. (Replay does the same.)
//  4. When the last snapshot that reads the inputs is released, their files
//     are removed. (Orphans; open removes them.)
//
// Step 4 waits for no checkpoint: replay opens runs only at its end, so it does
// not miss a run that a REPLACE behind the checkpoint takes out. Only a synced
// REPLACE removes anything.
//
// While step 2 runs, commits and imports go on and mark rows of the inputs.
// Purges take rows of them out. Nothing of that is lost: the marks are taken over in step 3, in the slot, where
// none can be made. Whoever found a place before step 3 and uses it after
// looks it up again (Commit, because the list of runs changed) or has it
// translated (Ingest.Publish, by Store.follow).

// merge is one merge under way.
type merge struct {
	snap   *Snapshot
	inputs []*runState
	bytes  int64 // of the inputs
}

// mergePool is one of the two workers.
type mergePool uint8

const (
	mergeSmall mergePool = iota
	mergeBig
	mergePools
)

// movedRun says where a merge moved a run's rows.
type movedRun struct {
	to   index.RunID
	base uint32 // is added to the ordinals
	lsn  uint64 // of the REPLACE record
}

// mergesOff tells whether the options forbid merges.
func (s *Store) mergesOff() bool { return s.opts.MergeFanIn < 0 }

// kickMerges asks the workers to look for something to do.
func (s *Store) kickMerges() {
	for _, c := range s.mergeKicks {
		kick(c)
	}
	s.kickReindex()
}

// mergeLoop is one worker. In simulations there is none.
func (s *Store) mergeLoop(pool mergePool) {
	for {
		select {
		case <-s.stopping:
			return
		case <-s.mergeKicks[pool]:
		}
		for more := true; more; {
			var err error
			more, err = s.mergeOnce(s.ctx, pool)
			if err != nil {
				more = false
				s.mergeFailed(err)
			}
			if more {
				s.mergesStuck.Store(false)
			}
		}
	}
}

// mergeFailed tells the log, unless the store is closing.
func (s *Store) mergeFailed(err error) {
	if errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) {
		return
	}
	s.giveUpMerges()
	s.stats.mergeFailures.Add(1)
	s.noteDamage(err, "a merge")
	s.opts.Logger.Error("cannot merge runs", "error", err)
}

// mergeOnce does the best merge of a pool; false when there was none to do.
// After an error nothing has changed, but for ErrOutcomeUnknown.
func (s *Store) mergeOnce(ctx context.Context, pool mergePool) (bool, error) {
	m, err := s.beginMerge(pool)
	if m == nil || err != nil {
		return false, err
	}
	defer s.kickReindex() // which left the inputs alone
	defer s.endMerge(m)
	meta, err := s.buildMerge(ctx, m)
	if err != nil {
		return false, err
	}
	return true, s.finishMerge(ctx, m, meta)
}

// beginMerge is step 1; nil when there is nothing to do, or no room for it.
func (s *Store) beginMerge(pool mergePool) (*merge, error) {
	if s.mergesOff() || s.poison.Load() != nil {
		return nil, nil
	}
	snap, err := s.Snapshot()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	inputs := s.chooseInputs(snap.view, pool)
	for _, r := range inputs {
		r.merging = true
	}
	s.mu.Unlock()
	if inputs == nil {
		snap.Release()
		return nil, nil
	}
	m := &merge{snap: snap, inputs: inputs}
	for _, r := range inputs {
		m.bytes += r.run.Meta().Bytes
	}
	err = s.mergeRoom(m.bytes)
	if err == nil {
		return m, nil
	}
	s.mergesStuck.Store(true)
	s.endMerge(m)
	if errors.Is(err, ErrNoSpace) { // the count tells; the next publishing asks again
		s.stats.mergeStalls.Add(1)
		err = nil
	}
	return nil, err
}

// mergeRoom is an error when the result would take the space that writes need.
func (s *Store) mergeRoom(bytes int64) error {
	if level, err := s.lookAtSpace(); err != nil || level != SpaceOK {
		return errors.Join(err, fmt.Errorf("%w: the disk is %v", ErrNoSpace, level))
	}
	if !s.spaceChecked() {
		return nil
	}
	free, err := s.opts.FS.FreeBytes(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("cannot ask for the free space of %q: %w", s.opts.Dir, err)
	}
	if free < s.opts.FreeBytesMin+bytes {
		return fmt.Errorf("%w: %d bytes are free, a merge needs %d and %d must be left", ErrNoSpace, free, bytes, s.opts.FreeBytesMin)
	}
	return nil
}

// chooseInputs picks the best merge among the runs of imports, then among those
// of flushes. s.mu is held.
func (s *Store) chooseInputs(v *view, pool mergePool) []*runState {
	l := mergeLimits{
		fanIn: s.opts.MergeFanIn, bytesMax: s.opts.MergeBytesMax, rowsMax: index.MergeRowsMax,
		runBytesMax: s.opts.MergeBytesMax,
	}
	if pool == mergeSmall {
		l.bytesMax = min(l.bytesMax, mergeSmallBytesMax)
	} else {
		l.bytesMin = mergeSmallBytesMax
	}
	flushes := 0
	for flushes < len(v.byAge) && !v.byAge[flushes].fromFlush() {
		flushes++
	}
	for _, runs := range [][]*runState{v.byAge[:flushes], v.byAge[flushes:]} {
		candidates := make([]mergeCandidate, len(runs))
		for i, r := range runs {
			meta := r.run.Meta()
			candidates[i] = mergeCandidate{
				bytes: meta.Bytes, rows: uint64(meta.Rows), barrier: r.merging || r.replaced || r.unmergeable,
				terms: termsOrigin{r.run.Extraction(), r.run.Custom()},
			}
		}
		if c := chooseMerge(candidates, l); c.ok() {
			return runs[c.from:c.to:c.to]
		}
	}
	if runs := chooseEmptied(v, pool); runs != nil {
		return runs
	}
	return s.chooseRetired(v, pool)
}

// chooseRetired picks a run that is encrypted under another key than the present one,
// or not at all: written again, alone, it is under the present one.
func (s *Store) chooseRetired(v *view, pool mergePool) []*runState {
	keys := sealed.KeysOf(s.opts.FS)
	if keys == nil {
		return nil
	}
	for i, r := range v.byAge {
		if r.merging || r.replaced || r.unmergeable || (r.run.Meta().Bytes > mergeSmallBytesMax) != (pool == mergeBig) {
			continue
		}
		if id, ok := r.run.SealedUnder(); !ok || id != keys.Current() {
			return v.byAge[i : i+1 : i+1]
		}
	}
	return nil
}

// mergeVoidShare: a run is written again, alone, when one in so many of its rows was
// taken out. So a byte that stays is written again only when a quarter of those
// beside it went, and what purges leave on disk is a third of the rest at most.
const mergeVoidShare = 4

// chooseEmptied picks a run that is worth writing again only for the room that its
// void rows take; they have bodies and terms until then. Superseded rows are
// history, which stays.
func chooseEmptied(v *view, pool mergePool) []*runState {
	for i, r := range v.byAge {
		meta := r.run.Meta()
		if r.merging || r.replaced || r.unmergeable || (meta.Bytes > mergeSmallBytesMax) != (pool == mergeBig) {
			continue
		}
		if void := r.voidAt(math.MaxUint64); void != nil && void.AndCardinality(r.run.Live())*mergeVoidShare >= uint64(meta.Live) {
			return v.byAge[i : i+1 : i+1]
		}
	}
	return nil
}

// endMerge lets go of the inputs. Those that were replaced lose their files
// when nobody else reads them.
func (s *Store) endMerge(m *merge) {
	s.mu.Lock()
	for _, r := range m.inputs {
		r.merging = false
	}
	close(s.mergeEnded)
	s.mergeEnded = make(chan struct{})
	s.mu.Unlock()
	m.snap.Release()
}

// buildMerge is step 2.
func (s *Store) buildMerge(ctx context.Context, m *merge) (index.RunMeta, error) {
	opts := index.MergeOptions{FS: s.opts.FS, Dir: s.path(runsDir), ID: index.RunID(s.nextRun.Add(1) - 1)}
	for _, r := range m.inputs {
		opts.Inputs = append(opts.Inputs, index.MergeInput{Run: r.run, PublishLSN: r.publishLSN, Void: r.voidAt(math.MaxUint64)})
	}
	pace, done := s.mergePace()
	opts.Pace = pace
	meta, err := index.Merge(ctx, opts)
	done()
	var damage *vfs.CorruptError
	if errors.As(err, &damage) {
		s.mu.Lock()
		for _, r := range m.inputs {
			r.unmergeable = true // until the next start: it would only fail again
		}
		s.mu.Unlock()
	}
	return meta, noSpace(err)
}

// finishMerge is step 3.
func (s *Store) finishMerge(ctx context.Context, m *merge, meta index.RunMeta) error {
	err := s.publishRun(ctx, meta, func(run *index.Run) (bool, error) { return s.publishMerge(m, run) })
	if err != nil {
		return fmt.Errorf("cannot publish a merged run: %w", err)
	}
	return nil
}

// publishMerge is step 3 in the slot.
func (s *Store) publishMerge(m *merge, run *index.Run) (published bool, err error) {
	published, err = s.replaceRuns(m, run)
	if published {
		s.stats.merges.Add(1)
		s.stats.mergeRead.Add(uint64(m.bytes))
		s.stats.mergeWritten.Add(uint64(run.Meta().Bytes))
	}
	return published, err
}

// rememberMoves notes where the inputs' rows went, and forgets the moves that
// no live view is older than: nobody can have a place from before. Slot only.
func (s *Store) rememberMoves(inputs []*runState, rows []uint32, to index.RunID, lsn uint64) {
	s.mu.Lock()
	oldest := s.view.since
	for _, v := range s.views {
		oldest = min(oldest, v.since)
	}
	s.mu.Unlock()
	for id, moved := range s.moves {
		if moved.lsn <= oldest {
			delete(s.moves, id)
		}
	}
	base := uint32(0)
	for i, r := range inputs {
		s.moves[r.run.Meta().ID] = movedRun{to: to, base: base, lsn: lsn}
		base += rows[i]
	}
}

// follow gives the place in a run where merges moved it since it was looked up
// on a snapshot that still lives. Slot only.
func (s *Store) follow(p Place) Place {
	for {
		moved, ok := s.moves[p.Run]
		if !ok {
			return p
		}
		p = Place{Run: moved.to, Ordinal: p.Ordinal + index.Ordinal(moved.base)}
	}
}
