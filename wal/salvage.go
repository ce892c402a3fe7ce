package wal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/bits"
	"slices"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// Damage is a stretch of the log in which records were lost.
type Damage struct {
	File   string
	Offset int64
	What   string
	// From and To are the LSNs that were lost; To is 0 when nobody knows the last. Both
	// are 0 when no record is lost.
	From, To LSN
	// Type and Payload are of a single record whose header is whole, as its bytes
	// stand: they are not what was written. 0 and nil otherwise.
	Type    RecordType
	Payload []byte
}

// Salvage calls record for every whole record of the log in dir, in the order of
// LSNs, and damage for what lies between them. It changes nothing. Of a record
// with one wrong bit in its header, that bit is turned back: header, payload and
// place then check out, which no other header would. A torn tail is no damage.
// The error is that of a callback, or what kept it from reading.
func Salvage(ctx context.Context, fsys vfs.FS, dir string, record func(Record) error, damage func(Damage) error) error {
	s := &salvage{ctx: ctx, record: record, damage: damage}
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the log in %q: %w", dir, err)
	}
	var numbers []uint64
	for _, name := range names {
		if number, ok := parseSegmentName(name); ok {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	for i, number := range numbers {
		if err := s.file(fsys, dir, number, i+1 == len(numbers)); err != nil {
			return err
		}
	}
	return s.settle(0)
}

// salvage is one Salvage.
type salvage struct {
	ctx    context.Context
	record func(Record) error
	damage func(Damage) error
	next   LSN // after the last record; 0: none yet
	r      *segmentReader
	// pending is what ended a segment early: the next one tells how much is lost.
	pending *Damage
	damaged bool // something was lost
}

func (s *salvage) file(fsys vfs.FS, dir string, number uint64, newest bool) error {
	seg := &segment{name: segmentPath(dir, number), opener: newOpener(sealed.KeysOf(fsys))}
	var err error
	if seg.file, err = fsys.Open(seg.name); err != nil {
		return fmt.Errorf("cannot read segment %q: %w", seg.name, err)
	}
	defer seg.file.Close() // only read from
	if seg.bytes, err = seg.file.Bytes(); err != nil {
		return err
	}
	s.r = newSegmentReader(seg)
	if err := s.header(seg, number); err != nil {
		return err
	}
	if seg.header.firstLSN == 0 {
		return nil // nothing in it can be read
	}
	return s.segment(seg, newest)
}

// header finds the segment's id, which every record's checksum begins with. A
// header with one wrong bit is mended; without a header the first whole record
// tells the id.
func (s *salvage) header(seg *segment, number uint64) error {
	raw, err := s.r.peek(0, int(min(segmentHeaderBytes, seg.bytes)))
	if err != nil {
		return err
	}
	raw = slices.Clone(raw)
	err = seg.header.unmarshal(raw)
	if errors.Is(err, ErrNewerFormat) && crc32.Checksum(raw[:segmentCRCAt], castagnoli) == seg.header.crc {
		return fmt.Errorf("cannot read segment %q: %w", seg.name, err)
	}
	if err == nil {
		if err = seg.header.validate(number); err == nil {
			return nil
		}
	}
	if len(raw) == segmentHeaderBytes && eachBit(raw, func() bool {
		return seg.header.unmarshal(raw) == nil && seg.header.validate(number) == nil
	}) {
		return nil
	}
	what := err.Error()
	seg.header = segmentHeader{number: number}
	found, err := s.identify(seg)
	if err != nil {
		return err
	}
	if found {
		s.damaged = true
		return s.damage(Damage{File: seg.name, What: what + "; its records tell which segment it was"})
	}
	s.pending = &Damage{File: seg.name, What: what + ", and no record in it tells which segment it was", From: max(s.next, 1)}
	return nil
}

// eachBit turns each bit of b in turn until ok; the bit stays turned then.
func eachBit(b []byte, ok func() bool) bool {
	for i := range 8 * len(b) {
		b[i/8] ^= 1 << (i % 8)
		if ok() {
			return true
		}
		b[i/8] ^= 1 << (i % 8)
	}
	return false
}

// identify finds the id and the first LSN by the first record whose payload checks
// out, and a second one that agrees.
func (s *salvage) identify(seg *segment) (bool, error) {
	ids := map[uint32]LSN{}
	for at := int64(segmentHeaderBytes); at+recordHeaderBytes <= seg.bytes; at += recordAlign {
		raw, err := s.r.peek(at, recordHeaderBytes)
		if err != nil {
			return false, err
		}
		var h recordHeader
		_ = h.unmarshal(raw, 0) // for its fields
		if h.typ == 0 || h.typ > TypeFields || h.flags&^flagSealed != 0 || h.length == 0 || h.length > h.lengthMax() || at+h.bytes() > seg.bytes {
			continue
		}
		id, ok := seedOf(raw[:recordCRCAt], h.crc)
		if !ok {
			continue
		}
		if lsn, known := ids[id]; known && h.lsn > lsn {
			seg.header.id, seg.header.firstLSN = id, lsn
			return true, nil
		}
		payload, err := s.r.peek(at+recordHeaderBytes, int(h.length))
		if err != nil {
			return false, err
		}
		if crc32.Checksum(payload, castagnoli) == h.payloadCRC {
			ids[id] = h.lsn
		}
	}
	for id, lsn := range ids { // a segment of one record
		if len(ids) == 1 {
			seg.header.id, seg.header.firstLSN = id, lsn
			return true, nil
		}
	}
	return false, nil
}

// seedOf is the start value from which the CRC32C of b is sum. A checksum is linear
// in its start value, so 32 equations tell it.
func seedOf(b []byte, sum uint32) (uint32, bool) {
	base := crc32.Update(0, castagnoli, b)
	want := sum ^ base
	var rows, seeds [32]uint32 // echelon form: rows[k] has bit k as its highest
	for i := range 32 {
		row, seed := crc32.Update(1<<i, castagnoli, b)^base, uint32(1)<<i
		for k := 31; k >= 0 && row != 0; k-- {
			if row>>k&1 == 0 {
				continue
			}
			if rows[k] == 0 {
				rows[k], seeds[k] = row, seed
				break
			}
			row, seed = row^rows[k], seed^seeds[k]
		}
	}
	seed := uint32(0)
	for k := 31; k >= 0; k-- {
		if want>>k&1 == 1 {
			want, seed = want^rows[k], seed^seeds[k]
		}
	}
	return seed, want == 0
}

// segment goes over the records of a segment whose id is known.
func (s *salvage) segment(seg *segment, newest bool) error {
	at := seg.start()
	if s.pending == nil && s.next != 0 && at.lsn > s.next {
		s.pending = &Damage{File: seg.name, What: "the log before this segment is not there", From: s.next}
	}
	if err := s.settle(at.lsn); err != nil {
		return err
	}
	for {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		h, payload, f, err := s.r.record(at)
		if err != nil {
			return err
		}
		if f.err == nil || f.err == errPadding {
			at, err = s.whole(seg, at, &h, payload)
		} else {
			var more bool
			if at, more, err = s.broken(seg, at, f, newest); err == nil && !more {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// whole delivers a record.
func (s *salvage) whole(seg *segment, at place, h *recordHeader, payload []byte) (place, error) {
	if h.lsn >= s.next {
		s.next = h.lsn + 1
		if err := s.record(seg.toRecord(at, h, payload)); err != nil {
			return at, err
		}
	}
	return h.after(at), nil
}

// settle reports what ended the segment before, when the next one begins at an LSN;
// 0: there is none.
func (s *salvage) settle(begins LSN) error {
	d := s.pending
	s.pending = nil
	if d == nil {
		return nil
	}
	if begins != 0 {
		if d.To = begins - 1; d.To < d.From {
			d.From, d.To = 0, 0 // bytes behind the last record have changed, no more
		}
	}
	return s.lost(*d)
}

func (s *salvage) lost(d Damage) error {
	s.damaged = s.damaged || d.From != 0
	if d.To != 0 {
		s.next = max(s.next, d.To+1)
	}
	return s.damage(d)
}

// broken judges a place without a whole record, and gives the next one with one.
func (s *salvage) broken(seg *segment, at place, f fault, newest bool) (next place, more bool, err error) {
	switch {
	case f.headerOK && errors.Is(f.err, ErrNewerFormat):
		return at, false, fmt.Errorf("cannot read segment %q at offset %d: %w", seg.name, at.offset, f.err)
	case f.headerOK && (f.err == errPayloadCRC || f.err == errUnauthentic):
		return s.brokenPayload(seg, at, f, newest)
	case f.headerOK && (f.err == errHeaderLSN || f.err == errHeaderChain) && f.header.lsn >= max(s.next, 1):
		// What was here before it is gone; the record itself is whole, or not.
		return s.goOn(seg, at, f.header, at.offset, f.err.Error())
	}
	if mended, ok, err := s.mend(at); err != nil || ok {
		return mended, ok, err
	}
	last, err := s.r.lastNonZero(at.offset)
	if err != nil || last < at.offset || newest && s.isTorn(at, f) {
		return at, false, err
	}
	h, offset, found, err := s.r.laterRecord(at.offset, at.lsn-1)
	if err != nil {
		return at, false, err
	}
	if !found {
		s.pending = &Damage{File: seg.name, Offset: at.offset, What: f.err.Error(), From: max(at.lsn, s.next)}
		if newest {
			err = s.unwritten(at)
		}
		return at, false, err
	}
	return s.goOn(seg, at, h, offset, f.err.Error())
}

// unwritten tells one wrong bit among zeros from a record that is lost, of which
// more would be left.
func (s *salvage) unwritten(at place) error {
	set := 0
	for from := at.offset; from < s.r.seg.bytes && set < 2; {
		chunk, err := s.r.peek(from, int(min(readAheadBytes, s.r.seg.bytes-from)))
		if err != nil {
			return err
		}
		if !isZero(chunk) {
			for _, b := range chunk {
				set += bits.OnesCount8(b)
			}
		}
		from += int64(len(chunk))
	}
	if set < 2 {
		s.pending.From, s.pending.What = 0, "a bit where nothing was written"
	}
	return nil
}

// goOn reports what is lost before the record at offset.
func (s *salvage) goOn(seg *segment, at place, h recordHeader, offset int64, what string) (place, bool, error) {
	var err error
	if from := max(at.lsn, s.next); h.lsn > from {
		err = s.lost(Damage{File: seg.name, Offset: at.offset, What: what, From: from, To: h.lsn - 1})
	}
	return place{offset: offset, lsn: h.lsn, crc: uint32(h.chain)}, true, err
}

// isTorn tells a torn tail, which opening the log would cut as well. Behind damage
// nobody can tell, and what is whole is kept.
func (s *salvage) isTorn(at place, f fault) bool {
	if s.damaged {
		return false
	}
	t, err := s.r.judge(walked{at: at, fault: f, synced: segmentHeaderBytes}, nil)
	return err == nil && t.torn
}

// brokenPayload reports a record with a whole header, unless it is the torn tail.
func (s *salvage) brokenPayload(seg *segment, at place, f fault, newest bool) (place, bool, error) {
	if newest && s.isTorn(at, f) {
		return at, false, nil
	}
	payload, err := s.r.peek(at.offset+recordHeaderBytes, int(f.header.length))
	if err == nil && f.header.isSealed() {
		payload, err = s.salvaged(&f.header, payload)
	}
	if err != nil {
		return at, false, err
	}
	err = s.lost(Damage{
		File: seg.name, Offset: at.offset, What: f.err.Error(), From: f.header.lsn, To: f.header.lsn,
		Type: f.header.typ, Payload: payload,
	})
	return f.header.after(at), true, err
}

// salvaged is what can be read of a sealed payload that is damaged; nil: nothing.
func (s *salvage) salvaged(h *recordHeader, payload []byte) ([]byte, error) {
	plain, err := s.r.seg.opener.salvaged(h, payload)
	if err == errUnauthentic || errors.Is(err, sealed.ErrKey) { // the key's id may be what is damaged
		return nil, nil
	}
	return plain, err
}

// mend turns back one wrong bit of the header at a place.
func (s *salvage) mend(at place) (next place, ok bool, err error) {
	seg := s.r.seg
	if at.offset+recordHeaderBytes > seg.bytes {
		return at, false, nil
	}
	raw, err := s.r.peek(at.offset, recordHeaderBytes)
	if err != nil {
		return at, false, err
	}
	raw = slices.Clone(raw)
	var h recordHeader
	if isZero(raw) || !eachBit(raw, func() bool { return h.unmarshal(raw, seg.header.id) == nil && h.validate(at, seg.bytes) == nil }) {
		return at, false, nil
	}
	payload, err := s.r.peek(at.offset+recordHeaderBytes, int(h.length))
	if err != nil || crc32.Checksum(payload, castagnoli) != h.payloadCRC {
		return at, false, err
	}
	if h.isSealed() {
		if payload, err = seg.opener.open(nil, &h, payload); err == errUnauthentic {
			return at, false, nil
		}
	}
	if err == nil {
		next, err = s.whole(seg, at, &h, payload)
	}
	return next, err == nil, err
}

// Reader reads bytes of a log that nobody has open.
type Reader struct {
	fs       vfs.FS
	dir      string
	opener   *opener
	segments map[uint64]*segment
}

// NewReader opens nothing yet.
func NewReader(fsys vfs.FS, dir string) *Reader {
	return &Reader{fs: fsys, dir: dir, opener: newOpener(sealed.KeysOf(fsys)), segments: map[uint64]*segment{}}
}

// ReadAt fills dst from a position that Salvage gave out, with Inner set by the caller.
// The caller verifies the bytes.
func (r *Reader) ReadAt(dst []byte, at Position) error {
	s := r.segments[at.Segment]
	if s == nil {
		s = &segment{name: segmentPath(r.dir, at.Segment), opener: r.opener}
		var err error
		if s.file, err = r.fs.Open(s.name); err != nil {
			return fmt.Errorf("cannot read the log: %w", err)
		}
		r.segments[at.Segment] = s
		if err := r.identify(s, at.Segment); err != nil {
			return err
		}
	}
	return r.opener.readAt(s, dst, at)
}

// identify finds a segment's id, without which no record's header can be told to be
// whole. It is not needed where nothing is sealed.
func (r *Reader) identify(s *segment, number uint64) error {
	if r.opener.keys == nil {
		return nil
	}
	var err error
	if s.bytes, err = s.file.Bytes(); err != nil {
		return err
	}
	found := &salvage{damage: func(Damage) error { return nil }, r: newSegmentReader(s)}
	return found.header(s, number)
}

// Close closes the files.
func (r *Reader) Close() error {
	var errs []error
	for _, s := range r.segments {
		errs = append(errs, s.file.Close())
	}
	clear(r.segments)
	return errors.Join(errs...)
}
