package query

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/fhir/terminology"
	"kiln/index"
)

// codes reads a value of :in, :above and :below (R4 search.html#token).
func (r *reader) codes(p *search.Param, modifier, text string) (*filter, error) {
	for _, s := range p.Sources {
		if !isCoded(s.Field) {
			return nil, notSupported("The modifier ':%s' is not supported for the parameter '%s': what is searched has no codes with a system.", modifier, p.Code)
		}
	}
	f := &filter{op: opCodes, sources: p.Sources, codes: codesOf{modifier: modifier}}
	if modifier != "in" {
		token, err := readToken(p, text)
		if err != nil {
			return nil, err
		}
		if len(token.System) == 0 || len(token.Code) == 0 {
			return nil, invalid("The value '%s' of '%s:%s' is not of the form system|code.", text, p.Code, modifier)
		}
		f.codes.code = terminology.Code{System: string(token.System), Code: string(token.Code)}
		return f, nil
	}
	f.codes.literal, f.codes.canonical = r.valueSet(text)
	if f.codes.literal == "" && f.codes.canonical == "" {
		return nil, invalid("The value '%s' of '%s:in' is neither the url of a ValueSet nor a reference to one.", text, p.Code)
	}
	return f, nil
}

// valueSet tells how a text names a value set: as a reference to this server, by its
// url, or either.
func (r *reader) valueSet(text string) (literal, canonical string) {
	url, version, versioned := cut(text, '|')
	url, version = plain(url), plain(version)
	id, relative := strings.CutPrefix(url, "ValueSet/")
	id, absolute := strings.CutPrefix(id, r.Base+"/ValueSet/")
	if (relative || absolute) && !versioned && fhir.ValidID([]byte(id)) {
		literal = id
	}
	if relative || url == "" || versioned && version == "" {
		return literal, ""
	}
	if versioned {
		url += "|" + version
	}
	return literal, url
}

// isCoded tells whether elements of a field have codes with the system that they
// are of.
func isCoded(f *search.Field) bool {
	return !slices.ContainsFunc(f.Elements, func(e search.Element) bool {
		return e.Type != "CodeableConcept" && e.Type != "Coding"
	})
}

// codes finds the set, and what has a code of it.
func (u *runner) codes(f *filter) (*engine.Expr, error) {
	if u.sets == nil {
		u.sets = terminology.NewExpander(u.ctx, storedResources{u})
	}
	set, err := u.codeSet(&f.codes)
	var reason *terminology.Error
	if errors.As(err, &reason) {
		return nil, refusedCodes(reason)
	}
	if err != nil {
		return nil, err
	}
	var values [][]byte
	for c := range set.All() {
		values = append(values, index.AppendToken(nil, []byte(c.System), []byte(c.Code)))
	}
	if len(values) == 0 {
		return nothingExpr(), nil
	}
	slices.SortFunc(values, bytes.Compare)
	e := &engine.Expr{Op: engine.Terms}
	for _, s := range f.sources {
		e.Walks = append(e.Walks, index.AnyOfWalk(index.Param(s.Field.Number), values))
	}
	return e, nil
}

func (u *runner) codeSet(c *codesOf) (*terminology.Set, error) {
	switch c.modifier {
	case "above":
		return u.sets.Above(c.code.System, c.code.Code)
	case "below":
		return u.sets.Below(c.code.System, c.code.Code)
	}
	if c.literal != "" {
		set, err := u.sets.ValueSetByID(c.literal)
		var reason *terminology.Error
		missing := errors.As(err, &reason) && reason.Kind == terminology.Unknown
		if !missing || c.canonical == "" {
			return set, err
		}
	}
	return u.sets.ValueSet(c.canonical)
}

func refusedCodes(reason *terminology.Error) error {
	switch reason.Kind {
	case terminology.Unknown:
		return notFound("%s", reason.Text)
	case terminology.TooLarge:
		return tooCostly("%s", reason.Text)
	}
	return notSupported("%s", reason.Text)
}

// storedResources are the ValueSets and CodeSystems as of the search.
type storedResources struct{ u *runner }

// WithURL implements terminology.Source.
func (s storedResources) WithURL(t fhir.TypeCode, url string) ([]terminology.Resource, error) {
	table, err := search.Load()
	if err != nil {
		return nil, err
	}
	walks := index.URIWalks(table.Param(t, "url").Sources, []byte(url))
	return s.find(t, &engine.Expr{Op: engine.Terms, Walks: walks})
}

// WithID implements terminology.Source.
func (s storedResources) WithID(t fhir.TypeCode, id string) (r terminology.Resource, ok bool, err error) {
	all, err := s.find(t, keysExpr([]key{{t, id}}))
	if err != nil || len(all) == 0 {
		return r, false, err
	}
	return all[0], true, nil
}

func (s storedResources) find(t fhir.TypeCode, where *engine.Expr) (all []terminology.Resource, err error) {
	q := &engine.Query{Types: []fhir.TypeCode{t}, Where: where, AsOf: s.u.asOf}
	if err := s.u.limit(q, toFind); err != nil {
		return nil, err
	}
	_, err = s.u.snap.Search(s.u.ctx, q, func(v *engine.Version) error {
		if len(all) == sameURLMax {
			return tooCostly("More than %d resources of type '%s' have the same url.", sameURLMax, t)
		}
		all = append(all, terminology.Resource{ID: string(v.ID), Body: v.Body})
		return nil
	})
	return all, err
}
