package query

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
)

func listType() fhir.TypeCode { return fhir.TypeByName([]byte("List")) }

// ListIDs reads a value of _list: the ids of Lists. Errors are *Error.
func ListIDs(value string) ([]string, error) {
	if strings.HasPrefix(value, "$") {
		return nil, notSupported("The functional list '%s' is not supported: this server does not judge what is current. Name a List by its id, or search by parameters, as clinical-status=active.", value)
	}
	var ids []string
	for _, text := range split(value, ',') {
		id := strings.TrimPrefix(text, "List/")
		if !fhir.ValidID([]byte(id)) {
			return nil, invalid("The value '%s' of the parameter '_list' is not an id.", text)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// list is the entries of List resources.
func (r *reader) list(modifier, value string) (*filter, error) {
	if modifier != "" {
		return nil, notSupported("The modifier ':%s' is not supported for the parameter '_list'.", modifier)
	}
	ids, err := ListIDs(value)
	if err != nil {
		return nil, err
	}
	var all []*filter
	for _, id := range ids {
		all = append(all, &filter{op: opList, keys: []key{{listType(), id}}})
	}
	return or(all...), nil
}

// Lists names Lists for histories.
type Lists struct {
	IDs  []string
	Base string // own references may begin with it
	AsOf uint64 // LSN
	// Access limits which Lists are there; nil: nothing does.
	Access *Access
}

// Members is what the entries of the Lists refer to: resources of this server,
// and single versions where the reference has one. Never nil without an error.
// Errors are *Error, of the kind NotFound when a List was not there as of the
// LSN, and the engine's.
func (l *Lists) Members(ctx context.Context, store *engine.Store, snap *engine.Snapshot) ([]engine.HistoryMember, error) {
	lists, err := l.read(ctx, snap)
	if err != nil {
		return nil, worded(err)
	}
	c, err := newListCollector(l.Base)
	if err != nil {
		return nil, err
	}
	for i := range lists {
		if err := store.VersionTerms(&lists[i], c.add); err != nil {
			return nil, err
		}
		if len(c.seen) > reverseMatchesMax {
			return nil, tooCostly("The parameter '_list' refers to more than %d resources.", reverseMatchesMax)
		}
	}
	return c.members(), nil
}

func (l *Lists) read(ctx context.Context, snap *engine.Snapshot) ([]engine.Version, error) {
	q := &engine.Query{Types: []fhir.TypeCode{listType()}, AsOf: l.AsOf}
	missing, keys := map[string]bool{}, []key{}
	for _, id := range l.IDs {
		if !missing[id] {
			missing[id] = true
			keys = append(keys, key{listType(), id})
		}
	}
	q.Where = keysExpr(keys)
	u := runner{ctx: ctx, snap: snap, asOf: l.AsOf, base: l.Base, access: l.Access}
	if err := u.limit(q, toFind); err != nil {
		return nil, err
	}
	var lists []engine.Version
	_, err := snap.Search(ctx, q, func(v *engine.Version) error {
		lists = append(lists, *v)
		delete(missing, string(v.ID))
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, id := range l.IDs {
		if missing[id] {
			return nil, notFound("The List '%s' of the parameter '_list' couldn't be found.", id)
		}
	}
	return lists, nil
}

// listCollector collects what Lists refer to, from their search terms.
type listCollector struct {
	item []index.Param // the fields of List.entry.item
	base []byte
	seen map[listed]bool
}

type listed struct {
	key
	version int64 // 0: all
}

func newListCollector(base string) (*listCollector, error) {
	table, err := search.Load()
	if err != nil {
		return nil, err
	}
	c := &listCollector{base: []byte(base), seen: map[listed]bool{}}
	for _, s := range table.Param(listType(), "item").Sources {
		c.item = append(c.item, index.Param(s.Field.Number))
	}
	return c, nil
}

func (c *listCollector) add(p index.Param, value []byte) {
	if !slices.Contains(c.item, p) {
		return
	}
	t, id, version, ok := index.ParseReferenceKey(nil, value, c.base)
	if !ok {
		return
	}
	m := listed{key: key{t, string(id)}}
	if len(version) > 0 {
		number, err := strconv.ParseInt(string(version), 10, 64)
		if err != nil || number <= 0 || strconv.FormatInt(number, 10) != string(version) {
			return // no version of this server
		}
		m.version = number
	}
	c.seen[m] = true
}

func (c *listCollector) members() []engine.HistoryMember {
	all := make([]engine.HistoryMember, 0, len(c.seen))
	for m := range c.seen {
		if m.version != 0 && c.seen[listed{key: m.key}] {
			continue // in all of them
		}
		all = append(all, engine.HistoryMember{Key: engine.Key{Type: m.typ, ID: []byte(m.id)}, Version: m.version})
	}
	return all
}
