package bulk

import (
	"sync"
	"time"
)

// Endings of jobs, as JobEnd has them.
const (
	EndCompleted = "completed"
	EndFailed    = "failed"
	EndCancelled = "cancelled"
	EndExpired   = "expired" // what an ended export had left is removed
)

// JobEnd tells what became of a job. No client asks for it when it happens.
type JobEnd struct {
	ID     int64
	Import bool   // else an export
	Owner  string // who began it; "": an open server's client
	At     time.Time
	Ending string
	Status int // of HTTP, why it failed; 0: it did not
}

// jobEndsMax bounds the ends that wait until somebody listens: all jobs that a former
// process left could end before somebody does. More are not told.
const jobEndsMax = 10_000

// jobEnds are for one listener.
type jobEnds struct {
	mu      sync.Mutex // guards what follows
	listen  func(JobEnd)
	waiting []JobEnd
}

// ListenEnds has fn hear of every end from now on, and of those that were before it; it
// must not call the manager. One listener is enough; nil ends that, and nobody waits.
func (m *Manager) ListenEnds(fn func(JobEnd)) {
	m.ends.mu.Lock()
	defer m.ends.mu.Unlock()
	if m.ends.listen = fn; fn == nil {
		return
	}
	for _, end := range m.ends.waiting {
		fn(end)
	}
	m.ends.waiting = nil
}

func (m *Manager) tellEnd(end JobEnd) {
	end.At = m.opts.Now()
	m.ends.mu.Lock()
	defer m.ends.mu.Unlock()
	switch {
	case m.ends.listen != nil:
		m.ends.listen(end)
	case len(m.ends.waiting) < jobEndsMax:
		m.ends.waiting = append(m.ends.waiting, end)
	}
}

// tellImport tells how an import ended.
func (m *Manager) tellImport(r *importRecord) {
	end := JobEnd{ID: r.ID, Import: true, Owner: r.Request.Owner, Ending: EndCompleted}
	switch r.State {
	case Cancelled:
		end.Ending = EndCancelled
	case Failed:
		end.Ending, end.Status = EndFailed, r.Error.Status
	}
	m.tellEnd(end)
}

// tellExport tells how an export ended.
func (m *Manager) tellExport(r *exportRecord, ending string) {
	end := JobEnd{ID: r.ID, Owner: r.Request.Owner, Ending: ending}
	if ending == EndFailed {
		end.Status = r.Error.Status
	}
	m.tellEnd(end)
}
