package engine

import (
	"context"
	"testing"
	"time"

	"kiln/internal/vfs"
)

// A merge rests after a piece of work, which is shorter while clients ask; while it
// rests another one may work.
func TestMergesWorkInPieces(t *testing.T) {
	opts := testOptions(vfs.NewMem(1), 1)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	opts.Now = func() time.Time { return now }
	s := mustOpen(t, opts)
	if pace, done := s.mergePace(); pace != nil {
		t.Error("a merge rests in a simulation")
	} else {
		done()
	}
	s.opts.PrepareInline = false
	over, cancel := context.WithCancel(context.Background())
	cancel()
	f := func(work time.Duration, asked time.Duration, rests bool) {
		t.Helper()
		now = now.Add(time.Hour) // nobody asked lately
		pace, done := s.mergePace()
		defer done()
		now = now.Add(work)
		s.MakeWay(now.Add(-asked))
		if err := pace(over, 1); (err != nil) != rests { // only a rest looks at the context
			t.Errorf("after %v, with a request %v ago: %v, rests %v", work, asked, err, rests)
		}
		if s.mergePiece.TryLock() {
			t.Error("two merges may work at once")
		}
	}
	f(mergePieceBeside-1, 0, false)
	f(mergePieceBeside, 0, true)
	f(mergePieceBeside, mergeBesideTime-1, true)
	f(mergePieceBeside, mergeBesideTime, false)
	f(mergePieceAlone-1, mergeBesideTime, false)
	f(mergePieceAlone, mergeBesideTime, true)
	pace, done := s.mergePace()
	second := make(chan struct{})
	go func() {
		_, done := s.mergePace()
		done()
		close(second)
	}()
	for worked := false; !worked; {
		now = now.Add(mergePieceAlone)
		if err := pace(context.Background(), 1); err != nil {
			t.Fatal(err)
		}
		select {
		case <-second:
			worked = true
		default:
		}
	}
	done()
	s.opts.PrepareInline = true
	mustClose(t, s)
}

// A merge that is behind rests for a moment only, and not at all while nobody asks.
func TestMergesThatAreBehindRestLess(t *testing.T) {
	f := func(worked time.Duration, beside, behind bool, want time.Duration) {
		t.Helper()
		if got := mergeRest(worked, beside, behind); got != want {
			t.Errorf("a rest of %v after %v, beside clients %v, behind %v: want %v", got, worked, beside, behind, want)
		}
	}
	f(time.Millisecond, false, false, time.Millisecond)
	f(time.Millisecond, true, false, time.Millisecond)
	f(time.Second, true, false, mergeRestMax)
	f(0, true, false, mergeRestMin)
	f(time.Millisecond, true, true, mergeRestMin)
	f(time.Millisecond, false, true, 0)
}
