package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"kiln/wal"
)

// The committer is whoever holds Store.turn: it alone appends to the log and
// changes the state. Two kinds of work reach commitLoop:
//
//   - commits: requests that are grouped, one append and one fsync a group.
//     While the fsync runs, the next group gathers in the channel; that is the
//     whole group-commit mechanism, no timer.
//   - slots: functions that run alone between two groups (turning over the
//     head, publishing runs, taking a consistent picture for a checkpoint).
//
// A caller of Commit who finds the turn free takes it himself (commitAlone): each
// hand-over between goroutines wakes threads, and a lone writer waits for that.
//
// When the head is twice its size and a flush is on its way, commits wait and
// slots go on, so that the flush can publish.

const (
	// commitQueueRequests is how many requests wait at most; more wait in the
	// channel's senders. A group never has more.
	commitQueueRequests = 1024
	// groupBytesMax ends a group early: 8 MiB take about as long to write as
	// an fsync.
	groupBytesMax = 8 << 20
	// queuedBytesMax bounds the bodies of all waiting Commits together. It must
	// be at least wal.PayloadBytesMax.
	queuedBytesMax = 4 * wal.PayloadBytesMax
)

// slotOp is a function for the slot.
type slotOp struct {
	run  func() error
	done chan error
}

// inSlot runs fn in the committer, between two groups. ctx counts only until
// fn is taken up.
func (s *Store) inSlot(ctx context.Context, fn func() error) error {
	op := slotOp{run: fn, done: make(chan error, 1)}
	select {
	case s.slots <- op:
		return <-op.done
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopping:
		return ErrClosed
	}
}

func (s *Store) commitLoop() {
	defer close(s.stopped)
	for commits := s.commits; ; {
		stall := false
		select {
		case <-s.stopping:
			s.turn.Lock() // for good: nobody commits any more
			return
		case op := <-s.slots:
			var err error
			stall = s.inTurn(func() { err = op.run() })
			op.done <- err
		case r := <-commits:
			stall = s.inTurn(func() { s.commitGroup(s.gather(r)) })
		}
		switch {
		case !stall:
			commits = s.commits
		case commits != nil:
			commits = nil
			s.stats.stalls.Add(1)
		}
	}
}

// inTurn does a piece of work in the slot and tells whether commits must wait
// then. One that is made alone may fill the head later; then one group more
// than should gets in.
func (s *Store) inTurn(work func()) (stall bool) {
	s.turn.Lock()
	defer s.turn.Unlock()
	work()
	return s.mustStall()
}

// commitAlone commits a request in its caller's goroutine if nobody else wants to
// commit. A broken invariant ends the process here too: a caller may recover
// from panics, and the state would be half changed.
func (s *Store) commitAlone(r *request) bool {
	if len(s.commits) > 0 || !s.turn.TryLock() {
		return false
	}
	whole := false
	defer func() {
		if !whole {
			reason, stack := recover(), debug.Stack()
			go func() { panic(fmt.Sprintf("%v\n\nwhile committing:\n%s", reason, stack)) }()
			select {}
		}
		s.turn.Unlock()
	}()
	stalled := s.mustStall()
	if !stalled {
		s.commitGroup(s.gather(r))
	}
	whole = true
	return !stalled
}

// mustStall: the head is at twice its size and a flush will make room. Slot only.
func (s *Store) mustStall() bool {
	return s.headFull() && s.flushErr == nil && !s.opts.PrepareInline
}

// headFull: one generation waits for its flush and the next is full as well.
func (s *Store) headFull() bool {
	v := s.view
	return len(v.gens) > 1 && v.active().isFull(s.opts.HeadBytes)
}

// gather takes what waits behind the first request, within the group's bounds.
func (s *Store) gather(first *request) []*request {
	group := s.group[:0]
	bytes := int64(0)
	for r := first; ; {
		if r.state.CompareAndSwap(requestQueued, requestTaken) {
			group = append(group, r)
			bytes += r.bytes
		}
		if len(group) >= commitQueueRequests || bytes >= groupBytesMax {
			break
		}
		select {
		case r = <-s.commits:
			continue
		default:
		}
		break
	}
	s.group = group
	return group
}

// refuseWrites is the reason why nothing can be written now; nil: it can.
func (s *Store) refuseWrites() error {
	if s.opts.ReadOnly {
		return ErrOpenedReadOnly
	}
	if err := s.poison.Load(); err != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, *err)
	}
	if err := s.refuseLongLog(); err != nil {
		return err
	}
	return s.CheckRoom(s.opts.Dir)
}

// refuseLongLog refuses what would make a log longer that cannot be trimmed, and has
// that tried again. Flushes go on: what they append is short.
func (s *Store) refuseLongLog() error {
	failed := s.checkpointErr.Load()
	if failed == nil || s.log.Bytes() < logHeadsMax*max(s.opts.HeadBytes, s.opts.SegmentBytes) {
		return nil
	}
	s.kickFlush()
	reason := ErrReadOnly
	if errors.Is(*failed, ErrNoSpace) {
		reason = ErrNoSpace
	}
	return fmt.Errorf("%w: the log has %d bytes and cannot be trimmed: %w", reason, s.log.Bytes(), *failed)
}

// refuseCommits adds the case of a head that cannot be flushed: it must not
// grow without bound.
func (s *Store) refuseCommits() error {
	if err := s.refuseWrites(); err != nil {
		return err
	}
	if !s.headFull() || s.flushErr == nil {
		return nil
	}
	s.kickFlush()
	reason := ErrReadOnly
	if errors.Is(s.flushErr, ErrNoSpace) {
		reason = ErrNoSpace
	}
	return fmt.Errorf("%w: the head is full and cannot be flushed: %w", reason, s.flushErr)
}

// append writes records to the log. Any error but ErrOutcomeUnknown says that
// nothing was written; after that one the store takes no more writes.
func (s *Store) append(entries []wal.Entry) ([]wal.Placed, error) {
	next := uint64(s.log.LastLSN()) + 1
	placed, err := s.log.Append(entries)
	switch {
	case errors.Is(err, wal.ErrOutcomeUnknown):
		return nil, s.fail(err)
	case errors.Is(err, wal.ErrPoisoned):
		return nil, fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, wal.ErrNoSpace):
		return nil, fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, wal.ErrTooLarge):
		return nil, fmt.Errorf("%w: %w", ErrTooLarge, err)
	case err != nil:
		return nil, fmt.Errorf("cannot write to the log: %w", err) // nothing was written
	}
	for i := range placed {
		if uint64(placed[i].LSN) != next+uint64(i) {
			panic(fmt.Sprintf("BUG: record %d of a group that begins at LSN %d got LSN %d", i, next, placed[i].LSN))
		}
	}
	return placed, nil
}

// fail makes the store read-only for good and returns "outcome unknown".
func (s *Store) fail(err error) error {
	if s.poison.CompareAndSwap(nil, &err) {
		s.opts.Logger.Error("the store takes no more writes until it is opened again", "error", err)
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// publish makes lsn visible, after everything up to it is applied.
func (s *Store) publish(lsn uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lsn < s.visible {
		panic("BUG: the visible LSN goes back")
	}
	s.visible = lsn
}
