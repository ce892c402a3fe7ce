package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"kiln/index"
	"kiln/internal/vfs"
	"kiln/wal"
)

// Indexing a run again is a merge of that run alone, with terms that are made
// anew: the same steps, the same record (REPLACE), the same after a crash; see
// merge.go. It is due for a run that lacks added fields, or whose terms were made
// by other rules. One worker does one run at a time; a run that it has is left
// alone by merges, and one that a merge has is taken up when that ends. Nothing is
// remembered: what is due follows from the runs, after a restart too.
//
// After an error all runs wait for a while, longer after each: what fails is the disk,
// or that it is full, and the next run would fail of it as well.

const (
	// reindexRetryMin and reindexRetryMax bound the wait after an error: soon enough
	// for what passes at once, and seldom enough for a log that somebody reads.
	reindexRetryMin = 5 * time.Second
	reindexRetryMax = 5 * time.Minute
	// reindexRetryDoublings reach the longest wait.
	reindexRetryDoublings = 6
)

// Reindexing is how far the runs are.
type Reindexing struct {
	Runs, Versions uint64 // that are due
	// Fields counts the added fields, the first ones, of which every run has the
	// terms; -1: some run has not even those of R4's.
	Fields int
	// Contained: every run has the types of contained resources.
	Contained bool
	// Failures are attempts that failed since one succeeded; the next one is at Retry
	// (zero: none is waited for), and Err is the last one's error.
	Failures int
	Retry    time.Time
	Err      error
}

// Reindexing tells what is due to be indexed again.
func (s *Store) Reindexing() Reindexing {
	s.mu.Lock()
	v, r := s.view, s.reindexing
	s.mu.Unlock()
	if v == nil {
		return Reindexing{}
	}
	r.Fields, r.Contained = len(s.Fields()), true
	for _, run := range v.runs {
		if !s.reindexDue(run) {
			continue
		}
		r.Runs++
		r.Versions += uint64(run.run.Meta().Live)
		r.Contained = r.Contained && run.run.HasContainedTerms()
		if r.Fields = min(r.Fields, run.run.Custom()); !run.run.HasFieldTerms() {
			r.Fields = -1
		}
	}
	return r
}

// reindexDue tells whether a run lacks terms.
func (s *Store) reindexDue(r *runState) bool {
	return r.run.Meta().Live > 0 && !r.has(needs{fields: true, custom: len(s.Fields()), contained: true})
}

func (s *Store) kickReindex() { kick(s.reindexKick) }

// reindexLoop is the worker. In simulations there is none.
func (s *Store) reindexLoop() {
	s.kickReindex()
	var retry <-chan time.Time // nil: nothing failed
	for {
		kicked := s.reindexKick
		if retry != nil {
			kicked = nil // what changes the runs does not mend what failed
		}
		select {
		case <-s.stopping:
			return
		case <-kicked:
		case <-retry:
		}
		if retry = nil; !s.reindexAll() {
			retry = s.opts.After(s.reindexFailed())
		}
	}
}

// reindexAll indexes runs again as long as there are some to be had; false after an
// error. A damaged run is not taken up again.
func (s *Store) reindexAll() bool {
	runs, begun := 0, false
	var failure error
	for failure == nil {
		m, err := s.beginReindex()
		if m != nil && !begun {
			begun = true
			due := s.Reindexing()
			s.opts.Logger.Info("indexing runs again", "runs", due.Runs, "versions", due.Versions, "fields", len(s.Fields()))
		}
		if m != nil {
			err = s.reindex(s.ctx, m)
		}
		var damage *vfs.CorruptError
		switch {
		case err == nil && m != nil:
			runs++
			s.reindexed(nil)
		case errors.As(err, &damage) && m != nil:
			s.stats.reindexFailures.Add(1)
			s.noteDamage(err, "indexing again")
			s.opts.Logger.Error("cannot index a damaged run again", "error", err)
		default:
			failure = err
		}
		if m == nil {
			break
		}
	}
	if begun {
		due := s.Reindexing() // what a merge has, or damage keeps
		s.opts.Logger.Info("indexed runs again", "runs", runs, "left", due.Runs)
	}
	if errors.Is(failure, ErrClosed) || errors.Is(failure, context.Canceled) {
		return true
	}
	s.reindexed(failure)
	return failure == nil
}

// reindexed notes how an attempt ended.
func (s *Store) reindexed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.reindexing = Reindexing{}
		return
	}
	s.reindexing.Failures, s.reindexing.Err = s.reindexing.Failures+1, err
}

