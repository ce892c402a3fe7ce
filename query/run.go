package query

import (
	"context"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/fhir/terminology"
	"kiln/index"
)

// runner makes expressions of filters, which runs their inner searches.
type runner struct {
	ctx  context.Context
	snap *engine.Snapshot
	asOf uint64
	base string
	sets *terminology.Expander // made when asked for
	// access limits what searches inside of this one find; nil: nothing does.
	access *Access
}

// query is the engine's query of a search: chains have run. asOf as in
// engine.Query. Errors are *Error and the engine's.
func (s *Search) query(ctx context.Context, snap *engine.Snapshot, asOf uint64) (*engine.Query, error) {
	u := &runner{ctx: ctx, snap: snap, asOf: asOf, base: s.base, access: s.access}
	where, err := u.expr(s.where)
	if err != nil {
		return nil, err
	}
	q := &engine.Query{Types: s.Types, Where: where, AsOf: asOf}
	return q, u.limit(q, toFind)
}

func (u *runner) expr(f *filter) (*engine.Expr, error) {
	e, err := u.bare(f)
	if err == nil {
		e.Name = f.name
	}
	return e, err
}

func (u *runner) bare(f *filter) (*engine.Expr, error) {
	switch f.op {
	case opAll:
		return &engine.Expr{Op: engine.All}, nil
	case opTerms:
		return &engine.Expr{Op: engine.Terms, Walks: f.walks}, nil
	case opKeys:
		return keysExpr(f.keys), nil
	case opChain:
		return u.chain(f)
	case opHas:
		return u.has(f)
	case opList:
		return u.list(f)
	case opCodes:
		return u.codes(f)
	}
	e := &engine.Expr{Op: engine.And, Args: make([]*engine.Expr, 0, len(f.args))}
	switch f.op {
	case opOr:
		e.Op = engine.Or
	case opNot:
		e.Op = engine.Not
	}
	for _, arg := range f.args {
		inner, err := u.expr(arg)
		if err != nil {
			return nil, err
		}
		e.Args = append(e.Args, inner)
	}
	return e, nil
}

func keysExpr(keys []key) *engine.Expr {
	e := &engine.Expr{Op: engine.Keys, Keys: make([]engine.Key, 0, len(keys))}
	size := 0
	for _, k := range keys {
		size += len(k.id)
	}
	ids := make([]byte, 0, size)
	for _, k := range keys {
		at := len(ids)
		ids = append(ids, k.id...)
		e.Keys = append(e.Keys, engine.Key{Type: k.typ, ID: ids[at:len(ids):len(ids)]})
	}
	return e
}

func nothingExpr() *engine.Expr { return &engine.Expr{Op: engine.Or} }

// chain finds what the inner searches match, and then what refers to that, or to
// what it contains itself.
func (u *runner) chain(f *filter) (*engine.Expr, error) {
	e := &engine.Expr{Op: engine.Terms}
	for _, t := range f.targets {
		where, err := u.expr(t.where)
		if err != nil {
			return nil, err
		}
		keys, err := u.keys(t, where)
		if err != nil {
			return nil, err
		}
		if len(keys) > 0 {
			e.Walks = append(e.Walks, referenceWalks(f.sources, t.typ, keys, u.base)...)
		}
		if walks := index.FragmentWalks(f.sources, t.typ); len(walks) > 0 {
			e.Inside = append(e.Inside, engine.Inside{Type: t.typ, Walks: walks, Where: where})
		}
	}
	if len(e.Walks)+len(e.Inside) == 0 {
		return nothingExpr(), nil
	}
	return e, nil
}

// keys is what a chain's inner search matches.
func (u *runner) keys(t target, where *engine.Expr) ([]key, error) {
	var keys []key
	q := &engine.Query{Types: []fhir.TypeCode{t.typ}, Where: where, AsOf: u.asOf}
	if err := u.limit(q, toFind); err != nil {
		return nil, err
	}
	err := u.snap.SearchKeys(u.ctx, q, func(typ fhir.TypeCode, id []byte) error {
		if len(keys) == chainMatchesMax {
			return tooCostly("The chain goes through more than %d resources of type '%s'; narrow it.", chainMatchesMax, t.typ)
		}
		keys = append(keys, key{typ, string(id)})
		return nil
	})
	return keys, err
}

// has finds what the matches of the inner search refer to.
func (u *runner) has(f *filter) (*engine.Expr, error) {
	wanted := fhir.TypeCode(0)
	if len(f.keys) > 0 {
		wanted = f.keys[0].typ
	}
	walks := index.FieldWalks(narrowed(f.sources, wanted))
	where, err := u.expr(f.targets[0].where)
	if err != nil {
		return nil, err
	}
	q := &engine.Query{Types: []fhir.TypeCode{f.targets[0].typ}, Where: where, AsOf: u.asOf}
	return u.referred(q, walks)
}

// narrowed is the references of sources that are to a type; 0: to any.
func narrowed(sources []search.Source, t fhir.TypeCode) []search.Source {
	var kept []search.Source
	for _, s := range sources {
		if s.Only == 0 || t == 0 || s.Only == t {
			s.Only = max(s.Only, t)
			kept = append(kept, s)
		}
	}
	return kept
}

// list is the entries of a List.
func (u *runner) list(f *filter) (*engine.Expr, error) {
	table, err := search.Load()
	if err != nil {
		return nil, err
	}
	walks := index.FieldWalks(table.Param(listType(), "item").Sources)
	q := &engine.Query{Types: []fhir.TypeCode{listType()}, Where: keysExpr(f.keys), AsOf: u.asOf}
	return u.referred(q, walks)
}

// referred is the resources that the matches of a query refer to in walks.
func (u *runner) referred(q *engine.Query, walks []index.Walk) (*engine.Expr, error) {
	if len(walks) == 0 {
		return nothingExpr(), nil
	}
	if err := u.limit(q, toFind); err != nil {
		return nil, err
	}
	seen := map[key]bool{}
	var keys []key
	var id []byte
	own := []byte(u.base)
	err := u.snap.SearchValues(u.ctx, q, walks, func(_ index.Param, value []byte) error {
		t, text, _, ok := index.ParseReferenceKey(id[:0], value, own)
		id = text
		if !ok || seen[key{t, string(text)}] { // looked up without a copy
			return nil
		}
		k := key{t, string(text)}
		if len(keys) == reverseMatchesMax {
			return tooCostly("The search refers to more than %d resources; narrow it.", reverseMatchesMax)
		}
		seen[k] = true
		keys = append(keys, k)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nothingExpr(), nil
	}
	e := keysExpr(keys)
	e.Stored = true
	return e, nil
}

// referredTo gives the resource of this server that a reference's value names.
func (u *runner) referredTo(value []byte) (k key, ok bool) {
	t, id, _, ok := index.ParseReferenceKey(nil, value, []byte(u.base))
	return key{t, string(id)}, ok
}
