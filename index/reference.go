package index

import (
	"bytes"
	"encoding/binary"

	"kiln/fhir"
)

// The value of a ParamReference term:
//
//	0x01 | type | 16 bytes     "Patient/" and a lower-case UUID
//	0x02 | 16 bytes            "urn:uuid:" and a lower-case UUID
//	0x03 | text                any other text
//
// Most references of a bulk load have one of the first two shapes: packed they
// are hashed, compared and stored in 19 or 17 bytes instead of about 45.
const (
	refTyped = 1
	refURN   = 2
	refText  = 3
)

const urnPrefix = "urn:uuid:"

// AppendReference appends the term value of a reference's text. Distinct texts
// have distinct values.
func AppendReference(dst, text []byte) []byte {
	n := len(dst)
	if at := len(text) - uuidTextBytes; at > 0 {
		if packed, ok := appendPackedReference(dst, text, at); ok {
			return packed
		}
	}
	dst = append(dst[:n], refText)
	return append(dst, text...)
}

func appendPackedReference(dst, text []byte, at int) ([]byte, bool) {
	if text[at-1] == '/' {
		t := fhir.TypeByName(text[:at-1])
		if t == 0 {
			return dst, false
		}
		return appendUUID(append(dst, refTyped, byte(t>>8), byte(t)), text[at:])
	}
	if string(text[:at]) == urnPrefix {
		return appendUUID(append(dst, refURN), text[at:])
	}
	return dst, false
}

// AppendReferenceText undoes AppendReference; ok is false for a value that it
// does not produce.
func AppendReferenceText(dst, value []byte) (text []byte, ok bool) {
	switch {
	case len(value) == 3+uuidBytes && value[0] == refTyped:
		dst = append(dst, fhir.TypeCode(binary.BigEndian.Uint16(value[1:])).String()...)
		return appendUUIDText(append(dst, '/'), value[3:]), true
	case len(value) == 1+uuidBytes && value[0] == refURN:
		return appendUUIDText(append(dst, urnPrefix...), value[1:]), true
	case bytes.HasPrefix(value, []byte{refText}):
		return append(dst, value[1:]...), true
	}
	return dst, false
}
