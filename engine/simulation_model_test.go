package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"kiln/fhir"
	"kiln/index"
)

// simVersion is one version as the model knows it. milli 0 means that its date
// was never told, because the write was never acknowledged.
type simVersion struct {
	id      int64
	milli   int64
	deleted bool
	body    string
	created bool
	posted  bool
}

func simVersionOf(v *Version) simVersion {
	return simVersion{v.VersionID, v.LastUpdated.Milli, v.Deleted, string(v.Body), v.Created, v.Posted}
}

type simKey struct {
	typ fhir.TypeCode
	id  string
}

// simModel is the plain answer: every version of every key, by version id.
type simModel struct {
	keys     map[simKey]map[int64]simVersion
	progress map[uint64]string
}

func newSimModel() *simModel {
	return &simModel{keys: map[simKey]map[int64]simVersion{}, progress: map[uint64]string{}}
}

func (m *simModel) clone() *simModel {
	c := newSimModel()
	for k, versions := range m.keys {
		c.keys[k] = maps.Clone(versions)
	}
	c.progress = maps.Clone(m.progress)
	return c
}

func (m *simModel) put(k simKey, v simVersion) {
	if m.keys[k] == nil {
		m.keys[k] = map[int64]simVersion{}
	}
	if _, ok := m.keys[k][v.id]; ok {
		panic(fmt.Sprintf("the simulation made version %d of %v twice", v.id, k))
	}
	m.keys[k][v.id] = v
}

// purge takes versions out and tells how many.
func (m *simModel) purge(k simKey, scope PurgeScope) int {
	cur, found := m.current(k)
	before := len(m.keys[k])
	delete(m.keys, k)
	if scope == PurgeHistory && found {
		m.put(k, cur)
	}
	return before - len(m.keys[k])
}

// current is the highest positive version.
func (m *simModel) current(k simKey) (simVersion, bool) {
	best := simVersion{}
	for id, v := range m.keys[k] {
		if id > best.id {
			best = v
		}
	}
	return best, best.id > 0
}

// simState is what a snapshot answers, in the model's words.
type simState struct {
	model *simModel
	lsns  map[simKey]map[int64]uint64
}

// readState reads the whole store through one door: the system's history.
func readState(n *Snapshot) (*simState, error) {
	st := &simState{model: newSimModel(), lsns: map[simKey]map[int64]uint64{}}
	_, _, err := n.History(context.Background(), HistoryQuery{}, func(v *Version) error {
		k := simKey{v.Type, string(v.ID)}
		if _, ok := st.model.keys[k][v.VersionID]; ok {
			return fmt.Errorf("the history has %v version %d twice", k, v.VersionID)
		}
		st.model.put(k, simVersionOf(v))
		if st.lsns[k] == nil {
			st.lsns[k] = map[int64]uint64{}
		}
		st.lsns[k][v.VersionID] = v.LSN
		return nil
	})
	return st, err
}

// differs says how the store differs from the model; "" when it does not.
func (m *simModel) differs(got *simModel) string {
	for k, versions := range m.keys {
		for id, want := range versions {
			v, ok := got.keys[k][id]
			if want.milli == 0 {
				want.milli = v.milli
			}
			if !ok {
				return fmt.Sprintf("%v version %d is lost", k, id)
			}
			if v != want {
				return fmt.Sprintf("%v version %d is %+v, want %+v", k, id, v, want)
			}
		}
	}
	for k, versions := range got.keys {
		for id := range versions {
			if _, ok := m.keys[k][id]; !ok {
				return fmt.Sprintf("%v version %d was never written", k, id)
			}
		}
	}
	return ""
}

// adopt takes the dates that the model did not know.
func (m *simModel) adopt(got *simModel) {
	for k, versions := range m.keys {
		for id, v := range versions {
			if v.milli == 0 {
				v.milli = got.keys[k][id].milli
				versions[id] = v
			}
		}
	}
}

// doors says what checkDoors looks at: everything costs more than all the rest of a
// seed, and other seeds look at the rest.
type doors struct {
	pageSize int
	rng      *rand.Rand // nil: all of it
	share    int        // 1 of so many
}

func (d *doors) open() bool { return d.rng == nil || d.rng.IntN(d.share) == 0 }

