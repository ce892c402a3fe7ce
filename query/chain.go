package query

import (
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
)

// chain reads subject.name=eve or subject:Patient.name=eve: conditions on what p
// refers to, which inner reads for each type (R4 search.html#chaining).
func (r *reader) chain(p *search.Param, modifier string, inner func(fhir.TypeCode) (*filter, error)) (*filter, error) {
	if p.Kind != search.Reference {
		return nil, invalid("The parameter '%s' is no reference, so nothing can be chained to it.", p.Code)
	}
	types, err := chainTypes(p, modifier)
	if err != nil {
		return nil, err
	}
	f := &filter{op: opChain, sources: p.Sources}
	var unknown error
	for _, t := range types {
		where, err := inner(t)
		if _, ok := err.(*unknownParameter); ok && modifier == "" {
			unknown = err // the other types may know it
			continue
		}
		if err != nil {
			return nil, err
		}
		f.targets = append(f.targets, target{t, where})
	}
	if len(f.targets) == 0 {
		return nil, unknown
	}
	return f, nil
}

// chainTypes are the types that a chained parameter may refer to.
func chainTypes(p *search.Param, modifier string) ([]fhir.TypeCode, error) {
	if modifier != "" {
		t := fhir.TypeByName([]byte(modifier))
		if t == 0 || len(p.Targets) > 0 && !slices.Contains(p.Targets, t) {
			return nil, invalid("The parameter '%s' does not refer to resources of type '%s'.", p.Code, modifier)
		}
		return []fhir.TypeCode{t}, nil
	}
	var types []fhir.TypeCode
	for _, s := range p.Sources {
		if s.Only == 0 {
			types = nil
			break
		}
		types = append(types, s.Only)
	}
	if len(types) == 0 {
		types = p.Targets
	}
	if len(types) == 0 {
		return nil, invalid("The parameter '%s' refers to any type: say which, as '%s:Patient.'.", p.Code, p.Code)
	}
	return slices.Compact(slices.Sorted(slices.Values(types))), nil
}

// reverse reads what follows _has: Type:reference:parameter (R4
// search.html#has): conditions on what refers here, which inner reads of the
// type and what stands behind the reference.
func (r *reader) reverse(t fhir.TypeCode, rest string, inner func(from fhir.TypeCode, name string) (*filter, error)) (*filter, error) {
	parts := strings.SplitN(rest, ":", 3)
	if len(parts) != 3 {
		return nil, invalid("The parameter '_has:%s' is not of the form _has:Type:reference:parameter.", rest)
	}
	from := fhir.TypeByName([]byte(parts[0]))
	if from == 0 {
		return nil, invalid("The parameter '_has:%s' does not name a resource type.", rest)
	}
	p := r.table.Param(from, parts[1])
	switch {
	case p == nil:
		return nil, &unknownParameter{name: parts[1], typ: from}
	case p.Kind != search.Reference:
		return nil, invalid("The parameter '%s' of '%s' is no reference.", parts[1], parts[0])
	case t != 0 && len(p.Targets) > 0 && !slices.Contains(p.Targets, t):
		return nil, invalid("The parameter '%s' of '%s' does not refer to resources of type '%s'.", parts[1], parts[0], t)
	}
	where, err := inner(from, parts[2])
	if err != nil {
		return nil, err
	}
	f := &filter{op: opHas, sources: p.Sources, targets: []target{{from, where}}}
	if t != 0 {
		f.keys = []key{{typ: t}}
	}
	return f, nil
}
