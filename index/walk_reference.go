package index

import (
	"bytes"

	"kiln/fhir"
	"kiln/fhir/search"
)

// ReferenceWalks gives the walks of a reference's text: Type/id, with or
// without /_history/version, an absolute URL, a canonical with or without a
// version, or any other text. A reference that names a version is found with it
// and, when text names none, without. own are the addresses of this server,
// without a slash at the end: a reference to own/Type/id is one to Type/id, and
// the other way round.
func ReferenceWalks(sources []search.Source, text []byte, own ...[]byte) ([]Walk, error) {
	r, parsed := parseReference(text)
	if parsed && r.base != nil && isOwn(r.base, own) {
		r.base = nil
	}
	var walks []Walk
	for _, s := range sources {
		p := Param(s.Field.Number)
		if s.Only != 0 && (!parsed || r.typ != s.Only) {
			continue // what another type's name, or none, stands in is not of this type
		}
		if parsed {
			walks = append(walks, typedWalks(p, r, own)...)
		} else {
			walks = append(walks, ExactWalk(p, AppendReference(nil, text)))
		}
		w, err := canonicalWalk(p, text)
		if err != nil {
			return nil, err
		}
		walks = append(walks, w)
	}
	return walks, nil
}

// FragmentWalks gives the walks of all references to contained resources, "#id", in
// sources whose references may be to a type.
func FragmentWalks(sources []search.Source, t fhir.TypeCode) (walks []Walk) {
	for _, s := range sources {
		if s.Only == 0 || s.Only == t {
			walks = append(walks, Walk{Param: Param(s.Field.Number), From: []byte{refText, '#'}, To: []byte{refText, '#' + 1}})
		}
	}
	return walks
}

func isOwn(base []byte, own [][]byte) bool {
	for _, o := range own {
		if bytes.Equal(base, o) {
			return true
		}
	}
	return false
}

// typedWalks finds a reference with a type and an id.
func typedWalks(p Param, r referenceParts, own [][]byte) (walks []Walk) {
	bases := own
	if r.base != nil {
		bases = [][]byte{r.base}
	} else {
		walks = append(walks, relativeWalk(p, r))
	}
	prefix := append(AppendReferenceType(nil, refAbsolute, r.typ), r.id...)
	prefix = append(prefix, termSeparator)
	for _, base := range bases {
		walks = append(walks, absoluteWalk(p, prefix, r.version, appendText(nil, base)))
	}
	return walks
}

// relativeWalk finds Type/id in form 1 or 2.
func relativeWalk(p Param, r referenceParts) Walk {
	text := append(append([]byte(r.typ.String()), '/'), r.id...)
	if len(r.version) > 0 {
		return ExactWalk(p, AppendReference(nil, append(append(text, historySegment...), r.version...)))
	}
	prefix := AppendReference(nil, text)
	return Walk{Param: p, From: prefix, To: successor(prefix)}
}

// absoluteWalk finds Type/id at a base, in one version or in any.
func absoluteWalk(p Param, prefix, version, base []byte) Walk {
	look := func(value, _ []byte) (Verdict, []byte) {
		if len(value) < len(prefix) {
			return Pass, nil
		}
		v, at, ok := bytes.Cut(value[len(prefix):], []byte{termSeparator})
		if ok && bytes.Equal(at, base) && (len(version) == 0 || bytes.Equal(v, version)) {
			return Take, nil
		}
		return Pass, nil
	}
	return Walk{Param: p, From: prefix, To: successor(prefix), Look: look}
}

func canonicalWalk(p Param, text []byte) (Walk, error) {
	value := AppendCanonical(nil, text)
	if value[len(value)-1] != termSeparator {
		return ExactWalk(p, value), nil
	}
	return PrefixWalk(p, value)
}

// ReferenceIdentifierWalks gives the walks of :identifier: logical references
// with the identifier t.
func ReferenceIdentifierWalks(sources []search.Source, t Token) ([]Walk, error) {
	var walks []Walk
	for _, s := range sources {
		p := Param(s.Field.Number)
		switch {
		case t.AnySystem:
			walks = append(walks, anySystemWalk(p, refIdentifier, appendCodeText(nil, t.Code)))
		case len(t.Code) > 0:
			walks = append(walks, ExactWalk(p, AppendReferenceIdentifier(nil, t.System, t.Code)))
		default:
			w, err := PrefixWalk(p, AppendReferenceIdentifier(nil, t.System, nil))
			if err != nil {
				return nil, err
			}
			walks = append(walks, w)
		}
	}
	return walks, nil
}

// ParseReferenceKey gives the resource of this server that a reference's value
// names; ok is false for any other reference. The id is appended to dst.
func ParseReferenceKey(dst, value []byte, own ...[]byte) (t fhir.TypeCode, id, version []byte, ok bool) {
	if len(value) < 3 || value[0] > refAbsolute || value[0] < refUUID {
		return 0, dst, nil, false
	}
	t = fhir.TypeCode(value[1])<<8 | fhir.TypeCode(value[2])
	rest := value[3:]
	if value[0] == refUUID {
		if len(rest) < uuidBytes {
			return 0, dst, nil, false
		}
		return t, appendUUIDText(dst, rest), rest[uuidBytes:], true
	}
	id, rest = cutText(dst, rest)
	version, base := cutText(nil, rest)
	if value[0] == refAbsolute {
		if base, _ = cutText(nil, base); !isOwn(base, own) {
			return 0, dst, nil, false
		}
	}
	return t, id, version, true
}

// AppendReferredKey appends the key (AppendKey) of the resource of this server that a
// reference's value names; ok is false for any other reference.
func AppendReferredKey(dst, value []byte, own ...[]byte) (key []byte, ok bool) {
	if len(value) >= 3+uuidBytes && value[0] == refUUID {
		dst = append(dst, value[1], value[2], keyUUID)
		return append(dst, value[3:3+uuidBytes]...), true
	}
	t, id, _, ok := ParseReferenceKey(nil, value, own...)
	if !ok {
		return dst, false
	}
	return AppendKey(dst, t, id), true
}
