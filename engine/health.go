package engine

import (
	"sync/atomic"
	"time"
)

// Health is what whoever looks after a store must know at once. It is told from
// memory: a disk that hangs does not keep it back.
type Health struct {
	OpenedReadOnly bool
	// Failed is the write to the log after which the store takes no more until it
	// is opened again; nil: none failed.
	Failed error
	// Checkpoint is why the last checkpoint was not written, or the log behind it not
	// trimmed; nil: it was. It is tried again with each flush.
	Checkpoint error
	// LogWait is how long the write to the log that is under way has been at it;
	// 0: none is. Stalls counts those that took longer than stallShown.
	LogWait time.Duration
	Stalls  uint64
	// Damages are the damaged places that are known, at most damagesMax; DamagedReads
	// counts how often one kept a client or a job from its data.
	Damages      []Damage
	DamagedReads uint64
	Scrub        Scrub
	Space        Space
}

// health is what the watcher found.
type health struct {
	// stalled: the write to the log that is under way was told of.
	stalled atomic.Bool
	stalls  atomic.Uint64
}

const (
	// stallShown is what a write to the log may take before it counts as stalled:
	// far above what a sync takes on a disk that works, and soon enough to be seen.
	stallShown = time.Second
	// watchInterval is between two looks of the watcher.
	watchInterval = 250 * time.Millisecond
)

// Health tells how the store is.
func (s *Store) Health() Health {
	h := Health{OpenedReadOnly: s.opts.ReadOnly, Stalls: s.health.stalls.Load(), Scrub: s.scrub.status(), Space: s.space.status()}
	h.Damages, h.DamagedReads = s.damages.list()
	if s.log != nil { // nil: it was never opened
		h.LogWait = s.log.Waiting()
	}
	if failed := s.poison.Load(); failed != nil {
		h.Failed = *failed
	}
	if failed := s.checkpointErr.Load(); failed != nil {
		h.Checkpoint = *failed
	}
	return h
}

// watchLoop looks at what nobody else would tell of while it lasts.
func (s *Store) watchLoop() {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stopping:
			return
		case <-ticker.C:
			s.watchLog()
		}
	}
}

// watchLog tells the log, once each, of a write to the log that does not end, and
// of its end.
func (s *Store) watchLog() {
	wait := s.log.Waiting()
	switch {
	case wait >= stallShown && !s.health.stalled.Swap(true):
		s.health.stalls.Add(1)
		s.opts.Logger.Warn("the data disk stalls: a write to the log does not end; writes wait, reads go on", "waiting", wait)
	case wait < stallShown && s.health.stalled.Swap(false):
		s.opts.Logger.Info("the data disk answers again")
	}
}

// Stalled tells that the write to the log takes longer than it should.
func (h Health) Stalled() bool { return h.LogWait >= stallShown }
