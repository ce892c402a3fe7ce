package wal

import (
	"context"
	"errors"
	"fmt"

	"kiln/internal/vfs"
)

// Summary is what reading a whole log found.
type Summary struct {
	Segments     int
	Bytes        int64 // of the segment files
	Records      int64
	PayloadBytes int64
	// FirstLSN is the oldest record's, or the next one's when there is none;
	// LastLSN is the newest's, FirstLSN-1 when there is none.
	FirstLSN, LastLSN LSN
	// TornBytes are behind the last record of the newest segment; they go when
	// the log is opened.
	TornBytes int64
	// Damaged is how many places Verify reported.
	Damaged int
}

// Dump calls fn for every record of the log in dir, in order, without opening it
// for writing. It stops at damage with a *vfs.CorruptError. The log should not be
// open elsewhere: a record being written looks torn.
func Dump(ctx context.Context, fsys vfs.FS, dir string, fn func(Record) error) (Summary, error) {
	var sum Summary
	segments, err := openForReading(fsys, dir)
	if err != nil {
		return sum, err
	}
	defer closeAll(segments)
	for i, s := range segments {
		r := newSegmentReader(s)
		w, err := r.walk(ctx, s.start(), 0, fn)
		sum.add(s, w)
		if err != nil {
			return sum, err
		}
		t, err := r.judge(w, following(segments, i))
		if err != nil {
			return sum, err
		}
		sum.TornBytes += t.upto - w.at.offset
	}
	return sum, nil
}

func openForReading(fsys vfs.FS, dir string) ([]*segment, error) {
	list, err := listDir(fsys, dir)
	if err == nil && len(list.segments) == 0 {
		err = ErrNoLog
	}
	var segments []*segment
	if err == nil {
		segments, err = openSegments(fsys, dir, list.segments, false)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the log in %q: %w", dir, err)
	}
	return segments, nil
}

func closeAll(segments []*segment) {
	for _, s := range segments {
		_ = s.file.Close() // only read from
	}
}

func following(segments []*segment, i int) *segment {
	if i+1 < len(segments) {
		return segments[i+1]
	}
	return nil
}

func (sum *Summary) add(s *segment, w walked) {
	if sum.Segments == 0 {
		sum.FirstLSN = s.header.firstLSN
	}
	sum.Segments++
	sum.Bytes += s.bytes
	sum.addRecords(w)
}

func (sum *Summary) addRecords(w walked) {
	sum.Records += w.records
	sum.PayloadBytes += w.payloadBytes
	sum.LastLSN = w.at.lsn - 1
}

// Verify reads every byte of the log in dir, calls report with every damage it
// finds, and goes on behind it where it can. The error is one that kept it from
// reading. Like Dump it does not open the log for writing.
func Verify(ctx context.Context, fsys vfs.FS, dir string, report func(error)) (Summary, error) {
	v := &verifier{report: report}
	list, err := listDir(fsys, dir)
	if err == nil && len(list.segments) == 0 {
		err = ErrNoLog
	}
	if err != nil {
		return v.sum, fmt.Errorf("cannot read the log in %q: %w", dir, err)
	}
	var segments []*segment
	defer func() { closeAll(segments) }()
	for _, number := range list.segments {
		opened, err := openSegments(fsys, dir, []uint64{number}, false)
		if v.damaged(err) {
			continue
		}
		if err != nil {
			return v.sum, err
		}
		segments = append(segments, opened...)
	}
	for i, s := range segments {
		if i > 0 {
			v.damaged(s.follows(segments[i-1]))
		}
		if err := v.segment(ctx, s, following(segments, i)); err != nil {
			return v.sum, err
		}
	}
	return v.sum, nil
}

type verifier struct {
	report func(error)
	sum    Summary
}

// damaged reports err and returns true when it is about the bytes on the disk.
func (v *verifier) damaged(err error) bool {
	var corrupt *vfs.CorruptError
	if !errors.As(err, &corrupt) && !errors.Is(err, ErrNewerFormat) {
		return false
	}
	v.sum.Damaged++
	v.report(err)
	return true
}

func (v *verifier) segment(ctx context.Context, s, next *segment) error {
	if next != nil && next.follows(s) != nil {
		next = &segment{header: segmentHeader{firstLSN: next.header.firstLSN}} // what it carries on from is gone
	}
	r := newSegmentReader(s)
	v.sum.add(s, walked{at: s.start()})
	for at, more := s.start(), true; more; {
		w, err := r.walk(ctx, at, 0, func(Record) error { return nil })
		v.sum.addRecords(w)
		if err != nil {
			return err
		}
		t, err := r.judge(w, next)
		if err == nil {
			v.sum.TornBytes += t.upto - w.at.offset
			return nil
		}
		if !v.damaged(err) {
			return err
		}
		if at, more, err = r.resync(w); err != nil {
			return err
		}
	}
	return nil
}

// resync is the place of the next whole record behind a bad one.
func (r *segmentReader) resync(w walked) (at place, found bool, err error) {
	if w.fault.err == errPayloadCRC || w.fault.err == errPadding || w.fault.err == errUnauthentic {
		return w.fault.header.after(w.at), true, nil
	}
	h, offset, found, err := r.laterRecord(w.at.offset, w.at.lsn)
	// What the record says about the one before it is all that is left of that.
	return place{offset: offset, lsn: h.lsn, crc: uint32(h.chain)}, found, err
}
