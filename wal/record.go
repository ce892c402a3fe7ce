package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A record, little endian, starting at a multiple of 8:
//
//	 0    1    2     4        8                16               24       28       32
//	+----+----+-----+--------+----------------+----------------+--------+--------+----------+------+
//	|type|flag|chain| length | lsn            | synced_upto    | paycrc | hdrcrc | payload  | pad  |
//	+----+----+-----+--------+----------------+----------------+--------+--------+----------+------+
//
// type is never 0, so zeros are no record. flag is 0, or flagSealed; another bit set
// there comes from a newer program. chain is the low half of the header checksum before this one
// (the segment header's for the first record). length is the payload's.
// synced_upto is the offset in this segment that was durable when the record was
// framed. paycrc is the CRC32C of the payload, hdrcrc that of bytes 0 to 28
// started from the segment's id: a header can be judged with nothing but the
// segment at hand, also when what stands before it is damaged. Up to 7 zeros pad
// to the next multiple of 8.
const (
	recordHeaderBytes = 32
	recordCRCAt       = recordHeaderBytes - 4
	recordAlign       = 8

	// PayloadBytesMax is the largest payload: an API write may bring 32 MiB, and
	// the record must fit an empty segment of SegmentBytesDefault.
	PayloadBytesMax = 48 << 20
)

type recordHeader struct {
	typ        RecordType
	flags      uint8
	chain      uint16
	length     uint32
	lsn        LSN
	syncedUpto uint64
	payloadCRC uint32
	crc        uint32
}

var (
	errHeaderCRC     = errors.New("the record header has a wrong checksum")
	errHeaderLSN     = errors.New("the record has an LSN out of order")
	errHeaderChain   = errors.New("the record does not follow the one before it")
	errHeaderLength  = errors.New("the record is longer than its segment or than any record may be")
	errHeaderPromise = errors.New("the record promises bytes that come after it")
	errPayloadCRC    = errors.New("the record's payload has a wrong checksum")
	errPadding       = errors.New("the record's padding is not zero")
)

// recordBytes is the space a payload takes with header and padding.
func recordBytes(payload int) int64 {
	return recordHeaderBytes + int64(payload+recordAlign-1)&^(recordAlign-1)
}

func (h *recordHeader) bytes() int64 { return recordBytes(int(h.length)) }

// marshal appends the header for a segment and sets its checksum.
func (h *recordHeader) marshal(dst []byte, segmentID uint32) []byte {
	at := len(dst)
	dst = append(dst, byte(h.typ), h.flags)
	dst = binary.LittleEndian.AppendUint16(dst, h.chain)
	dst = binary.LittleEndian.AppendUint32(dst, h.length)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.lsn))
	dst = binary.LittleEndian.AppendUint64(dst, h.syncedUpto)
	dst = binary.LittleEndian.AppendUint32(dst, h.payloadCRC)
	h.crc = crc32.Update(segmentID, castagnoli, dst[at:])
	return binary.LittleEndian.AppendUint32(dst, h.crc)
}

// unmarshal reads a header of recordHeaderBytes and checks its checksum.
func (h *recordHeader) unmarshal(src []byte, segmentID uint32) error {
	*h = recordHeader{
		typ:        RecordType(src[0]),
		flags:      src[1],
		chain:      binary.LittleEndian.Uint16(src[2:]),
		length:     binary.LittleEndian.Uint32(src[4:]),
		lsn:        LSN(binary.LittleEndian.Uint64(src[8:])),
		syncedUpto: binary.LittleEndian.Uint64(src[16:]),
		payloadCRC: binary.LittleEndian.Uint32(src[24:]),
		crc:        binary.LittleEndian.Uint32(src[recordCRCAt:]),
	}
	if h.typ == 0 || crc32.Update(segmentID, castagnoli, src[:recordCRCAt]) != h.crc {
		return errHeaderCRC
	}
	return nil
}

// place is where a walk through a segment stands: what the next record must say.
type place struct {
	offset int64
	lsn    LSN    // the next record's
	crc    uint32 // the checksum of the header before
}

// validate checks a header with a right checksum against its place in a segment
// of segmentBytes.
func (h *recordHeader) validate(at place, segmentBytes int64) error {
	switch {
	case h.flags&^flagSealed != 0:
		return fmt.Errorf("%w: a record of LSN %d has flags %#x", ErrNewerFormat, h.lsn, h.flags)
	case h.lsn != at.lsn:
		return errHeaderLSN
	case h.chain != uint16(at.crc):
		return errHeaderChain
	case h.length > h.lengthMax() || at.offset+h.bytes() > segmentBytes:
		return errHeaderLength
	case h.syncedUpto > uint64(at.offset):
		return errHeaderPromise
	}
	return nil
}

// after is the place of the record that follows this one.
func (h *recordHeader) after(at place) place {
	return place{offset: at.offset + h.bytes(), lsn: at.lsn + 1, crc: h.crc}
}
