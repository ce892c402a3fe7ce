package index

import (
	"bytes"

	"kiln/fhir/search"
)

// StringWalks gives the walks of a string: values that begin with text,
// whatever their case and accents. ErrWalk for one that is too long.
func StringWalks(sources []search.Source, text []byte) ([]Walk, error) {
	return prefixWalks(sources, AppendStringPrefix(nil, text, NewFolder()))
}

// StringExactWalks gives the walks of :exact.
func StringExactWalks(sources []search.Source, text []byte) []Walk {
	return exactWalks(sources, AppendString(nil, text, NewFolder()))
}

// StringContainsWalks gives the walks of :contains: over all values.
func StringContainsWalks(sources []search.Source, text []byte) (walks []Walk) {
	part := AppendStringPrefix(nil, text, NewFolder())
	look := func(value, _ []byte) (Verdict, []byte) {
		folded, _, _ := bytes.Cut(value, []byte{termSeparator})
		if bytes.Contains(folded, part) {
			return Take, nil
		}
		return Pass, nil
	}
	for _, s := range sources {
		walks = append(walks, Walk{Param: Param(s.Field.Number), Look: look})
	}
	return walks
}

// URIWalks gives the walks of a URI, whole.
func URIWalks(sources []search.Source, uri []byte) []Walk { return exactWalks(sources, uri) }

// URIBelowWalks gives the walks of :below: URIs that begin with uri. ErrWalk for
// one that is too long.
func URIBelowWalks(sources []search.Source, uri []byte) ([]Walk, error) {
	return prefixWalks(sources, uri)
}

// URIAboveWalks gives the walks of :above: the URI, and what it is below of, cut
// at its slashes: with the slash and without.
func URIAboveWalks(sources []search.Source, uri []byte) []Walk {
	walks := exactWalks(sources, uri)
	for at, c := range uri {
		if c == '/' && at > 0 {
			walks = append(walks, exactWalks(sources, uri[:at])...)
			if at+1 < len(uri) {
				walks = append(walks, exactWalks(sources, uri[:at+1])...)
			}
		}
	}
	return walks
}

// FieldWalks gives the walks of all values of sources: what a resource without
// any is :missing.
func FieldWalks(sources []search.Source) (walks []Walk) {
	for _, s := range sources {
		p := Param(s.Field.Number)
		switch {
		case s.Only != 0:
			for form := refUUID; form <= refAbsolute; form++ {
				prefix := AppendReferenceType(nil, form, s.Only)
				walks = append(walks, Walk{Param: p, From: prefix, To: successor(prefix)})
			}
		case s.System != "":
			prefix := AppendTokenSystem(nil, []byte(s.System))
			walks = append(walks, Walk{Param: p, From: prefix, To: successor(prefix)})
		default:
			walks = append(walks, Walk{Param: p})
		}
	}
	return walks
}

// PartWalks gives the walks of all values that can be a part of a composite: of
// a token only its codes, since its texts are not asked for there.
func PartWalks(sources []search.Source) (walks []Walk) {
	for _, s := range sources {
		if s.Field.Kind == search.Token && s.System == "" {
			walks = append(walks, Walk{Param: Param(s.Field.Number), From: []byte{tokenCode}, To: []byte{tokenCode + 1}})
		} else {
			walks = append(walks, FieldWalks([]search.Source{s})...)
		}
	}
	return walks
}
