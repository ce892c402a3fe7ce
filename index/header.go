package index

import "encoding/binary"

// The front of a run's file:
//
//	0          8        12       16       24       28    32
//	+----------+--------+--------+--------+--------+-----+
//	| KILNRUN1 | format | 0      | run id | 0      | crc |
//	+----------+--------+--------+--------+--------+-----+
//
// crc is the CRC32C of run id, offset 0 and the 28 bytes before it.
const headerBytes = 32

const headerMagic = "KILNRUN1"

func appendHeader(dst []byte, id RunID) []byte {
	start := len(dst)
	dst = append(dst, headerMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, FormatVersion)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(id))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	return binary.LittleEndian.AppendUint32(dst, placedCRC(id, 0, dst[start:]))
}

// checkHeader returns what is wrong with the header, or "". A newer format is
// told apart only when the checksum holds, as that part is the same for ever.
func checkHeader(b []byte, id RunID) (what string, newer bool) {
	switch {
	case len(b) < headerBytes || string(b[:8]) != headerMagic:
		return "not a run", false
	case binary.LittleEndian.Uint64(b[16:]) != uint64(id):
		return "header names another run", false
	case binary.LittleEndian.Uint32(b[28:]) != placedCRC(id, 0, b[:28]):
		return "header fails its checksum", false
	case binary.LittleEndian.Uint32(b[8:]) > FormatVersion:
		return "header has a newer format version", true
	case binary.LittleEndian.Uint32(b[8:]) != FormatVersion:
		return "header has an unknown format version", false
	}
	return "", false
}
