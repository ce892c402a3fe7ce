package engine

import (
	"context"
	"time"
)

// Merges and indexing again run beside requests, which must hardly notice them. On
// two cores a request that comes while a merge computes and a commit waits for the
// disk finds no processor of Go's free: it waits until the merge parks. (Yielding is
// not enough: the scheduler takes up what yielded before it looks at the network.)
// So all of this work is done in pieces with rests between them, one piece at a
// time in the whole store, and the pieces are short while clients ask.
const (
	// mergePieceBeside is the piece while clients ask: about what the request itself
	// takes. A rest is a millisecond at least, since the scheduler's clock is not finer
	// when it has nothing else to do.
	mergePieceBeside = 300 * time.Microsecond
	// mergePieceAlone is the piece while nobody asks, for the first who does.
	mergePieceAlone = 2 * time.Millisecond
	// mergeRestMin is asked for where there is a rest at all.
	mergeRestMin = 10 * time.Microsecond
	// mergeRestMax bounds one rest. Where others keep a piece from its end, it had
	// its rest already.
	mergeRestMax = 10 * time.Millisecond
	// mergeBusyRuns: with fewer runs a merge rests as long as it works, so that half a
	// processor and half of the disk's time at least are left; with more it is behind.
	mergeBusyRuns = 64
	// mergeBesideTime is how long after a request clients count as being there.
	mergeBesideTime = 100 * time.Millisecond
)

// MakeWay notes that a client asked for something at a time of Options.Now.
func (s *Store) MakeWay(at time.Time) { s.asked.Store(at.UnixNano()) }

// mergePace paces one merge, from now until done is called. Simulations rest nowhere.
func (s *Store) mergePace() (pace func(context.Context, int) error, done func()) {
	if s.opts.PrepareInline {
		return nil, func() {}
	}
	s.mergePiece.Lock()
	began := s.opts.Now()
	pace = func(ctx context.Context, _ int) error {
		now := s.opts.Now()
		beside := now.UnixNano()-s.asked.Load() < int64(mergeBesideTime)
		worked := now.Sub(began)
		if beside && worked < mergePieceBeside || !beside && worked < mergePieceAlone {
			return nil
		}
		s.mergePiece.Unlock()
		err := s.pause(ctx, mergeRest(worked, beside, s.runCount() >= mergeBusyRuns))
		s.mergePiece.Lock()
		began = s.opts.Now()
		return err
	}
	return pace, s.mergePiece.Unlock
}

// mergeRest is how long to rest after a piece of work, while clients ask or not, when
// merges are behind or not; 0: not at all.
func mergeRest(worked time.Duration, beside, behind bool) time.Duration {
	switch {
	case !behind:
		return max(mergeRestMin, min(worked, mergeRestMax))
	case beside:
		return mergeRestMin
	}
	return 0
}

func (s *Store) runCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return 0
	}
	return len(s.view.runs)
}
