package query

import (
	"errors"

	"kiln/fhir/search"
	"kiln/index"
)

// composite reads a value a$b of a composite (R4 search.html#composite).
func (r *reader) composite(p *search.Param, modifier, text string) (*filter, error) {
	if modifier != "" {
		return nil, badModifier(p, modifier)
	}
	parts := split(text, '$')
	for _, pairing := range p.Pairings {
		if len(parts) != len(pairing.Whole) {
			return nil, invalid("The value '%s' of the parameter '%s' has not %d components, parted by '$'.", text, p.Code, len(pairing.Whole))
		}
	}
	return r.pairs(p, parts)
}

// pairs is the values of a composite whose components are all as asked.
func (r *reader) pairs(p *search.Param, parts []string) (*filter, error) {
	var all []*filter
	for _, pairing := range p.Pairings {
		f, err := r.pairing(p, pairing, parts)
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return or(all...), nil
}

// pairing is one way in which a resource can match.
func (r *reader) pairing(p *search.Param, pairing search.Pairing, parts []string) (*filter, error) {
	var conditions []*filter
	var grouped []string
	for i, sources := range pairing.Whole {
		if parts[i] == "" {
			return nil, invalid("The parameter '%s' has an empty component.", p.Code)
		}
		if len(sources) == 0 {
			grouped = append(grouped, parts[i])
			continue
		}
		walks, err := r.walks(&search.Param{Code: p.Code, Kind: sources[0].Field.Kind}, sources, "", parts[i])
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, terms(walks))
	}
	if pairing.Group != nil {
		f, err := r.group(p, pairing.Group, grouped)
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, f)
	}
	return and(conditions...), nil
}

// group is the values of a composite field whose parts are all as asked.
func (r *reader) group(p *search.Param, group *search.Field, texts []string) (*filter, error) {
	of := []search.Source{{Field: group}}
	var parts [][]index.Walk
	for i, part := range group.Parts {
		walks, err := r.walks(&search.Param{Code: p.Code, Kind: part.Kind}, of, "", texts[i])
		if err != nil {
			return nil, err
		}
		parts = append(parts, walks)
	}
	walks, err := index.CompositeWalks(group, parts)
	if errors.Is(err, index.ErrWalk) {
		return nil, invalid("The value of the parameter '%s' is too long.", p.Code)
	}
	return terms(walks), err
}
