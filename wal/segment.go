package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"kiln/internal/vfs"
)

// The first bytes of a segment, little endian:
//
//	 0                8        12       16               24               32       36          60
//	+----------------+--------+--------+----------------+----------------+--------+-----------+--------+
//	| "KILNLOG1"     | format | id     | number         | first LSN      | chain  | zeros     | crc    |
//	+----------------+--------+--------+----------------+----------------+--------+-----------+--------+
//
// id is random: a record framed for another segment never checks out in this
// one. number counts segments from 1 and is also the file's name. chain is the
// header checksum of the last record of the segment before (of its segment
// header when it had no record, 0 in the first segment). crc is the CRC32C of
// bytes 0 to 60.
const (
	segmentMagic = "KILNLOG1"
	// FormatVersion is of the segment header and everything after it.
	FormatVersion      = 1
	segmentHeaderBytes = 64
	segmentCRCAt       = segmentHeaderBytes - 4
)

type segmentHeader struct {
	id       uint32
	number   uint64
	firstLSN LSN
	chain    uint32
	crc      uint32 // set by marshal and unmarshal
}

var (
	errSegmentShort  = errors.New("the segment is shorter than its header")
	errSegmentMagic  = errors.New("the segment does not start with " + segmentMagic)
	errSegmentCRC    = errors.New("the segment header has a wrong checksum")
	errSegmentNumber = errors.New("the segment header has another number than the file name")
	errSegmentLSN    = errors.New("the segment header has no first LSN")
)

// marshal appends the header and remembers its checksum.
func (h *segmentHeader) marshal(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, segmentMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, FormatVersion)
	dst = binary.LittleEndian.AppendUint32(dst, h.id)
	dst = binary.LittleEndian.AppendUint64(dst, h.number)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.firstLSN))
	dst = binary.LittleEndian.AppendUint32(dst, h.chain)
	dst = append(dst, make([]byte, segmentCRCAt-(len(dst)-at))...)
	h.crc = crc32.Checksum(dst[at:], castagnoli)
	return binary.LittleEndian.AppendUint32(dst, h.crc)
}

// unmarshal reads a header. A newer format is told by ErrNewerFormat before the
// checksum is looked at, since a newer format may keep it elsewhere.
func (h *segmentHeader) unmarshal(src []byte) error {
	if len(src) < segmentHeaderBytes {
		return errSegmentShort
	}
	if string(src[:len(segmentMagic)]) != segmentMagic {
		return errSegmentMagic
	}
	if v := binary.LittleEndian.Uint32(src[8:]); v > FormatVersion {
		return fmt.Errorf("%w: the log has format %d, this program knows up to %d", ErrNewerFormat, v, FormatVersion)
	}
	h.crc = binary.LittleEndian.Uint32(src[segmentCRCAt:])
	if crc32.Checksum(src[:segmentCRCAt], castagnoli) != h.crc {
		return errSegmentCRC
	}
	h.id = binary.LittleEndian.Uint32(src[12:])
	h.number = binary.LittleEndian.Uint64(src[16:])
	h.firstLSN = LSN(binary.LittleEndian.Uint64(src[24:]))
	h.chain = binary.LittleEndian.Uint32(src[32:])
	return nil
}

func (h *segmentHeader) validate(number uint64) error {
	if h.number != number {
		return errSegmentNumber
	}
	if h.firstLSN == 0 {
		return errSegmentLSN
	}
	return nil
}

// segment is one live segment file.
type segment struct {
	header segmentHeader
	name   string // path
	bytes  int64  // length of the file
	file   vfs.File
	opener *opener
}

// castagnoli is the CRC32C table; hardware computes it at several GB/s.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)
