package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// dirList is what the log's directory holds.
type dirList struct {
	segments []uint64 // numbers, ascending
	prepared []string // base names
}

func listDir(fsys vfs.FS, dir string) (dirList, error) {
	names, err := fsys.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return dirList{}, err
	}
	var list dirList
	for _, name := range names {
		if number, ok := parseSegmentName(name); ok {
			list.segments = append(list.segments, number)
		} else if isPreparedName(name) {
			list.prepared = append(list.prepared, name)
		} else {
			return dirList{}, fmt.Errorf("%w: %q", ErrForeign, name)
		}
	}
	slices.Sort(list.segments)
	return list, nil
}

// recover opens the segments, judges them, replays, and repairs the torn tail
// last: whatever is refused is refused before anything is written.
func (l *Log) recover(ctx context.Context, dir dirList, from LSN, replay func(Record) error) error {
	var err error
	l.segments, err = openSegments(l.opts.FS, l.opts.Dir, dir.segments, !l.opts.ReadOnly)
	if err != nil {
		return err
	}
	if oldest := l.segments[0]; oldest.header.firstLSN > from {
		return oldest.corrupt(0, fmt.Sprintf("the log begins at LSN %d, the records from LSN %d are missing",
			oldest.header.firstLSN, from))
	}
	skip := l.wholeBelow(from)
	for i := skip; i < len(l.segments)-1; i++ {
		if err := walkSealed(ctx, l.segments[i], l.segments[i+1], from, replay); err != nil {
			return err
		}
	}
	return l.recoverNewest(ctx, from, replay)
}

func (l *Log) recoverNewest(ctx context.Context, from LSN, replay func(Record) error) error {
	s := l.segments[len(l.segments)-1]
	r := newSegmentReader(s)
	w, err := r.walk(ctx, s.start(), from, replay)
	if err != nil {
		return err
	}
	tail, err := r.judge(w, nil)
	if err != nil {
		return err
	}
	if w.at.lsn < from { // the row below the table
		return s.corrupt(w.at.offset, fmt.Sprintf("the log ends at LSN %d, but LSN %d was in it", w.at.lsn-1, from-1))
	}
	if err := l.opts.replayed(); err != nil {
		return err
	}
	if !l.opts.ReadOnly {
		if err := r.repair(w, tail); err != nil {
			return err
		}
	}
	l.active, l.end = s, w.at
	l.last.Store(uint64(w.at.lsn) - 1)
	return nil
}

// wholeBelow is how many of the oldest segments hold only records below lsn.
func (l *Log) wholeBelow(lsn LSN) int {
	n := 0
	for n+1 < len(l.segments) && l.segments[n+1].header.firstLSN <= lsn {
		n++
	}
	return n
}

// openSegments opens the numbered segments and checks their headers and that
// they follow each other. On an error nothing stays open.
func openSegments(fsys vfs.FS, dir string, numbers []uint64, writable bool) (segments []*segment, err error) {
	defer func() {
		if err != nil {
			for _, s := range segments {
				_ = s.file.Close()
			}
			segments = nil
		}
	}()
	for i, number := range numbers {
		s := &segment{name: segmentPath(dir, number), opener: newOpener(sealed.KeysOf(fsys))}
		open := fsys.Open
		if writable && i == len(numbers)-1 {
			open = fsys.OpenWrite
		}
		if s.file, err = open(s.name); err != nil {
			return segments, err
		}
		segments = append(segments, s)
		if err = s.readHeader(number); err != nil {
			return segments, err
		}
		if i > 0 {
			if err = s.follows(segments[i-1]); err != nil {
				return segments, err
			}
		}
	}
	return segments, nil
}

func (s *segment) readHeader(number uint64) error {
	var err error
	if s.bytes, err = s.file.Bytes(); err != nil {
		return err
	}
	if s.bytes < segmentHeaderBytes {
		return s.corrupt(s.bytes, errSegmentShort.Error())
	}
	raw, err := newSegmentReader(s).peek(0, segmentHeaderBytes)
	if err != nil {
		return err
	}
	if err := s.header.unmarshal(raw); errors.Is(err, ErrNewerFormat) {
		return fmt.Errorf("cannot read segment %q: %w", s.name, err)
	} else if err != nil {
		return s.corrupt(0, err.Error())
	}
	if err := s.header.validate(number); err != nil {
		return s.corrupt(0, err.Error())
	}
	return nil
}

