package query

import (
	"bytes"
	"context"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
)

// Select gives a search's condition to those who read what it chooses by
// themselves, as exports do: chains have run as of an LSN (0: the snapshot's).
// Errors are *Error and the engine's.
func (s *Search) Select(ctx context.Context, snap *engine.Snapshot, asOf uint64) (*engine.Expr, error) {
	if err := s.refuseContained(); err != nil {
		return nil, err
	}
	q, err := s.query(ctx, snap, asOf)
	if err != nil {
		return nil, worded(err)
	}
	return q.Where, nil
}

// InCompartments is being in the compartment of one of keys, all of type of, for
// resources of type t; keys nil: of any resource of that type. nil: resources of
// type t are in no such compartment. A compartment's own resource is in it; what
// is tied to it by its own type (another Patient that links to the Patient) is not.
func InCompartments(t, of fhir.TypeCode, keys []engine.Key, base string) (*engine.Expr, error) {
	if t == of {
		if keys == nil {
			return &engine.Expr{Op: engine.All}, nil
		}
		return &engine.Expr{Op: engine.Keys, Keys: keys}, nil
	}
	members, err := search.Compartment(of)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.Type != t {
			continue
		}
		e := &engine.Expr{Op: engine.Or}
		for _, p := range m.Params {
			if keys == nil {
				e.Args = append(e.Args, RefersToTypes(p, []fhir.TypeCode{of}, base))
			} else {
				e.Args = append(e.Args, RefersTo(p, keys, base))
			}
		}
		return e, nil
	}
	return nil, nil
}

// RefersTo is referring by a parameter to one of keys.
func RefersTo(p *search.Param, keys []engine.Key, base string) *engine.Expr {
	byType := map[fhir.TypeCode][]key{}
	var types []fhir.TypeCode
	for _, k := range keys {
		if byType[k.Type] == nil {
			types = append(types, k.Type)
		}
		byType[k.Type] = append(byType[k.Type], key{k.Type, string(k.ID)})
	}
	e := &engine.Expr{Op: engine.Terms}
	for _, t := range types {
		e.Walks = append(e.Walks, referenceWalks(p.Sources, t, byType[t], base)...)
	}
	return someWalks(e)
}

// RefersToTypes is referring by a parameter to any resource of this server that is
// of one of some types.
func RefersToTypes(p *search.Param, types []fhir.TypeCode, base string) *engine.Expr {
	e := &engine.Expr{Op: engine.Terms}
	for _, t := range types {
		for _, w := range index.FieldWalks(narrowed(p.Sources, t)) {
			if prefix := index.AppendReferenceType(nil, formAbsolute, t); bytes.Equal(w.From, prefix) {
				w.Look = hasOwnBase(len(prefix), base)
			}
			e.Walks = append(e.Walks, w)
		}
	}
	return someWalks(e)
}

// hasOwnBase takes the absolute references, whose ids stand behind head bytes,
// that are to this server.
func hasOwnBase(head int, base string) func(value, room []byte) (index.Verdict, []byte) {
	return func(value, _ []byte) (index.Verdict, []byte) {
		_, rest, ok := bytes.Cut(value[head:], []byte{0})
		if ok && hasBase(rest, base) {
			return index.Take, nil
		}
		return index.Pass, nil
	}
}

// someWalks: Terms without walks would be an error.
func someWalks(e *engine.Expr) *engine.Expr {
	if len(e.Walks) == 0 {
		return nothingExpr()
	}
	return e
}
