package index

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"kiln/fhir"
)

// A key on disk:
//
//	0      2        3
//	+------+--------+----------------------------+
//	| type | 0x01   | 16 bytes of a UUID         |  lower-case, with its four hyphens
//	+------+--------+----------------------------+
//	| type | 0x02   | text of any other id | 0x00 |  0x00 -> 01 01, 0x01 -> 01 02
//	+------+--------+----------------------------+
//
// Order: type, then UUIDs by their bytes, then other ids by their text. No key
// is the prefix of another, so that what follows it never decides the order.
const (
	keyUUID = 1
	keyText = 2

	textEnd    = 0
	textEscape = 1
)

// AppendKey appends the order-preserving key of a resource: type big endian,
// then the id (lower-case UUIDs packed into 16 bytes), self-delimiting.
func AppendKey(dst []byte, t fhir.TypeCode, id []byte) []byte {
	dst = append(dst, byte(t>>8), byte(t))
	if len(id) == uuidTextBytes {
		n := len(dst)
		packed, ok := appendUUID(append(dst, keyUUID), id)
		if ok {
			return packed
		}
		dst = packed[:n]
	}
	dst = append(dst, keyText)
	for _, c := range id {
		if c <= textEscape {
			dst = append(dst, textEscape, c+1)
			continue
		}
		dst = append(dst, c)
	}
	return append(dst, textEnd)
}

// ParseKey undoes AppendKey: the id is appended to dst, and rest is what
// follows the key in b. ok is false when b does not begin with a key.
func ParseKey(dst, b []byte) (t fhir.TypeCode, id, rest []byte, ok bool) {
	if len(b) < 3 {
		return 0, dst, b, false
	}
	t = fhir.TypeCode(binary.BigEndian.Uint16(b))
	switch b[2] {
	case keyUUID:
		if len(b) < 3+uuidBytes {
			return 0, dst, b, false
		}
		return t, appendUUIDText(dst, b[3:3+uuidBytes]), b[3+uuidBytes:], true
	case keyText:
		id, rest, ok = parseKeyText(dst, b[3:])
		return t, id, rest, ok
	}
	return 0, dst, b, false
}

func parseKeyText(dst, b []byte) (id, rest []byte, ok bool) {
	for i := 0; i < len(b); i++ {
		switch c := b[i]; c {
		case textEnd:
			return dst, b[i+1:], true
		case textEscape:
			i++
			if i == len(b) || b[i] < 1 || b[i] > 2 {
				return dst, b, false
			}
			dst = append(dst, b[i]-1)
		default:
			dst = append(dst, c)
		}
	}
	return dst, b, false
}

// KeyHash is the hash the filters use.
func KeyHash(key []byte) uint64 { return xxhash.Sum64(key) }

// AppendMilli appends UTC milliseconds so that byte order is time order.
func AppendMilli(dst []byte, milli int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(milli)^(1<<63))
}

// ParseMilli undoes AppendMilli.
func ParseMilli(b []byte) (milli int64, ok bool) {
	if len(b) != 8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(b) ^ (1 << 63)), true
}