// follows checks what the headers alone tell; walkSealed checks the rest.
func (s *segment) follows(before *segment) error {
	if s.header.number != before.header.number+1 {
		return s.corrupt(0, fmt.Sprintf("segments %d to %d are missing before it, with the records from LSN %d or later to %d",
			before.header.number+1, s.header.number-1, before.header.firstLSN, s.header.firstLSN-1))
	}
	if s.header.firstLSN < before.header.firstLSN {
		return s.corrupt(0, fmt.Sprintf("it begins at LSN %d, the segment before it at LSN %d",
			s.header.firstLSN, before.header.firstLSN))
	}
	return nil
}

// walked is where a walk over a segment's records ended.
type walked struct {
	at    place // the first place without a valid record
	fault fault // what is there
	// synced is the highest offset that a record promised to be durable.
	synced int64
	// records and payloadBytes count what was walked over.
	records, payloadBytes int64
}

// walk goes over the valid records from a place on, calls fn for those from LSN
// from on, and stops at the first place without one.
func (r *segmentReader) walk(ctx context.Context, at place, from LSN, fn func(Record) error) (walked, error) {
	w := walked{at: at, synced: segmentHeaderBytes}
	for {
		if err := ctx.Err(); err != nil {
			return w, err
		}
		h, payload, f, err := r.record(w.at)
		if err != nil {
			return w, err
		}
		if f.err != nil {
			w.fault = f
			return w, nil
		}
		if h.lsn >= from {
			rec := r.seg.toRecord(w.at, &h, payload)
			rec.Key = r.key
			if err := fn(rec); err != nil {
				return w, err
			}
		}
		w.synced = max(w.synced, int64(h.syncedUpto))
		w.records++
		w.payloadBytes += int64(h.length)
		w.at = h.after(w.at)
	}
}

func (s *segment) toRecord(at place, h *recordHeader, payload []byte) Record {
	return Record{Type: h.typ, LSN: h.lsn, Position: s.payloadAt(at), Payload: payload}
}

// walkSealed walks a segment that another one follows.
func walkSealed(ctx context.Context, s, next *segment, from LSN, fn func(Record) error) error {
	r := newSegmentReader(s)
	w, err := r.walk(ctx, s.start(), from, fn)
	if err != nil {
		return err
	}
	_, err = r.judge(w, next)
	return err
}

// tail is what stands behind the last record of the newest segment.
type tail struct {
	torn bool
	// upto is the end of the bytes that are not zero.
	upto int64
}

// judge decides what the end of a walk means, by this table; the first row that
// applies counts. next is the segment that follows, nil for the newest.
//
//	row  at the first place without a valid record there is             verdict
//	---  ------------------------------------------------------------   ------------
//	 1   nothing but zeros, and this is the newest segment              end
//	 2   nothing but zeros, and the next segment carries on here        end
//	 3   a whole header with flags this program does not know           newer format
//	 4   anything else, and a segment follows                           damage
//	 5   a whole header or payload that cannot stand here (LSN, chain,  damage
//	     length, promise or padding wrong)
//	 6   something, and a later record promises a durable offset        damage
//	     beyond this place
//	 7   a record that the written bytes end within, 8 bytes or more    torn
//	     before its end
//	 8   a record with a sector of zeros where it should have bytes     torn
//	 9   something else: bytes were there and have changed              damage
//
// A torn write leaves each sector whole, as it was (zeros, since segments are
// preallocated and never used twice; zeros written ahead are no others) or as it
// became; a write cut short leaves zeros behind it. Records behind the torn one
// may have survived: all of one batch is in flight at once. They promise nothing
// beyond the batch's beginning and go with it; none was acknowledged. One more
// row is the caller's (see recoverNewest): a log that ends below what a
// checkpoint knows was in it is damaged, whatever the end looks like.
func (r *segmentReader) judge(w walked, next *segment) (tail, error) {
	x := w.at.offset
	lastByte, err := r.lastNonZero(x)
	if err != nil {
		return tail{}, err
	}
	clean := lastByte < x
	switch {
	case clean && next == nil: // row 1
		return tail{upto: x}, nil
	case clean && next.header.firstLSN == w.at.lsn && next.header.chain == w.at.crc: // row 2
		return tail{upto: x}, nil
	case errors.Is(w.fault.err, ErrNewerFormat): // row 3
		return tail{}, fmt.Errorf("cannot read segment %q at offset %d: %w", r.seg.name, x, w.fault.err)
	}
	later, err := r.later(x, w.at.lsn)
	if err != nil {
		return tail{}, err
	}
	if next != nil || w.fault.headerOK && w.fault.err != errPayloadCRC || later.promised { // rows 4, 5, 6
		return tail{}, r.damage(w, later, next)
	}
	torn, err := r.tornAt(w, lastByte)
	if err != nil {
		return tail{}, err
	}
	if !torn { // row 9
		return tail{}, r.damage(w, later, next)
	}
	return tail{torn: true, upto: lastByte + 1}, nil // rows 7 and 8
}

