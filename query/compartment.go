package query

import (
	"slices"

	"kiln/fhir"
	"kiln/fhir/search"
)

// CompartmentTypes are the types with resources in a compartment of a type; none:
// the type has no compartment.
func CompartmentTypes(of fhir.TypeCode) ([]fhir.TypeCode, error) {
	members, err := search.Compartment(of)
	var types []fhir.TypeCode
	for _, m := range members {
		types = append(types, m.Type)
	}
	return types, err
}

// Within limits a search to the compartment of a resource; whole: the resource
// itself belongs to it too.
func (s *Search) Within(of fhir.TypeCode, id string, whole bool) error {
	if s.contained.asked {
		return notSupported("The parameter '_contained' is not supported in a compartment: what contains a resource is in one, and not the resource. Leave it out.")
	}
	members, err := search.Compartment(of)
	if err != nil {
		return err
	}
	own := []key{{of, id}}
	self := &filter{op: opKeys, keys: own}
	var parts []*filter
	for _, m := range members {
		if len(s.Types) > 0 && !slices.Contains(s.Types, m.Type) {
			continue
		}
		if len(m.Params) == 0 {
			parts = append(parts, self)
		}
		for _, p := range m.Params {
			parts = append(parts, terms(referenceWalks(p.Sources, of, own, s.base)))
		}
	}
	if whole {
		parts = append(parts, self)
	}
	s.where = and(or(parts...), s.where)
	return nil
}

// BringReferred includes what the matches refer to, of types that are not among
// those given.
func (s *Search) BringReferred(except []fhir.TypeCode) error {
	in := include{except: except}
	for _, p := range s.table.Params() {
		if p.Kind == search.Reference {
			in.params = append(in.params, p)
		}
	}
	s.includes = append(s.includes, in)
	return nil
}