// reindexFailed tells the log, and how long to wait.
func (s *Store) reindexFailed() time.Duration {
	s.mu.Lock()
	failed := &s.reindexing
	wait := min(reindexRetryMin<<min(failed.Failures-1, reindexRetryDoublings), reindexRetryMax)
	failed.Retry = s.opts.Now().Add(wait)
	failures, err := failed.Failures, failed.Err
	s.mu.Unlock()
	s.stats.reindexFailures.Add(1)
	s.opts.Logger.Error("cannot index a run again; it is tried again", "error", err, "failures", failures, "in", wait)
	return wait
}

// reindexOnce does one run; false when there was none to do. After an error
// nothing has changed, but for ErrOutcomeUnknown.
func (s *Store) reindexOnce(ctx context.Context) (bool, error) {
	m, err := s.beginReindex()
	if m == nil || err != nil {
		return false, err
	}
	err = s.reindex(ctx, m)
	return err == nil, err
}

// reindex does the run that beginReindex took up.
func (s *Store) reindex(ctx context.Context, m *merge) error {
	defer s.endMerge(m)
	meta, err := s.buildReindex(ctx, m)
	if err == nil {
		err = s.finishReindex(ctx, m, meta)
	}
	var damage *vfs.CorruptError
	if errors.As(err, &damage) {
		s.mu.Lock()
		m.inputs[0].unmergeable = true // until the next start: it would only fail again
		s.mu.Unlock()
	}
	return err
}

// beginReindex takes up the oldest run that is due; nil when there is none.
func (s *Store) beginReindex() (*merge, error) {
	if s.poison.Load() != nil {
		return nil, nil
	}
	snap, err := s.Snapshot()
	if err != nil {
		return nil, err
	}
	m := &merge{snap: snap}
	s.mu.Lock()
	for _, r := range snap.view.byAge {
		if s.reindexDue(r) && !r.merging && !r.replaced && !r.unmergeable {
			r.merging = true
			m.inputs, m.bytes = []*runState{r}, r.run.Meta().Bytes
			break
		}
	}
	s.mu.Unlock()
	if m.inputs == nil {
		snap.Release()
		return nil, nil
	}
	if err := s.mergeRoom(m.bytes); err != nil {
		s.endMerge(m)
		return nil, err
	}
	return m, nil
}

func (s *Store) buildReindex(ctx context.Context, m *merge) (index.RunMeta, error) {
	r := m.inputs[0]
	newID := func() index.RunID { return index.RunID(s.nextRun.Add(1) - 1) }
	opts := index.ReindexOptions{
		FS: s.opts.FS, Dir: s.path(runsDir), ID: newID(), NewID: newID, Fields: s.Fields(), Pool: s.opts.builders,
		Input: index.MergeInput{Run: r.run, PublishLSN: r.publishLSN, Void: r.voidAt(math.MaxUint64)},
	}
	pace, done := s.mergePace()
	opts.Pace = pace
	meta, report, err := index.Reindex(ctx, opts)
	done()
	if report.Unindexable > 0 {
		s.opts.Logger.Warn("versions have a value that cannot be searched for", "run", uint64(r.run.Meta().ID), "versions", report.Unindexable)
	}
	s.stats.reindexed.Add(report.Read)
	return meta, noSpace(err)
}

// finishReindex puts the new run in the place of the old one.
func (s *Store) finishReindex(ctx context.Context, m *merge, meta index.RunMeta) error {
	err := s.publishRun(ctx, meta, func(run *index.Run) (bool, error) {
		published, err := s.replaceRuns(m, run)
		if published {
			s.stats.reindexes.Add(1)
		}
		return published, err
	})
	if err != nil {
		return fmt.Errorf("cannot publish a run that was indexed again: %w", err)
	}
	return nil
}

// replaceRuns writes the REPLACE record and puts the run in the place of the
// inputs. Slot only.
func (s *Store) replaceRuns(m *merge, run *index.Run) (published bool, err error) {
	if s.poison.Load() != nil {
		return false, ErrReadOnly
	}
	rec := replaceRecord{meta: run.Meta()}
	var rows []uint32
	for _, r := range m.inputs {
		meta := r.run.Meta()
		if s.view.run(meta.ID) != r {
			panic(fmt.Sprintf("BUG: run %016x was merged and is not part of the store", uint64(meta.ID)))
		}
		rec.inputs, rows = append(rec.inputs, meta.ID), append(rows, meta.Rows)
	}
	placed, err := s.append([]wal.Entry{{Type: wal.TypeReplace, Payload: rec.marshal()}})
	if err != nil {
		return false, err
	}
	lsn := uint64(placed[0].LSN)
	state := mergedState(m.inputs, rows, run, lsn)
	state.trimVoid()
	s.viewLSN = lsn
	s.rememberMoves(m.inputs, rows, run.Meta().ID, lsn)
	s.mu.Lock()
	for _, r := range m.inputs {
		r.replaced = true
	}
	s.mu.Unlock()
	s.install(s.view.withMerged(m.inputs, state), lsn)
	s.kickMerges()
	return true, nil
}
