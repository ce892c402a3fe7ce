package httpapi

import (
	"errors"
	"fmt"
	"slices"

	"kiln/engine"
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
	if err := x.compartmentExists(); err != nil {
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

// compartmentExists refuses the compartment of a resource that is not there.
func (x *exchange) compartmentExists() error {
	if !fhir.ValidID(x.addr.id) {
		return x.missing()
	}
	snap, done, err := x.snapshot()
	if err != nil {
		return err
	}
	defer done()
	v, err := snap.Get(x.addr.typ, x.addr.id)
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return x.missing()
	case err != nil:
		return fmt.Errorf("cannot read a resource: %w", err)
	case v.Deleted:
		return x.gone(&v)
	}
	return nil
}