// checkDoors compares the other ways of reading with the model.
func (m *simModel) checkDoors(n *Snapshot, st *simState, d doors) error {
	keys := m.sortedKeys()
	lookup := n.KeyLookup()
	for _, k := range keys {
		if !d.open() {
			continue
		}
		if err := errors.Join(m.checkKey(n, k), m.checkLookup(n, lookup, k)); err != nil {
			return err
		}
	}
	queries := []HistoryQuery{{Type: simTypes[0]}, {Type: simTypes[1]}}
	if milli := m.someMilli(); milli != 0 {
		queries = append(queries, HistoryQuery{SinceMilli: milli}, HistoryQuery{BeforeMilli: milli, Type: simTypes[0]})
	}
	queries = append(queries, HistoryQuery{LSN: n.LSN()/2 + 1}, HistoryQuery{Among: []HistoryMember{}},
		HistoryQuery{Among: someMembers(keys)}, HistoryQuery{Among: someMembers(keys), Type: simTypes[1], LSN: n.LSN()/2 + 1})
	for _, k := range keys {
		queries = append(queries, HistoryQuery{Type: k.typ, ID: []byte(k.id)})
	}
	for i, q := range queries {
		if !d.open() {
			continue
		}
		q.OldestFirst = (uint64(i)+n.LSN())%2 == 0 // not both: it takes as long as the rest
		if _, err := m.checkHistory(n, st, q, d.pageSize); err != nil {
			return err
		}
	}
	for _, check := range []func() error{
		func() error { return m.checkHistories(n, st, d.pageSize) }, func() error { return m.checkAbsent(n) },
		func() error { return m.checkScan(n) }, func() error { return m.checkSearch(n) }, func() error { return m.checkFields(n) },
	} {
		if !d.open() {
			continue
		}
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (m *simModel) sortedKeys() []simKey {
	return slices.SortedFunc(maps.Keys(m.keys), func(a, b simKey) int { return bytes.Compare(a.key(), b.key()) })
}

// someMembers is every third resource, every third with its second version only,
// and one that is not there.
func someMembers(keys []simKey) []HistoryMember {
	members := []HistoryMember{{Key: Key{Type: simTypes[0], ID: []byte("absent")}}}
	for i, k := range keys {
		if i%3 < 2 {
			members = append(members, HistoryMember{Key: Key{Type: k.typ, ID: []byte(k.id)}, Version: int64(i % 3 * 2)})
		}
	}
	return members
}

// checkAbsent asks for what was never written, or was purged.
func (m *simModel) checkAbsent(n *Snapshot) error {
	for _, t := range simTypes {
		for i := range simIDs {
			k := simKey{t, string(rune('a' + i))}
			if len(m.keys[k]) > 0 {
				continue
			}
			_, err := n.Get(k.typ, []byte(k.id))
			_, _, historyErr := n.History(context.Background(), HistoryQuery{Type: k.typ, ID: []byte(k.id)}, func(*Version) error { return nil })
			if !errors.Is(err, ErrNotFound) || !errors.Is(historyErr, ErrNotFound) {
				return fmt.Errorf("%v is not there; Get says %w, History %w", k, err, historyErr)
			}
		}
	}
	return nil
}

// checkSearch counts what searches see, now and as of an older LSN: then they may
// see no more than there is.
func (m *simModel) checkSearch(n *Snapshot) error {
	want := uint64(0)
	for k := range m.keys {
		if v, ok := m.current(k); ok && !v.deleted {
			want++
		}
	}
	if got, err := n.Count(context.Background(), &Query{}); err != nil || got != want {
		return fmt.Errorf("Count gives %d, %w; want %d", got, err, want)
	}
	_, err := n.Search(context.Background(), &Query{AsOf: n.LSN()/2 + 1}, func(v *Version) error {
		if _, ok := m.keys[simKey{v.Type, string(v.ID)}][v.VersionID]; !ok {
			return fmt.Errorf("Search shows %v/%s version %d, which is not there", v.Type, v.ID, v.VersionID)
		}
		return nil
	})
	return err
}

func (k simKey) key() []byte { return index.AppendKey(nil, k.typ, []byte(k.id)) }

func (m *simModel) someMilli() int64 {
	var all []int64
	for _, versions := range m.keys {
		for _, v := range versions {
			all = append(all, v.milli)
		}
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)/2]
}

func (m *simModel) checkKey(n *Snapshot, k simKey) error {
	want, ok := m.current(k)
	got, err := n.Get(k.typ, []byte(k.id))
	switch {
	case !ok && !errors.Is(err, ErrNotFound):
		return fmt.Errorf("Get %v: %+v, %w; want not found", k, got, err)
	case ok && (err != nil || simVersionOf(&got) != want):
		return fmt.Errorf("Get %v: %+v, %w; want %+v", k, got, err, want)
	}
	for id, want := range m.keys[k] {
		got, err := n.Vread(k.typ, []byte(k.id), id)
		if err != nil || simVersionOf(&got) != want {
			return fmt.Errorf("Vread %v/%d: %+v, %w; want %+v", k, id, got, err, want)
		}
	}
	if _, err := n.Vread(k.typ, []byte(k.id), 1<<40); !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("Vread of %v without such a version: %w", k, err)
	}
	return nil
}

