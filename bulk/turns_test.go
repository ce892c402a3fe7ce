package bulk

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// turnTaker asks for a turn in a goroutine of its own.
type turnTaker struct {
	got    chan error
	cancel context.CancelFunc
}

func (t *turns) takeLater() *turnTaker {
	ctx, cancel := context.WithCancel(context.Background())
	w := &turnTaker{make(chan error, 1), cancel}
	go func() { w.got <- t.take(ctx) }()
	synctest.Wait() // it has the turn, or waits in the queue
	return w
}

func (w *turnTaker) has() bool {
	synctest.Wait()
	select {
	case err := <-w.got:
		return err == nil
	default:
		return false
	}
}

func TestTurnsAreGivenInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turns{most: 2, now: time.Now}
		first, second := turns.takeLater(), turns.takeLater()
		third, fourth, fifth := turns.takeLater(), turns.takeLater(), turns.takeLater()
		if !first.has() || !second.has() || third.has() {
			t.Fatal("there are not two turns")
		}
		fourth.cancel() // it no longer waits, and its place is nobody's
		turns.give()
		if !third.has() || fifth.has() {
			t.Error("the third is not the next")
		}
		turns.give()
		if !fifth.has() {
			t.Error("the fifth is not the next")
		}
		turns.give()
		turns.give()
		if turns.taken != 0 || len(turns.queue) != 0 {
			t.Errorf("%d turns taken, %d wait", turns.taken, len(turns.queue))
		}
	})
}

func TestRequestsAreLeftACore(t *testing.T) {
	f := func(most, whileAsked int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			turns := &turns{most: most, now: time.Now}
			if got := turns.limit(); got != most {
				t.Errorf("without requests: %d turns of %d", got, most)
			}
			turns.makeWay(time.Now())
			if got := turns.limit(); got != whileAsked {
				t.Errorf("after a request: %d turns of %d, want %d", got, most, whileAsked)
			}
			time.Sleep(requestTime)
			if got := turns.limit(); got != most {
				t.Errorf("long after a request: %d turns of %d", got, most)
			}
		})
	}
	f(1, 1) // an import must go on all the same
	f(2, 1)
	f(8, 7)
}

// TestWaitersHearOfAHigherLimit: a limit grows because time passes, which wakes
// nobody; the next turn that ends serves all for whom there is room.
func TestWaitersHearOfAHigherLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turns{most: 3, now: time.Now}
		turns.makeWay(time.Now())
		takers := []*turnTaker{turns.takeLater(), turns.takeLater(), turns.takeLater(), turns.takeLater()}
		if !takers[0].has() || !takers[1].has() || takers[2].has() {
			t.Fatal("there are not two turns while requests come")
		}
		time.Sleep(requestTime)
		turns.give()
		if !takers[2].has() || !takers[3].has() {
			t.Error("two could go on")
		}
	})
}

func TestTurnGivenToOneThatLeavesGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := &turns{most: 1, now: time.Now}
		if err := turns.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		left := make(chan error, 1)
		go func() { left <- turns.take(ctx) }()
		synctest.Wait()
		next := turns.takeLater()
		// Both happen before the one that waits can run: it may see either.
		turns.mu.Lock()
		cancel(errStopped)
		turns.taken--
		turns.handOn()
		turns.mu.Unlock()
		if err := <-left; err == nil {
			turns.give()
		} else if !errors.Is(err, errStopped) {
			t.Errorf("who leaves hears %v", err)
		}
		if !next.has() {
			t.Error("the turn is lost")
		}
	})
}
