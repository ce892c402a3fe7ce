package index

import (
	"crypto/sha256"
	"encoding/binary"

	"kiln/fhir"
	"kiln/fhir/search"
)

// Param is the number in front of a term's key: one of those below, or a
// search.Field's. Numbers are on disk and never reused.
type Param uint16

const (
	ParamLastUpdated Param = search.FieldLastUpdated // value: AppendMilli; written by the Builder itself from the rows
	ParamType        Param = 2                       // value: TypeCode big endian; written by the Builder itself
	ParamDeleted     Param = 3                       // empty value: deleted versions; written by the Builder itself
	ParamContained   Param = 5                       // value: TypeCode big endian, of a resource in "contained"; an Extractor makes it

	// paramGivenMin is the lowest parameter that AddTerm takes: ParamContained,
	// search.FieldMin and all above, which are fields of search parameters; the
	// numbers between are free. (4 was every reference at any depth; the fields hold
	// those.)
	paramGivenMin = 4
)

// IsField tells whether p is a search.Field's number. An Extractor makes their terms
// and those of ParamContained; the others are the Builder's.
func (p Param) IsField() bool { return p >= search.FieldMin }

// AppendType appends the value of ParamType and ParamContained.
func AppendType(dst []byte, t fhir.TypeCode) []byte {
	return binary.BigEndian.AppendUint16(dst, uint16(t))
}

// A term key is the parameter, big endian, and the value. Values of
// TermBytesMax bytes or more are cut to TermPrefixBytes and the SHA-256 of the
// whole, which makes exactly TermBytesMax; so a stored value of that length
// is always a cut one, two different values never meet, and order holds for
// all values that differ within TermPrefixBytes.
func appendTermKey(dst []byte, p Param, value []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(p))
	return appendTermValue(dst, value)
}

// termValue is what becomes of a value, in the memory of short ones.
func termValue(value []byte) []byte {
	if len(value) < TermBytesMax {
		return value
	}
	return appendTermValue(make([]byte, 0, TermBytesMax), value)
}

func appendTermValue(dst, value []byte) []byte {
	if len(value) < TermBytesMax {
		return append(dst, value...)
	}
	sum := sha256.Sum256(value)
	dst = append(dst, value[:TermPrefixBytes]...)
	return append(dst, sum[:]...)
}