func (m *simModel) checkLookup(n *Snapshot, lookup *KeyLookup, k simKey) error {
	versions, err := lookup.Versions(k.key())
	if err != nil || len(versions) != len(m.keys[k]) {
		return fmt.Errorf("KeyLookup %v: %+v, %w; want %+v", k, versions, err, m.keys[k])
	}
	cur, _ := m.current(k)
	for _, v := range versions {
		want, ok := m.keys[k][v.VersionID]
		if !ok || want.milli != v.LastUpdated.Milli || want.deleted != v.Deleted || v.Current != (v.VersionID == cur.id) {
			return fmt.Errorf("KeyLookup %v: %+v; want %+v", k, v, want)
		}
		body, err := n.BodyAt(k.key(), v)
		if err != nil || string(body.Body) != want.body {
			return fmt.Errorf("BodyAt %v %+v: %q, %w", k, v, body.Body, err)
		}
	}
	want := slices.DeleteFunc(slices.Clone(versions), func(v KeyVersion) bool { return !v.Current })
	if got, err := lookup.Current(0, k.key()); err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("KeyLookup of the current %v: %+v, %w; want %+v", k, got, err, want)
	}
	return nil
}

// checkHistories pages through the system's history both ways: one is the other
// backwards.
func (m *simModel) checkHistories(n *Snapshot, st *simState, pageSize int) error {
	falling, err := m.checkHistory(n, st, HistoryQuery{}, pageSize)
	if err != nil {
		return err
	}
	rising, err := m.checkHistory(n, st, HistoryQuery{OldestFirst: true}, pageSize)
	if err != nil {
		return err
	}
	slices.Reverse(rising)
	if !slices.Equal(falling, rising) {
		return fmt.Errorf("the history is %v; the oldest first it is the reverse of %v", falling, rising)
	}
	return nil
}

// has tells whether a query selects a version.
func (q *HistoryQuery) has(k simKey, v simVersion, lsn uint64) bool {
	return q.isAmong(k, v) && (q.Type == 0 || k.typ == q.Type) && (q.ID == nil || k.id == string(q.ID)) && q.wants(v.milli) && (q.LSN == 0 || lsn <= q.LSN)
}

func (q *HistoryQuery) isAmong(k simKey, v simVersion) bool {
	return q.Among == nil || slices.ContainsFunc(q.Among, func(m HistoryMember) bool {
		return m.Type == k.typ && string(m.ID) == k.id && (m.Version == 0 || m.Version == v.id)
	})
}

// checkHistory pages through a history and compares it with the whole one,
// filtered, in the order of dates and LSNs.
func (m *simModel) checkHistory(n *Snapshot, st *simState, q HistoryQuery, pageSize int) (names []string, err error) {
	want := 0
	for k, versions := range m.keys {
		for id, v := range versions {
			if q.has(k, v, st.lsns[k][id]) {
				want++
			}
		}
	}
	seen := map[string]bool{}
	last := (*Version)(nil)
	q.Count = pageSize
	for more := true; more; {
		q.After, more, err = n.History(context.Background(), q, func(v *Version) error {
			k := simKey{v.Type, string(v.ID)}
			name := fmt.Sprint(k, v.VersionID)
			if seen[name] || last != nil && q.compareGroups(last.LastUpdated.Milli, last.LSN, v.LastUpdated.Milli, v.LSN) > 0 {
				return fmt.Errorf("%s comes twice or out of order", name)
			}
			seen[name], last, names = true, v, append(names, name)
			if want := m.keys[k][v.VersionID]; want != simVersionOf(v) || !q.has(k, want, v.LSN) {
				return fmt.Errorf("%s is %+v, want %+v", name, v, want)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("History %+v: %w", q, err)
		}
	}
	q.After, q.Count = HistoryCursor{}, 0
	total, err := n.HistoryTotal(context.Background(), q)
	if err != nil || total != int64(want) || len(seen) != want {
		return nil, fmt.Errorf("History %+v has %d, total %d, %w; want %d", q, len(seen), total, err, want)
	}
	return names, nil
}

func (m *simModel) checkScan(n *Snapshot) error {
	parts, err := n.ScanParts(context.Background(), ScanQuery{})
	if err != nil {
		return err
	}
	return m.checkParts(parts)
}

// checkParts: all current versions, each once.
func (m *simModel) checkParts(parts []ScanPart) error {
	want := 0
	for k := range m.keys {
		if v, ok := m.current(k); ok && !v.deleted {
			want++
		}
	}
	rows, seen := uint64(0), map[simKey]bool{}
	for i := range parts {
		rows += parts[i].Rows()
		err := parts[i].Run(context.Background(), func(v *Version) error {
			k := simKey{v.Type, string(v.ID)}
			if cur, _ := m.current(k); seen[k] || v.VersionID != cur.id || v.Deleted || string(v.Body) != cur.body {
				return fmt.Errorf("Scan gives %v version %d; current is %+v", k, v.VersionID, cur)
			}
			seen[k] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(seen) != want || rows != uint64(want) {
		return fmt.Errorf("Scan gives %d resources, counts %d; want %d", len(seen), rows, want)
	}
	return nil
}
