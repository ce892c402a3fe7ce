package index

import (
	"bytes"
	"encoding/binary"

	"kiln/fhir"
)

// The value of a reference field: a form, the type that the reference's text
// names (0 without one), and what the form needs.
//
//	+------+----------+---------+---------+
//	| 0x01 | type u16 | 16 bytes| version |                  Patient/UUID, lower case
//	+------+----------+---------+---------+
//	| 0x02 | type u16 | id | 00 | version |                  Patient/id
//	+------+----------+----+----+---------+----+------+
//	| 0x03 | type u16 | id | 00 | version | 00 | base |      http://host/fhir/Patient/id; base is "http://host/fhir"
//	+------+----------+----+----+---------+----+------+
//	| 0x04 | 16 bytes            |                            urn:uuid:UUID, lower case
//	+------+-----+----+---------+
//	| 0x05 | url | 00 | version |                            a canonical, url|version
//	+------+-----+----+---------+
//	| 0x06 | text               |                            any other text: #id, urn:oid:..., a URL
//	+------+--------+----+------+
//	| 0x07 | system | 00 | value|                            Reference.identifier, for :identifier
//	+------+--------+----+------+
//
// version is the id behind /_history/, mostly empty. Texts are escaped.
//
// Patient/123 is all terms that begin with AppendReference of it, in form 1 or
// 2 (with and without a version), and, when the server's own address is a base,
// in form 3. Any reference to a type, which is what a parameter's
// where(resolve() is Patient) asks, is three prefixes: AppendReferenceType. A
// canonical without a version is all terms that begin with AppendCanonical of it.
// What a reference's "type" member says is not looked at: a urn:uuid or a
// contained resource has no type here.
//
// Most references of a bulk load are form 1: packed they are hashed, compared
// and stored in 19 instead of about 45 bytes.
const (
	refUUID       = 1
	refID         = 2
	refAbsolute   = 3
	refURN        = 4
	refCanonical  = 5
	refText       = 6
	refIdentifier = 7
)

const (
	urnPrefix      = "urn:uuid:"
	historySegment = "/_history/"
)

// AppendReference appends the value of a reference's text. Distinct texts have
// distinct values.
func AppendReference(dst, text []byte) []byte {
	if at := len(text) - uuidTextBytes - 1; at > 0 && text[at] == '/' {
		if t := fhir.TypeByName(text[:at]); t != 0 {
			n := len(dst)
			if packed, ok := appendUUID(append(dst, refUUID, byte(t>>8), byte(t)), text[at+1:]); ok {
				return packed
			}
			dst = dst[:n]
		}
	}
	if packed, ok := appendURN(dst, text); ok {
		return packed
	}
	return appendParsedReference(dst, text)
}

func appendURN(dst, text []byte) ([]byte, bool) {
	if len(text) != len(urnPrefix)+uuidTextBytes || string(text[:len(urnPrefix)]) != urnPrefix {
		return dst, false
	}
	return appendUUID(append(dst, refURN), text[len(urnPrefix):])
}

func appendParsedReference(dst, text []byte) []byte {
	r, ok := parseReference(text)
	if !ok {
		return appendText(append(dst, refText), text)
	}
	n := len(dst)
	dst = append(dst, refID, byte(r.typ>>8), byte(r.typ))
	if r.base == nil {
		dst[n] = refUUID
		if packed, ok := appendUUID(dst, r.id); ok {
			return append(packed, r.version...)
		}
		dst[n] = refID
	} else {
		dst[n] = refAbsolute
	}
	dst = append(append(dst, r.id...), termSeparator)
	dst = append(dst, r.version...)
	if r.base == nil {
		return dst
	}
	return appendText(append(dst, termSeparator), r.base)
}

// referenceParts is a reference that names a type and an id.
type referenceParts struct {
	typ               fhir.TypeCode
	id, version, base []byte // base nil: relative
}

func parseReference(text []byte) (r referenceParts, ok bool) {
	if at := bytes.LastIndex(text, []byte(historySegment)); at >= 0 {
		r.version = text[at+len(historySegment):]
		if !fhir.ValidID(r.version) {
			return r, false
		}
		text = text[:at]
	}
	at := bytes.LastIndexByte(text, '/')
	if at <= 0 {
		return r, false
	}
	name := text[:at]
	r.id = text[at+1:]
	if slash := bytes.LastIndexByte(name, '/'); slash >= 0 {
		r.base, name = name[:slash:slash], name[slash+1:]
		if !bytes.Contains(r.base, []byte("://")) {
			return r, false
		}
	}
	r.typ = fhir.TypeByName(name)
	return r, r.typ != 0 && fhir.ValidID(r.id)
}

// AppendReferenceType appends what the values of all references to type t in
// one of the forms 1 to 3 begin with.
func AppendReferenceType(dst []byte, form int, t fhir.TypeCode) []byte {
	if form < refUUID || form > refAbsolute {
		panic("BUG: this form of references has no type")
	}
	return append(dst, byte(form), byte(t>>8), byte(t))
}

// AppendCanonical appends the value of a canonical, with or without a version.
func AppendCanonical(dst, text []byte) []byte {
	url, version := text, []byte(nil)
	if at := bytes.LastIndexByte(text, '|'); at >= 0 {
		url, version = text[:at], text[at+1:]
	}
	dst = append(appendText(append(dst, refCanonical), url), termSeparator)
	return appendText(dst, version)
}

// AppendReferenceIdentifier appends the value of a logical reference.
func AppendReferenceIdentifier(dst, system, value []byte) []byte {
	dst = append(appendText(append(dst, refIdentifier), system), termSeparator)
	return appendCodeText(dst, value)
}

// AppendReferenceText gives back the text of AppendReference or AppendCanonical,
// or "system|value" of AppendReferenceIdentifier; ok is false for a value that
// none of them produces.
func AppendReferenceText(dst, value []byte) (text []byte, ok bool) {
	if len(value) == 0 {
		return dst, false
	}
	rest := value[1:]
	switch value[0] {
	case refUUID, refID, refAbsolute:
		return appendTypedText(dst, value[0], rest)
	case refURN:
		if len(rest) != uuidBytes {
			return dst, false
		}
		return appendUUIDText(append(dst, urnPrefix...), rest), true
	case refCanonical, refIdentifier:
		dst, rest = cutText(dst, rest)
		if value[0] == refIdentifier {
			return cutCodeText(append(dst, '|'), rest), true
		}
		if len(rest) > 0 {
			dst, _ = cutText(append(dst, '|'), rest)
		}
		return dst, true
	case refText:
		dst, _ = cutText(dst, rest)
		return dst, true
	}
	return dst, false
}

func appendTypedText(dst []byte, form byte, rest []byte) ([]byte, bool) {
	if len(rest) < 3 {
		return dst, false
	}
	t := fhir.TypeCode(binary.BigEndian.Uint16(rest))
	var version []byte
	rest = rest[2:]
	name := append([]byte(t.String()), '/')
	if form == refUUID {
		if len(rest) < uuidBytes {
			return dst, false
		}
		name = appendUUIDText(name, rest)
		version = rest[uuidBytes:]
	} else {
		name, rest = cutText(name, rest)
		version, rest = cutText(nil, rest)
	}
	if form == refAbsolute {
		dst, _ = cutText(dst, rest)
		dst = append(dst, '/')
	}
	dst = append(dst, name...)
	if len(version) > 0 {
		dst = append(append(dst, historySegment...), version...)
	}
	return dst, true
}
