package engine

import (
	"cmp"
	"errors"
	"slices"

	"kiln/index"
)

// view is what a reader reads: an immutable list of runs and head generations.
// A new one takes its place when a run joins or the head turns over; between
// those, commits only append to the last generation.
type view struct {
	runs  []*runState // by rising id
	byAge []*runState // the same in the order of compareRuns
	gens  []*headGen  // oldest first; the last one takes the commits
	// since is the LSN at which it became the store's view.
	since uint64
	// refs counts the snapshots on the view, plus one while it is the store's
	// current. Guarded by Store.mu.
	refs int
}

func (v *view) active() *headGen { return v.gens[len(v.gens)-1] }

// run returns the run of that id; nil when the view has none.
func (v *view) run(id index.RunID) *runState {
	i, ok := slices.BinarySearchFunc(v.runs, id, func(r *runState, id index.RunID) int {
		switch {
		case r.run.Meta().ID < id:
			return -1
		case r.run.Meta().ID > id:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return v.runs[i]
}

// newView makes a view of runs in any order.
func newView(runs []*runState, gens []*headGen) *view {
	v := &view{runs: slices.Clone(runs), byAge: slices.Clone(runs), gens: gens}
	slices.SortFunc(v.runs, func(a, b *runState) int { return cmp.Compare(a.run.Meta().ID, b.run.Meta().ID) })
	slices.SortFunc(v.byAge, compareRuns)
	return v
}

// with is the view with more runs and the given generations.
func (v *view) with(runs []*runState, gens []*headGen) *view {
	return newView(slices.Concat(v.runs, runs), gens)
}

// withMerged is the view with one run in the place of others.
func (v *view) withMerged(inputs []*runState, out *runState) *view {
	runs := slices.DeleteFunc(slices.Clone(v.runs), func(r *runState) bool { return slices.Contains(inputs, r) })
	return newView(append(runs, out), v.gens)
}

// find returns the head entry of a place as records hold it; nil: not in the head.
func (v *view) find(lsn uint64, number uint32) *headEntry {
	for _, g := range slices.Backward(v.gens) {
		if first := g.firstLSN(); first != 0 && first <= lsn {
			return g.find(lsn, number)
		}
	}
	return nil
}

// writtenAfter tells whether the head has a version of key from after an LSN.
func (v *view) writtenAfter(key []byte, after, visible uint64) bool {
	for _, g := range v.gens {
		if latest := g.latest(key, visible); latest != none && g.entry(int(latest)).lsn > after {
			return true
		}
	}
	return false
}

// entry returns the head entry with that number since open, as Place.Ordinal
// tells it (the low 32 bits); nil: not in this view.
func (v *view) entry(ordinal uint32) *headEntry {
	for _, g := range v.gens {
		// A generation is far below 2^32 entries, so the difference is exact.
		if i := ordinal - uint32(g.base); int64(i) < g.count.Load() {
			return g.entry(int(i))
		}
	}
	return nil
}

// install makes next the store's view and lsn visible. It must be called in
// the slot (or before the committer runs).
func (s *Store) install(next *view, lsn uint64) {
	s.mu.Lock()
	next.refs, next.since = 1, lsn
	for _, r := range next.runs {
		r.refs++
	}
	for _, g := range next.gens {
		g.refs++
	}
	s.views = append(s.views, next)
	old := s.view
	s.view, s.visible = next, lsn
	var gone retired
	if old != nil {
		gone = s.unref(old)
	}
	s.mu.Unlock()
	s.retire(gone)
}

// retired is what no view holds any more.
type retired struct {
	runs []*runState
	gens []*headGen
}

// unref drops one reference of a view. Store.mu must be held.
func (s *Store) unref(v *view) retired {
	v.refs--
	if v.refs > 0 {
		return retired{}
	}
	if v.refs < 0 {
		panic("BUG: a view was released twice")
	}
	s.views = slices.DeleteFunc(s.views, func(o *view) bool { return o == v })
	var gone retired
	for _, r := range v.runs {
		if r.refs--; r.refs == 0 {
			gone.runs = append(gone.runs, r)
		}
	}
	for _, g := range v.gens {
		if g.refs--; g.refs == 0 {
			gone.gens = append(gone.gens, g)
		}
	}
	return gone
}

// retire closes what unref gave. Replaced runs are closed aside: their files are
// removed, and the caller may be a request.
func (s *Store) retire(gone retired) {
	for _, r := range gone.runs {
		if r.replaced && !s.opts.PrepareInline {
			s.background.Go(func() { s.retireRun(r) })
		} else {
			s.retireRun(r)
		}
	}
	if len(gone.gens) > 0 {
		s.kickTrim()
	}
}

// retireRun closes a run that no view has. A replaced one is removed: the
// REPLACE record is durable, and replay never opens what it replaced. Where
// removing fails, or does not outlast a crash, the next open does it.
func (s *Store) retireRun(r *runState) {
	err := r.run.Close()
	if r.replaced {
		err = errors.Join(err, s.removeRun(r.run.Meta().ID))
	}
	if err != nil {
		s.opts.Logger.Error("cannot let go of a run", "run", r.run.Meta().ID, "error", err)
	}
}

// oldestNeeded is the oldest LSN whose record some live view's head still reads,
// or a backup holds. none: false.
func (s *Store) oldestNeeded() (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest, any := uint64(0), false
	for _, v := range s.views {
		for _, g := range v.gens {
			if first := g.firstLSN(); first != 0 && (!any || first < oldest) {
				oldest, any = first, true
			}
		}
	}
	for from := range s.logHolds {
		if !any || from < oldest {
			oldest, any = from, true
		}
	}
	return oldest, any
}

// closeViews closes everything at the end of the store's life.
func (s *Store) closeViews() error {
	s.mu.Lock()
	views := s.views
	s.views, s.view = nil, nil
	s.mu.Unlock()
	closed := map[*runState]bool{}
	var err error
	for _, v := range views {
		for _, r := range v.runs {
			if !closed[r] {
				closed[r] = true
				err = errors.Join(err, r.run.Close())
			}
		}
	}
	return err
}
