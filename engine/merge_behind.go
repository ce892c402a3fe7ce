package engine

import (
	"context"
	"fmt"
)

// mergeHoldFanIns: with so many times the fan-in of runs that are not full yet,
// merges have fallen behind: the choice alone keeps the number below that (see
// merge_choice.go). Each more would cost every read, so imports wait. Writes need
// not: a flush takes a head of 64 MiB, which merges outrun.
const mergeHoldFanIns = 8

// AwaitMerges waits while merges are so far behind that another run would cost all
// reads, and counts that it did. Imports call it before they begin a round. It does
// not wait for merges that fail, find no room, or are switched off.
func (s *Store) AwaitMerges(ctx context.Context) error {
	for stalled := false; ; stalled = true {
		ended, behind := s.mergesBehind()
		if !behind {
			return nil
		}
		if !stalled {
			s.stats.importStalls.Add(1)
		}
		s.kickMerges()
		select {
		case <-ended:
		case <-ctx.Done():
			return fmt.Errorf("cannot wait for merges: %w", ctx.Err())
		case <-s.stopping:
			return ErrClosed
		}
	}
}

// mergesBehind tells whether there are too many runs and something is being, or can
// be, done about it; ended is closed when the next merge ends.
func (s *Store) mergesBehind() (ended <-chan struct{}, behind bool) {
	if s.mergesOff() || s.opts.PrepareInline || s.mergesStuck.Load() || s.poison.Load() != nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		return nil, false
	}
	waiting, merging := 0, false
	for _, r := range s.view.runs {
		if r.run.Meta().Bytes <= s.opts.MergeBytesMax/2 {
			waiting++
		}
		merging = merging || r.merging
	}
	if waiting <= mergeHoldFanIns*s.opts.MergeFanIn {
		return nil, false
	}
	return s.mergeEnded, merging || s.chooseInputs(s.view, mergeSmall) != nil || s.chooseInputs(s.view, mergeBig) != nil
}

// giveUpMerges lets those go on who wait for merges that fail. The next one that
// succeeds makes them wait again.
func (s *Store) giveUpMerges() {
	s.mergesStuck.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.mergeEnded)
	s.mergeEnded = make(chan struct{})
}
