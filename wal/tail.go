package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// ReadAt fills dst from a position that Append or replay gave out, with Inner set by
// the caller. The caller verifies the bytes. ErrTrimmed says
// that the segment is gone.
func (l *Log) ReadAt(dst []byte, at Position) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return ErrClosed
	}
	oldest := l.segments[0].header.number
	if at.Segment < oldest {
		return fmt.Errorf("cannot read the log at segment %d: %w", at.Segment, ErrTrimmed)
	}
	i := at.Segment - oldest
	if i >= uint64(len(l.segments)) || int64(at.Offset)+int64(at.Inner)+int64(len(dst)) > l.segments[i].bytes {
		return fmt.Errorf("cannot read %d bytes of the log at segment %d offset %d: past its end", len(dst), at.Segment, int64(at.Offset)+int64(at.Inner))
	}
	return l.opener.readAt(l.segments[i], dst, at)
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// Tail calls fn in order for every record with LSN >= from that was durable when
// Tail was called. It fails with ErrTrimmed when from is no longer in the log.
// fn may call the log's methods, but not Close.
func (l *Log) Tail(ctx context.Context, from LSN, fn func(Record) error) error {
	last := l.LastLSN()
	segments, err := l.segmentsFrom(from)
	if err != nil || from > last {
		return err
	}
	for i, s := range segments {
		upto := last
		if i+1 < len(segments) {
			upto = min(last, segments[i+1].header.firstLSN-1)
		}
		if max(from, s.header.firstLSN) > upto {
			continue // it became live after last was read, or holds nothing wanted
		}
		if err := l.tailSegment(ctx, s, from, upto, fn); err != nil {
			return err
		}
	}
	return nil
}

// segmentsFrom is a copy of the segments that hold LSN from and later.
func (l *Log) segmentsFrom(from LSN) ([]segment, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, ErrClosed
	}
	if from < l.segments[0].header.firstLSN {
		return nil, fmt.Errorf("cannot read the log from LSN %d: %w", from, ErrTrimmed)
	}
	var segments []segment
	for _, s := range l.segments[l.wholeBelow(from):] {
		segments = append(segments, *s)
	}
	return segments, nil
}

// tailSegment reads through a handle of its own, so that Trim can close the
// log's while a slow reader is on its way.
func (l *Log) tailSegment(ctx context.Context, s segment, from, upto LSN, fn func(Record) error) error {
	var err error
	if s.file, err = l.opts.FS.Open(s.name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrTrimmed
		}
		return fmt.Errorf("cannot read segment %q: %w", s.name, err)
	}
	defer s.file.Close()
	return s.walkUpto(ctx, from, upto, fn)
}

// walkUpto ends at the last wanted record: what follows may be being written.
func (s *segment) walkUpto(ctx context.Context, from, upto LSN, fn func(Record) error) error {
	seen := from - 1
	w, err := newSegmentReader(s).walk(ctx, s.start(), from, func(r Record) error {
		if err := fn(r); err != nil {
			return err
		}
		if seen = r.LSN; seen == upto {
			return errEnough
		}
		return nil
	})
	if err == errEnough {
		return nil
	}
	if err == nil {
		err = s.corrupt(w.at.offset, fmt.Sprintf("the records from LSN %d to %d cannot be read (%v)", w.at.lsn, upto, w.fault.err))
	}
	return err
}

// Trim removes the segments that hold only records below upto. The newest
// segment always stays. After an error the log is whole, and a later Trim goes on.
func (l *Log) Trim(upto LSN) error {
	l.trimMu.Lock()
	defer l.trimMu.Unlock()
	for {
		s, err := l.trimmable(upto)
		if s == nil || err != nil {
			return err
		}
		if err := l.removeOldest(s); err != nil {
			return fmt.Errorf("cannot trim segment %q: %w", s.name, err)
		}
	}
}

// trimmable is the oldest segment if nothing in it is wanted.
func (l *Log) trimmable(upto LSN) (*segment, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, ErrClosed
	}
	if l.wholeBelow(upto) == 0 {
		return nil, nil
	}
	return l.segments[0], nil
}

// removeOldest makes each removal durable before the next can begin: a later one
// that survived a power cut alone would look like a missing segment. The segment
// leaves the list last, so that a removal that failed is tried again first.
func (l *Log) removeOldest(s *segment) error {
	if err := l.opts.FS.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := l.opts.FS.SyncDir(l.opts.Dir); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil // Close has closed the file
	}
	l.segments = slices.Clone(l.segments[1:])
	return s.file.Close()
}
