package query

import (
	"bytes"
	"context"
	"slices"

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
	keys := referredKeys{own: []byte(u.base)}
	err := u.snap.SearchValues(u.ctx, q, walks, func(_ index.Param, value []byte) error { return keys.add(value) })
	if err != nil {
		return nil, err
	}
	if err := keys.arrange(); err != nil || len(keys.sorted) == 0 {
		return nothingExpr(), err
	}
	return &engine.Expr{Op: engine.Keys, Sorted: keys.sorted, Stored: true}, nil
}

// referredKeys collects the keys of the resources that references lead to. The values
// of a run ascend, so the keys come as few ascending stretches, and a key again in each
// of them at most.
type referredKeys struct {
	own    []byte
	room   []byte // of the keys that come
	sorted [][]byte
	// arranged is how many there were when they were put in order.
	arranged int
}

// referredRoom is the bytes of keys that are taken from memory at once.
const referredRoom = 4 << 10

func (k *referredKeys) add(value []byte) error {
	if cap(k.room)-len(k.room) < len(value)+len(value)/2+referredKeyExtra {
		k.room = make([]byte, 0, max(referredRoom, 2*len(value)+referredKeyExtra))
	}
	at := len(k.room)
	room, ok := index.AppendReferredKey(k.room, value, k.own)
	if !ok {
		return nil
	}
	k.room = room
	k.sorted = append(k.sorted, room[at:len(room):len(room)])
	if len(k.sorted)-k.arranged <= reverseMatchesMax {
		return nil
	}
	return k.arrange()
}

// referredKeyExtra is what a key may be longer than the value.
const referredKeyExtra = 64

// arrange puts the keys in order, each once.
func (k *referredKeys) arrange() error {
	k.sorted = slices.CompactFunc(mergeStretches(k.sorted), bytes.Equal)
	if k.arranged = len(k.sorted); k.arranged > reverseMatchesMax {
		return tooCostly("The search refers to more than %d resources; narrow it.", reverseMatchesMax)
	}
	return nil
}

// mergeStretches sorts what ascends in stretches: neighbours are merged, again and again.
func mergeStretches(keys [][]byte) [][]byte {
	var starts []int // of the stretches
	for i := range keys {
		if i == 0 || bytes.Compare(keys[i], keys[i-1]) < 0 {
			starts = append(starts, i)
		}
	}
	var other [][]byte
	for len(starts) > 1 {
		other = other[:0]
		var merged []int
		for i := 0; i < len(starts); i += 2 {
			middle, end := len(keys), len(keys)
			if i+1 < len(starts) {
				middle = starts[i+1]
			}
			if i+2 < len(starts) {
				end = starts[i+2]
			}
			merged = append(merged, len(other))
			other = mergeTwo(other, keys[starts[i]:middle], keys[middle:end])
		}
		keys, other, starts = other, keys, merged
	}
	return keys
}

// mergeTwo appends two ascending lists, in order.
func mergeTwo(dst, a, b [][]byte) [][]byte {
	for len(a) > 0 && len(b) > 0 {
		if bytes.Compare(a[0], b[0]) <= 0 {
			dst, a = append(dst, a[0]), a[1:]
		} else {
			dst, b = append(dst, b[0]), b[1:]
		}
	}
	return append(append(dst, a...), b...)
}

// referredTo gives the resource of this server that a reference's value names.
func (u *runner) referredTo(value []byte) (k key, ok bool) {
	t, id, _, ok := index.ParseReferenceKey(nil, value, []byte(u.base))
	return key{t, string(id)}, ok
}
