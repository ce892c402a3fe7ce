package httpapi

import (
	"slices"

	"kiln/fhir"
	"kiln/query"
)

// searchCompartment answers GET {type}/{id}/{type or *}.
func (x *exchange) searchCompartment() error {
	types, err := query.CompartmentTypes(x.addr.typ)
	if err != nil {
		return err
	}
	if len(types) == 0 {
		return badRequest("Resource type '%s' has no compartment.", x.addr.typeName)
	}
	if _, err := x.live(); err != nil {
		return err
	}
	whole := string(x.addr.name) == "*"
	if !whole {
		searched := fhir.TypeByName(x.addr.name)
		if !slices.Contains(types, searched) {
			return badRequest("Resource type '%s' is not in the compartment of '%s'.", x.addr.name, x.addr.typeName)
		}
		types = []fhir.TypeCode{searched}
	}
	return x.searchOf(types, func(s *query.Search) error {
		return s.Within(x.addr.typ, string(x.addr.id), whole)
	})
}
