package bulk

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// turns share the cores among the goroutines of all jobs: one holds a
// turn while it computes, and waits for none of the others meanwhile. Turns are
// given in the order of asking, so that no job waits for another's end. Without
// them two jobs would run twice as many goroutines as there are cores, and a
// request would wait behind all of them: every step of its way (reading from
// the connection, the log's sync) needs a core again.
type turns struct {
	most    int              // turns at a time: Options.Workers
	now     func() time.Time // Options.Now
	request atomic.Int64     // when a client last asked for something, UTC nanoseconds
	waited  atomic.Int64     // nanoseconds that takers spent in the queue

	mu    sync.Mutex // guards what follows
	taken int
	queue []chan struct{} // who waits, the first to be served first; closed with the turn given
}

// requestTime is how long after a request a core is left free: far longer than
// between the requests of a client that works, and nothing to a job that one
// request interrupts.
const requestTime = 100 * time.Millisecond

// makeWay notes that a client asked for something.
func (t *turns) makeWay(at time.Time) { t.request.Store(at.UnixNano()) }

// limit is how many turns there are now: one less while clients ask.
func (t *turns) limit() int {
	since := t.now().UnixNano() - t.request.Load()
	if t.most > 1 && since < int64(requestTime) {
		return t.most - 1
	}
	return t.most
}

// Turn waits until the caller may compute beside the jobs; call give soon, and before
// anything is waited for.
func (m *Manager) Turn(ctx context.Context) (give func(), err error) {
	if err := m.turns.take(ctx); err != nil {
		return nil, err
	}
	return m.turns.give, nil
}

// take waits for a turn. give ends it.
func (t *turns) take(ctx context.Context) error {
	t.mu.Lock()
	if t.taken < t.limit() && len(t.queue) == 0 {
		t.taken++
		t.mu.Unlock()
		return nil
	}
	given := make(chan struct{})
	t.queue = append(t.queue, given)
	t.mu.Unlock()
	began := t.now()
	defer func() { t.waited.Add(max(0, int64(t.now().Sub(began)))) }()
	select {
	case <-given:
		return nil
	case <-ctx.Done():
	}
	t.leave(given)
	return context.Cause(ctx)
}

// leave gives up waiting; a turn that was given meanwhile goes on to the next.
func (t *turns) leave(given chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, waits := range t.queue {
		if waits == given {
			t.queue = append(t.queue[:i], t.queue[i+1:]...)
			return
		}
	}
	t.taken--
	t.handOn()
}

// give ends a turn.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken--; t.taken < 0 {
		panic("BUG: a turn ends that was not taken")
	}
	t.handOn()
}

// handOn serves who waits. A limit that has grown is noticed here: somebody
// holds a turn as long as anybody waits. mu is held.
func (t *turns) handOn() {
	for len(t.queue) > 0 && t.taken < t.limit() {
		close(t.queue[0])
		t.queue = t.queue[1:]
		t.taken++
	}
}
