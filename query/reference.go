package query

import (
	"bytes"
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
)

// reference reads a value of a reference (R4 search.html#reference).
func (r *reader) reference(p *search.Param, sources []search.Source, modifier, text string) ([]index.Walk, error) {
	switch {
	case modifier == "identifier":
		token, err := readToken(p, text)
		if err != nil {
			return nil, err
		}
		return index.ReferenceIdentifierWalks(sources, token)
	case modifier != "":
		return r.typed(p, sources, modifier, plain(text))
	}
	text = plain(text)
	if fhir.ValidID([]byte(text)) {
		return r.anyTyped(p, sources, text)
	}
	return index.ReferenceWalks(sources, []byte(text), []byte(r.Base))
}

// typed reads subject:Patient=1, and subject:Patient=Patient/1.
func (r *reader) typed(p *search.Param, sources []search.Source, modifier, text string) ([]index.Walk, error) {
	t := fhir.TypeByName([]byte(modifier))
	if t == 0 {
		return nil, badModifier(p, modifier)
	}
	if len(p.Targets) > 0 && !slices.Contains(p.Targets, t) {
		return nil, invalid("The parameter '%s' does not refer to resources of type '%s'.", p.Code, modifier)
	}
	text = strings.TrimPrefix(text, modifier+"/")
	if !fhir.ValidID([]byte(text)) {
		return nil, invalid("The value '%s' of '%s:%s' is not an id.", text, p.Code, modifier)
	}
	return referenceWalks(sources, t, []key{{t, text}}, r.Base), nil
}

// anyTyped is references by an id alone: to each type that the parameter refers to.
func (r *reader) anyTyped(p *search.Param, sources []search.Source, id string) ([]index.Walk, error) {
	targets := p.Targets
	if len(targets) == 0 {
		for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
			targets = append(targets, t)
		}
	}
	var keys []key
	for _, t := range targets {
		keys = append(keys, key{t, id})
	}
	return referenceWalks(sources, 0, keys, r.Base), r.addValues(len(targets) - 1)
}

// referenceWalks is what refers, by one of sources, to one of keys, all of type
// t; 0: of any.
func referenceWalks(sources []search.Source, t fhir.TypeCode, keys []key, base string) []index.Walk {
	var walks []index.Walk
	for _, s := range sources {
		of := keys
		if s.Only != 0 && t == 0 {
			of = keysOfType(keys, s.Only)
		}
		if len(of) > 0 && (s.Only == 0 || t == 0 || s.Only == t) {
			walks = append(walks, referencesTo(index.Param(s.Field.Number), of, base))
		}
	}
	return walks
}

func keysOfType(keys []key, t fhir.TypeCode) []key {
	var kept []key
	for _, k := range keys {
		if k.typ == t {
			kept = append(kept, k)
		}
	}
	return kept
}

// formAbsolute is the form of references with a base; see
// index.AppendReferenceType.
const formAbsolute = 3

// referencesTo is the references to resources of this server, with any version:
// one walk that seeks from one to the next, however many there are.
func referencesTo(p index.Param, keys []key, base string) index.Walk {
	var prefixes [][]byte
	for _, k := range keys {
		prefixes = append(prefixes, index.AppendReference(nil, []byte(k.typ.String()+"/"+k.id)))
		absolute := append(index.AppendReferenceType(nil, formAbsolute, k.typ), k.id...)
		prefixes = append(prefixes, append(absolute, 0))
	}
	slices.SortFunc(prefixes, bytes.Compare)
	end, _ := index.AppendPrefixEnd(nil, prefixes[len(prefixes)-1])
	return index.Walk{Param: p, From: prefixes[0], To: end, Look: func(value, room []byte) (index.Verdict, []byte) {
		at, found := slices.BinarySearchFunc(prefixes, value, bytes.Compare)
		if !found {
			at--
		}
		switch {
		case at >= 0 && bytes.HasPrefix(value, prefixes[at]):
			if value[0] == formAbsolute && !hasBase(value[len(prefixes[at]):], base) {
				return index.Pass, nil
			}
			return index.Take, nil
		case at+1 >= len(prefixes):
			return index.End, nil
		}
		return index.Pass, append(room, prefixes[at+1]...)
	}}
}

// hasBase tells whether what follows the id of an absolute reference, version
// and base, has this base.
func hasBase(rest []byte, base string) bool {
	_, own, ok := bytes.Cut(rest, []byte{0})
	return ok && string(own) == base
}
