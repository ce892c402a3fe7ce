package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/cespare/xxhash/v2"

	"kiln/internal/vfs"
	"kiln/wal"
)

const (
	// checkpointsKept: should the newest be damaged, the older one and the log
	// above it give the same state.
	checkpointsKept = 2
	// checkpointIngestsMax: so many imports without a checkpoint make the next
	// open slow (each opens its runs and applies its marks one by one).
	checkpointIngestsMax = 64
	// logHeadsMax full heads (1 GiB) may be in the log while no checkpoint can be written
	// or no log removed; with a disk that works there are two to four. A start reads
	// all of it.
	logHeadsMax = 16
)

// checkpoint writes the state to a file and trims the log. flushMu is held. Why the
// last one failed is kept: it bounds the log (refuseWrites), and health tells.
func (s *Store) checkpoint(ctx context.Context) error {
	err := s.writeCheckpoint(ctx)
	switch {
	case err == nil:
		s.checkpointErr.Store(nil)
	case ctx.Err() == nil && !errors.Is(err, ErrClosed):
		s.checkpointErr.Store(&err)
	}
	return err
}

func (s *Store) writeCheckpoint(ctx context.Context) error {
	var c *checkpointFile
	if err := s.inSlot(ctx, func() error {
		if s.visible != s.checkpointRecord && s.visible != 0 {
			c = s.capture()
		}
		return nil
	}); err != nil {
		return err
	}
	if c == nil { // nothing happened since the last one
		return s.trimLog()
	}
	data, err := c.marshal()
	if err != nil {
		return err
	}
	name := path.Join(s.path(checkpointsDir), checkpointFileName(c.lsn))
	if err := s.withRelief(func() error { return noSpace(vfs.WriteFileAtomic(s.opts.FS, name, data)) }); err != nil {
		return fmt.Errorf("cannot write a checkpoint: %w", err)
	}
	rec := checkpointRecord{lsn: c.lsn, flushed: c.flushed, hash: xxhash.Sum64(data)}
	err = s.inSlot(ctx, func() error { return s.logCheckpoint(rec) })
	if err != nil && !errors.Is(err, ErrNoSpace) {
		return err
	}
	// Without space the record is left out: nobody needs it to replay, and the
	// trimming below is what gives space back.
	s.addCheckpoint(checkpointMark{lsn: c.lsn, flushed: c.flushed})
	s.foldMarks()
	return errors.Join(s.dropOldCheckpoints(), s.trimLog())
}

// checkpointMark is a checkpoint file that exists.
type checkpointMark struct{ lsn, flushed uint64 }

// addCheckpoint notes a file. One of the same LSN, whose record found no space,
// had the same name and is gone.
func (s *Store) addCheckpoint(mark checkpointMark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := len(s.checkpoints) - 1; s.checkpoints[last].lsn == mark.lsn {
		s.checkpoints = s.checkpoints[:last]
	}
	s.checkpoints = append(s.checkpoints, mark)
}

// capture describes the state for a checkpoint that will be written. Slot only.
func (s *Store) capture() *checkpointFile {
	c := s.describe()
	s.flushed = c.flushed
	s.ingestsSinceCheckpoint = 0
	return c
}

// describe takes the state for a checkpoint. Slot only: nothing moves.
func (s *Store) describe() *checkpointFile {
	v := s.view
	empty := true
	for _, g := range v.gens {
		empty = empty && g.count.Load() == 0
	}
	c := &checkpointFile{
		storeID: s.format.storeID, lsn: s.visible, flushed: s.flushed, clock: s.clock.mark(),
		nextRun: s.nextRun.Load(), progress: maps.Clone(s.progress), fields: s.Fields(),
	}
	if empty {
		c.flushed = s.visible // nothing below needs a replay
	}
	for _, r := range v.runs {
		c.runs = append(c.runs, checkpointRun{
			meta: r.run.Meta(), publishLSN: r.publishLSN, kind: r.kind, rank: r.rank,
			superseded: r.superseded(s.visible), void: r.voidAt(s.visible),
		})
	}
	return c
}

func (s *Store) logCheckpoint(rec checkpointRecord) error {
	if s.poison.Load() != nil {
		return ErrReadOnly
	}
	placed, err := s.append([]wal.Entry{{Type: wal.TypeCheckpoint, Payload: rec.marshal()}})
	if err != nil {
		return err
	}
	s.checkpointRecord = uint64(placed[0].LSN)
	s.publish(s.checkpointRecord)
	return nil
}

// foldMarks moves supersessions that every live snapshot sees into the base bitmaps.
func (s *Store) foldMarks() {
	s.mu.Lock()
	oldest, v := s.visible, s.view
	for lsn := range s.snapshots {
		oldest = min(oldest, lsn)
	}
	v.refs++
	s.mu.Unlock()
	for _, r := range v.runs {
		r.fold(oldest)
	}
	s.mu.Lock()
	gone := s.unref(v)
	s.mu.Unlock()
	s.retire(gone)
}

// dropOldCheckpoints removes all files but the newest sound ones, durably: one that
// came back after a power cut would count as a spare, and its log is trimmed. So would
// one that this store does not count, because its write failed at the very end; and one
// that was found damaged is replaced by what comes after it.
func (s *Store) dropOldCheckpoints() error {
	kept := s.checkpoints[max(0, len(s.checkpoints)-checkpointsKept):]
	dir := s.path(checkpointsDir)
	names, err := s.opts.FS.List(dir)
	if err != nil {
		return fmt.Errorf("cannot list the checkpoints: %w", err)
	}
	for _, name := range names {
		lsn, ok := parseHexName(name, checkpointSuffix)
		if !ok || slices.ContainsFunc(kept, func(c checkpointMark) bool { return c.lsn == lsn }) {
			continue
		}
		if err := s.opts.FS.Remove(path.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove an old checkpoint: %w", err)
		}
	}
	if err := s.opts.FS.SyncDir(dir); err != nil { // always: a call before may have failed here
		return fmt.Errorf("cannot sync the directory of the checkpoints: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkpoints = kept
	return nil
}

// trimLog removes the log that neither checkpoint, nor any live view's head,
// needs.
func (s *Store) trimLog() error {
	s.mu.Lock()
	upto := s.checkpoints[0].flushed + 1
	s.mu.Unlock()
	if oldest, any := s.oldestNeeded(); any {
		upto = min(upto, oldest)
	}
	if err := s.log.Trim(wal.LSN(upto)); err != nil {
		return fmt.Errorf("cannot trim the log: %w", err)
	}
	return nil
}

// noSpace marks an error of a full disk as ErrNoSpace.
func noSpace(err error) error {
	if err != nil && vfs.IsNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
