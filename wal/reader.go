package wal

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// readAheadBytes is how much a segment reader asks for at a time.
const readAheadBytes = 256 << 10

// segmentReader walks the bytes of one segment through a sliding buffer, which
// grows to the largest record. It is used by one goroutine.
type segmentReader struct {
	seg    *segment
	buf    []byte
	bufAt  int64  // offset of buf[0]
	filled int    // valid bytes of buf
	plain  []byte // of the last sealed payload
	key    sealed.KeyID
}

func newSegmentReader(s *segment) *segmentReader { return &segmentReader{seg: s} }

// peek returns bytes [offset, offset+n), which lie within the segment. They hold
// until the next call.
func (r *segmentReader) peek(offset int64, n int) ([]byte, error) {
	if offset >= r.bufAt && offset+int64(n) <= r.bufAt+int64(r.filled) {
		return r.buf[offset-r.bufAt:][:n], nil
	}
	want := int(min(int64(max(n, readAheadBytes)), r.seg.bytes-offset))
	if cap(r.buf) < want {
		r.buf = make([]byte, want)
	}
	r.bufAt, r.filled = offset, 0
	got, err := r.seg.file.ReadAt(r.buf[:want], offset)
	if got < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("cannot read segment %q at offset %d: %w", r.seg.name, offset, err)
	}
	r.filled = got
	return r.buf[:n], nil
}

// fault is what is wrong with the bytes at a place. A nil err in it means that
// there is a valid record.
type fault struct {
	err    error
	header recordHeader // valid when headerOK
	// headerOK: the header's checksum is right, so its fields were written by us.
	headerOK bool
	// end: there is no record and none was begun: the header is zeros, or there
	// is no room for one.
	end bool
}

// record reads the record at a place. The error is of reading; what is wrong
// with the bytes is in the fault. The payload, unsealed, holds until the next call.
func (r *segmentReader) record(at place) (h recordHeader, payload []byte, f fault, err error) {
	if at.offset+recordHeaderBytes > r.seg.bytes {
		return h, nil, fault{err: errHeaderCRC, end: true}, nil
	}
	raw, err := r.peek(at.offset, recordHeaderBytes)
	if err != nil {
		return h, nil, fault{}, err
	}
	if err := h.unmarshal(raw, r.seg.header.id); err != nil {
		return h, nil, fault{err: err, end: isZero(raw)}, nil
	}
	f = fault{header: h, headerOK: true}
	if f.err = h.validate(at, r.seg.bytes); f.err != nil {
		return h, nil, f, nil
	}
	body, err := r.peek(at.offset+recordHeaderBytes, int(h.bytes()-recordHeaderBytes))
	if err != nil {
		return h, nil, fault{}, err
	}
	payload = body[:h.length]
	if crc32.Checksum(payload, castagnoli) != h.payloadCRC {
		f.err = errPayloadCRC
	} else if !isZero(body[h.length:]) {
		f.err = errPadding
	}
	return r.unsealed(h, payload, f)
}

// unsealed opens the payload of a record whose bytes are as they were written.
func (r *segmentReader) unsealed(h recordHeader, payload []byte, f fault) (recordHeader, []byte, fault, error) {
	if r.key = (sealed.KeyID{}); !h.isSealed() || f.err != nil && f.err != errPadding {
		return h, payload, f, nil
	}
	plain, err := r.seg.opener.open(r.plain[:0], &h, payload)
	if err == errUnauthentic {
		f.err, err = err, nil
		return h, payload, f, nil
	}
	if r.plain = plain; err == nil {
		r.key = sealed.KeyID(payload)
	}
	return h, plain, f, err
}

// start is the place of the segment's first record.
func (s *segment) start() place {
	return place{offset: segmentHeaderBytes, lsn: s.header.firstLSN, crc: s.header.crc}
}

// lastNonZero is the offset of the last byte at or after from that is not zero,
// or from-1 when there is none.
func (r *segmentReader) lastNonZero(from int64) (int64, error) {
	last := from - 1
	for at := from; at < r.seg.bytes; {
		chunk, err := r.peek(at, int(min(readAheadBytes, r.seg.bytes-at)))
		if err != nil {
			return 0, err
		}
		if !isZero(chunk) {
			last = at + int64(len(bytes.TrimRight(chunk, "\x00"))) - 1
		}
		at += int64(len(chunk))
	}
	return last, nil
}

// laterRecord finds the first record header after from that is whole, belongs to
// this segment and has an LSN above lsn.
func (r *segmentReader) laterRecord(from int64, lsn LSN) (h recordHeader, offset int64, found bool, err error) {
	offset = (from + recordAlign) &^ (recordAlign - 1)
	for ; offset+recordHeaderBytes <= r.seg.bytes; offset += recordAlign {
		raw, err := r.peek(offset, recordHeaderBytes)
		if err != nil {
			return h, 0, false, err
		}
		if raw[0] == 0 || h.unmarshal(raw, r.seg.header.id) != nil {
			continue
		}
		if h.lsn > lsn && h.syncedUpto <= uint64(offset) {
			return h, offset, true, nil
		}
	}
	return h, 0, false, nil
}

// hasZeroSector reports whether a whole sector that lies, at least in part, in
// [from, to) holds zeros from byte from on: a sector that was never written.
func (r *segmentReader) hasZeroSector(from, to int64) (bool, error) {
	for at := from; at < to; {
		next := min((at/sectorBytes+1)*sectorBytes, r.seg.bytes)
		raw, err := r.peek(at, int(next-at))
		if err != nil {
			return false, err
		}
		if isZero(raw) {
			return true, nil
		}
		at = next
	}
	return false, nil
}

// sectorBytes is the unit that a disk writes whole or not at all.
const sectorBytes = 512

func isZero(b []byte) bool {
	for len(b) >= len(zeroBlock) {
		if !bytes.Equal(b[:len(zeroBlock)], zeroBlock[:]) {
			return false
		}
		b = b[len(zeroBlock):]
	}
	return bytes.Equal(b, zeroBlock[:len(b)])
}

var zeroBlock [4096]byte

func (s *segment) corrupt(offset int64, what string) error {
	return &vfs.CorruptError{File: s.name, Offset: offset, What: what + "; run `kiln repair`"}
}
