package query

import (
	"slices"
	"strings"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
)

// include is one _include or _revinclude (R4 search.html#include).
type include struct {
	reverse bool
	iterate bool
	from    fhir.TypeCode   // whose references count; 0: of any type
	to      fhir.TypeCode   // what they lead to; 0: any type
	except  []fhir.TypeCode // what they do not lead to
	params  []*search.Param
}

// include reads Type:parameter, Type:parameter:Target, Type:* or *.
func (r *reader) include(name, modifier, value string) error {
	if modifier != "" && modifier != "iterate" && modifier != "recurse" {
		return notSupported("The modifier ':%s' is not supported for the parameter '%s'.", modifier, name)
	}
	if len(r.search.includes) == includeParametersMax {
		return tooCostly("The search has more than %d includes.", includeParametersMax)
	}
	in := include{reverse: name == "_revinclude", iterate: modifier != ""}
	parts := strings.Split(value, ":")
	if value == "*" {
		parts = []string{"*", "*"}
	}
	if len(parts) < 2 || len(parts) > 3 {
		return invalid("The value '%s' of the parameter '%s' is not of the form Type:parameter or Type:parameter:Type.", value, name)
	}
	if parts[0] != "*" {
		if in.from = fhir.TypeByName([]byte(parts[0])); in.from == 0 {
			return invalid("The value '%s' of the parameter '%s' does not name a resource type.", value, name)
		}
	}
	if len(parts) == 3 {
		if in.to = fhir.TypeByName([]byte(parts[2])); in.to == 0 {
			return invalid("The value '%s' of the parameter '%s' does not name a resource type.", value, name)
		}
	}
	var err error
	if in.params, err = r.included(in.from, parts[1], name); err != nil {
		return err
	}
	r.search.includes = append(r.search.includes, in)
	return nil
}

// included are the parameters of an include.
func (r *reader) included(from fhir.TypeCode, code, name string) ([]*search.Param, error) {
	if code != "*" {
		p := r.table.Param(from, code)
		if from == 0 || p == nil || p.Kind != search.Reference {
			return nil, invalid("The parameter '%s' of '%s' is no reference that '%s' could follow.", code, from, name)
		}
		return []*search.Param{p}, nil
	}
	var all []*search.Param
	for _, p := range r.table.Params() {
		if p.Kind == search.Reference && (from == 0 || p.Type == from) {
			all = append(all, p)
		}
	}
	return all, nil
}

// bringing collects what a page brings along.
type bringing struct {
	runner
	store    *engine.Store
	there    map[key]bool // matches, and what is included
	included []engine.Version
	bytes    int
}

// bring finds what the includes say for a page's matches.
func (s *Search) bring(u runner, store *engine.Store, matches []engine.Version) ([]engine.Version, error) {
	if len(s.includes) == 0 || len(matches) == 0 {
		return nil, nil
	}
	b := &bringing{runner: u, store: store, there: map[key]bool{}}
	for i := range matches {
		b.there[keyOf(&matches[i])] = true // contained ones have no id, and are no resource's key
	}
	for _, in := range s.includes {
		if err := b.follow(in, matches); err != nil {
			return nil, err
		}
	}
	fresh := b.included
	for round := 0; len(fresh) > 0 && round < includeRoundsMax; round++ {
		start := len(b.included)
		for _, in := range s.includes {
			if !in.iterate {
				continue
			}
			if err := b.follow(in, fresh); err != nil {
				return nil, err
			}
		}
		fresh = b.included[start:]
	}
	return b.included, nil
}

func keyOf(v *engine.Version) key { return key{v.Type, string(v.ID)} }

// follow adds what an include leads to from some resources.
func (b *bringing) follow(in include, from []engine.Version) error {
	if in.reverse {
		return b.followBack(in, from)
	}
	fields, asked := in.fields(), map[key]bool{}
	var wanted []key
	for i := range from {
		if in.from != 0 && from[i].Type != in.from {
			continue
		}
		err := b.store.VersionTerms(&from[i], func(p index.Param, value []byte) {
			if k, ok := b.leads(&in, fields[p], value); ok && !b.there[k] && !asked[k] {
				asked[k] = true
				wanted = append(wanted, k)
			}
		})
		if err != nil {
			return err
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	return b.add(&engine.Query{Where: keysExpr(wanted), AsOf: b.asOf})
}

// fields are the fields whose references the include follows.
func (in *include) fields() map[index.Param][]search.Source {
	fields := map[index.Param][]search.Source{}
	for _, p := range in.params {
		for _, s := range p.Sources {
			n := index.Param(s.Field.Number)
			fields[n] = append(fields[n], s)
		}
	}
	return fields
}

// leads gives what a reference in a field of sources names, if the include
// follows it.
func (b *bringing) leads(in *include, sources []search.Source, value []byte) (key, bool) {
	if len(sources) == 0 {
		return key{}, false
	}
	k, ok := b.referredTo(value)
	if !ok || in.to != 0 && in.to != k.typ || slices.Contains(in.except, k.typ) {
		return key{}, false
	}
	follows := slices.ContainsFunc(sources, func(s search.Source) bool { return s.Only == 0 || s.Only == k.typ })
	return k, follows
}

// followBack adds what refers to some resources.
func (b *bringing) followBack(in include, to []engine.Version) error {
	var keys []key
	for i := range to {
		if (in.to == 0 || to[i].Type == in.to) && len(to[i].ID) > 0 { // nothing else refers to a contained one
			keys = append(keys, keyOf(&to[i]))
		}
	}
	var walks []index.Walk
	for _, p := range in.params {
		if len(keys) > 0 {
			walks = append(walks, referenceWalks(p.Sources, 0, keys, b.base)...)
		}
	}
	if len(walks) == 0 {
		return nil
	}
	q := &engine.Query{Where: &engine.Expr{Op: engine.Terms, Walks: walks}, AsOf: b.asOf}
	if in.from != 0 {
		q.Types = []fhir.TypeCode{in.from}
	}
	return b.add(q)
}

// add appends the matches of a query that are not there yet.
func (b *bringing) add(q *engine.Query) error {
	if err := b.limit(q, toBring); err != nil {
		return err
	}
	_, err := b.snap.Search(b.ctx, q, func(v *engine.Version) error {
		k := keyOf(v)
		if b.there[k] {
			return nil
		}
		b.there[k] = true
		if b.bytes += len(v.Body); len(b.included) == includesMax || b.bytes > includedBytesMax {
			return tooCostly("The page brings more than %d resources or %d bytes along; ask for smaller pages with _count, or search for them by themselves.", includesMax, includedBytesMax)
		}
		b.included = append(b.included, *v)
		return nil
	})
	return err
}