// later is what whole record headers behind a bad place tell.
type later struct {
	promised bool // one says that the place was durable
	// first and last are the lowest and highest LSN seen, 0 when there is none.
	first, last LSN
}

func (r *segmentReader) later(x int64, lsn LSN) (later, error) {
	var l later
	for at := x; ; {
		h, offset, found, err := r.laterRecord(at, lsn)
		if err != nil || !found {
			return l, err
		}
		if l.first == 0 {
			l.first = h.lsn
		}
		l.last = max(l.last, h.lsn)
		l.promised = l.promised || h.syncedUpto > uint64(x)
		at = offset
	}
}

// damage names the place, the LSNs that are lost there and how far the log goes on.
func (r *segmentReader) damage(w walked, l later, next *segment) error {
	lost, goesOn := w.at.lsn, w.at.lsn
	if l.first > 0 {
		lost, goesOn = l.first-1, l.last
	} else if next != nil {
		lost = max(lost, next.header.firstLSN-1)
	}
	if next != nil {
		goesOn = max(goesOn, next.header.firstLSN)
	}
	what := fmt.Sprintf("the record of LSN %d is damaged", w.at.lsn)
	if lost > w.at.lsn {
		what = fmt.Sprintf("the records from LSN %d to %d are damaged", w.at.lsn, lost)
	}
	if goesOn > lost {
		what += fmt.Sprintf(", and the log goes on to at least LSN %d", goesOn)
	}
	if w.fault.end {
		return r.seg.corrupt(w.at.offset, what+" (zeros where a record should be)")
	}
	return r.seg.corrupt(w.at.offset, fmt.Sprintf("%s (%v)", what, w.fault.err))
}

// shortWriteBytesMin is how much must be missing at a record's end to say that the
// write was cut short: more than a flipped bit can fake.
const shortWriteBytesMin = 8

// tornAt is rows 7 and 8 for the record at the end of a walk. Of a record with a
// bad header only the header is known to be its own; of one with a good header,
// the header's sectors were written.
func (r *segmentReader) tornAt(w walked, lastByte int64) (bool, error) {
	from, to := w.at.offset, w.at.offset+recordHeaderBytes
	if w.fault.headerOK {
		from = (to + sectorBytes - 1) / sectorBytes * sectorBytes
		to += int64(w.fault.header.length)
	}
	if lastByte+1+shortWriteBytesMin <= to { // row 7
		return true, nil
	}
	return r.hasZeroSector(from, to) // row 8
}

// repair makes the end of the newest segment durable and clean: zeros go over a
// torn tail, and the records that no later record promised are written again
// and synced. They may be in the page cache alone: after a process died before
// its sync, or after a sync failed, in which case the kernel takes the pages for
// clean and only a new write brings them to the disk.
func (r *segmentReader) repair(w walked, t tail) error {
	end := w.at.offset
	if w.synced >= t.upto {
		return nil
	}
	for at := w.synced; at < end; {
		chunk, err := r.peek(at, int(min(readAheadBytes, end-at)))
		if err != nil {
			return err
		}
		if err := r.overwrite(chunk, at); err != nil {
			return err
		}
		at += int64(len(chunk))
	}
	for at := end; at < t.upto; {
		chunk := zeroBlock[:min(int64(len(zeroBlock)), t.upto-at)]
		if err := r.overwrite(chunk, at); err != nil {
			return err
		}
		at += int64(len(chunk))
	}
	if err := r.seg.file.SyncData(); err != nil {
		return fmt.Errorf("cannot sync segment %q: %w", r.seg.name, err)
	}
	return nil
}

func (r *segmentReader) overwrite(chunk []byte, at int64) error {
	if _, err := r.seg.file.WriteAt(chunk, at); err != nil {
		return fmt.Errorf("cannot repair the tail of segment %q at offset %d: %w", r.seg.name, at, err)
	}
	return nil
}
