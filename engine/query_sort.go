package engine

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
)

// A sorted page walks the terms of the first key in order, those of all sources
// merged. The matches that have a value and were not met before are a group;
// inside a group the next key decides in the same way, at last the store's order.
// Where the cursor's version lies is told by its own terms, and a walk begins
// there: what lies before is not read. A version that has several values may then
// be met at one that is not its first; its own terms tell that when it is about to
// be added to the page.

// sorter collects the places of one page.
type sorter struct {
	s      *searching
	terms  []index.TermSource // by source
	after  *cursorPlace
	keys   []sortedKey // of the cursor's version
	checks []sortedCheck
	places []sortedPlace
	limit  int // so many places are wanted; 0: all
	none   *roaring.Bitmap
}

type sortedPlace struct {
	src *source
	row uint32
}

// sortedKey is a version's value of a sort key.
type sortedKey struct {
	has bool
	key []byte
}

const sortedPlaceBytes = 16

// sortedCheck is what the versions of the group at hand must have as the first value
// of a key, and may not have, since its walk began at the cursor.
type sortedCheck struct {
	depth int
	value sortedKey
}

// rowGroup is rows by source.
type rowGroup []*roaring.Bitmap

func (g rowGroup) count() (n uint64) {
	for _, rows := range g {
		n += rows.GetCardinality()
	}
	return n
}

// sorted delivers a page in the order of the query's keys.
func (s *searching) sorted(fn func(*Version) error) (page Page, err error) {
	page = Page{AsOf: s.asOf, Next: s.q.After}
	defer s.last.end(&page)
	for _, k := range s.q.Sort {
		if len(k.Param.Sources) == 0 && k.Param.Virtual != search.ByKey && k.Param.Virtual != search.ByClock {
			return page, index.ErrUnsortable
		}
	}
	o := sorter{s: s, none: roaring.New()}
	if s.q.Limit > 0 {
		o.limit = s.q.Limit + 1
	}
	ok, err := o.topByColumn()
	if err == nil && !ok {
		err = o.byWalks()
	}
	if err != nil {
		return page, err
	}
	if page.More = o.limit > 0 && len(o.places) == o.limit; page.More {
		o.places = o.places[:s.q.Limit]
	}
	for _, p := range o.places {
		if err := s.check(); err != nil {
			return page, err
		}
		if err := s.deliver(p.src, p.row, fn); err != nil {
			return page, err
		}
	}
	return page, nil
}

// byWalks adds the places of a page by walks over the terms of the keys.
func (o *sorter) byWalks() error {
	all := make(rowGroup, len(o.s.sources))
	for i, src := range o.s.sources {
		if err := o.s.evaluate(src); err != nil {
			return err
		}
		all[i] = src.matches // what was not current is told when it is added
	}
	if err := o.findCursor(); err != nil {
		return err
	}
	return o.s.withAllTerms(func(terms []index.TermSource) error {
		o.terms = terms
		_, err := o.group(all, 0, o.after != nil)
		return err
	})
}

// withAllTerms gives the terms of all sources to fn.
func (s *searching) withAllTerms(fn func([]index.TermSource) error) error {
	terms := make([]index.TermSource, 0, len(s.sources))
	needed := s.q.sortNeeds()
	var next func() error
	next = func() error {
		if len(terms) == len(s.sources) {
			return fn(terms)
		}
		return s.withTerms(s.sources[len(terms)], needed, func(t index.TermSource) error {
			terms = append(terms, t)
			return next()
		})
	}
	return next()
}

// findCursor finds the place of the query's cursor and its sort keys.
func (o *sorter) findCursor() (err error) {
	if o.after, err = o.s.findCursor(); o.after == nil || err != nil {
		return err
	}
	v, terms, err := o.own(o.after.found)
	if err != nil {
		return err
	}
	for i := range o.s.q.Sort {
		key, err := firstKey(&o.s.q.Sort[i], v, terms)
		if err != nil {
			return err
		}
		o.keys = append(o.keys, key)
	}
	return nil
}

// own reads a version and its terms.
func (o *sorter) own(at found) (*Version, index.TermSource, error) {
	o.s.work.own++
	v, err := o.s.n.read(at)
	if err != nil {
		return nil, nil, err
	}
	table := index.NewMemoryTerms()
	if err := o.s.n.s.VersionTerms(&v, table.AddTerm); err != nil {
		return nil, nil, err
	}
	row, err := at.row()
	if err != nil {
		return nil, nil, err
	}
	table.AddRow(row)
	table.Commit(0)
	return &v, index.MemorySource{Terms: table, Below: 1}, nil
}

// firstKey is a version's value of a key.
func firstKey(k *SortKey, v *Version, terms index.TermSource) (first sortedKey, err error) {
	if k.Param.Virtual == search.ByKey {
		return sortedKey{has: true, key: v.ID}, nil
	}
	walks, err := k.open(terms)
	if err != nil {
		return first, err
	}
	for _, w := range walks {
		if !w.Next() {
			continue
		}
		if key := w.Key(); !first.has || compareSorted(key, first.key, k.Desc) < 0 {
			first = sortedKey{has: true, key: bytes.Clone(key)}
		}
	}
	return first, nil
}

// open opens the walks of a key over one source.
func (k *SortKey) open(terms index.TermSource) ([]*index.SortWalk, error) {
	if k.Param.Virtual == search.ByClock {
		return []*index.SortWalk{index.SortWalkLastUpdated(terms, k.Desc)}, nil
	}
	return index.SortWalks(k.Param.Sources, terms, k.Desc)
}

func compareSorted(a, b []byte, desc bool) int {
	if desc {
		a, b = b, a
	}
	return bytes.Compare(a, b)
}

// group adds the places of a group, which agrees in the first depth keys. seek
// says that the cursor's version is in it, so that only what is behind counts.
// It tells whether the page is full.
func (o *sorter) group(rows rowGroup, depth int, seek bool) (full bool, err error) {
	if err := o.s.check(); err != nil {
		return false, err
	}
	switch n := rows.count(); {
	case n == 0:
		return false, nil
	case depth == len(o.s.q.Sort), n == 1 && !seek:
		return o.inStoreOrder(rows, seek)
	}
	if o.s.q.Sort[depth].Param.Virtual == search.ByKey {
		return o.byKey(rows, depth, seek)
	}
	return o.byTerms(rows, depth, seek)
}

// inStoreOrder adds the places of rows that no key tells apart.
func (o *sorter) inStoreOrder(rows rowGroup, seek bool) (full bool, err error) {
	after := o.after
	if !seek {
		after = nil
	}
	var streams []*stream
	for i, src := range o.s.sources {
		if rows[i].IsEmpty() {
			continue
		}
		from, err := src.startAfter(after)
		if err != nil {
			return false, err
		}
		t := &stream{src: src, rows: rows[i].Iterator()}
		t.rows.AdvanceIfNeeded(from)
		if err := t.settle(o.s); err != nil {
			return false, err
		}
		streams = append(streams, t)
	}
	for {
		t, err := o.s.next(streams)
		if t == nil || err != nil {
			return false, err
		}
		row := t.rows.Next()
		if err := t.settle(o.s); err != nil {
			return false, err
		}
		if full, err = o.add(t.src, row); full || err != nil {
			return full, err
		}
	}
}

func (o *sorter) add(src *source, row uint32) (full bool, err error) {
	if ok, err := o.s.isMatch(src, row); !ok || err != nil {
		return false, err
	}
	if ok, err := o.isFirst(src, row); !ok || err != nil {
		return false, err
	}
	o.places = append(o.places, sortedPlace{src, row})
	if o.s.bytes += sortedPlaceBytes; o.s.bytes > queryBytesMax {
		return false, ErrQueryTooLarge
	}
	return o.limit > 0 && len(o.places) == o.limit, nil
}

// isFirst tells whether a version was met at the first of its values.
func (o *sorter) isFirst(src *source, row uint32) (bool, error) {
	if !slices.ContainsFunc(o.checks, func(c sortedCheck) bool { return !o.isSingle(src, &o.s.q.Sort[c.depth]) }) {
		return true, nil
	}
	v, terms, err := o.own(src.place(row))
	if err != nil {
		return false, err
	}
	for _, c := range o.checks {
		first, err := firstKey(&o.s.q.Sort[c.depth], v, terms)
		if err != nil {
			return false, err
		}
		if !bytes.Equal(first.key, c.value.key) {
			return false, nil
		}
	}
	return true, nil
}

// isSingle tells whether no version of a source has several values of a key.
func (o *sorter) isSingle(src *source, k *SortKey) bool {
	if k.Param.Virtual == search.ByClock {
		return true
	}
	if src.run == nil || len(k.Param.Sources) != 1 {
		return false
	}
	column := src.run.run.Column(index.Param(k.Param.Sources[0].Field.Number))
	return column != nil && !column.Several()
}

// keyedWalk is a walk over one source.
type keyedWalk struct {
	*index.SortWalk
	source int
}

// termWalk is a walk through the terms of a key over a group.
type termWalk struct {
	key   *SortKey
	depth int
	seek  bool
	walks []keyedWalk     // in the order of their keys
	sets  []*index.RowSet // by source: the rows of the value at hand; nil: never had any
	steps []uint64        // by source: terms that were read
	rows  rowGroup
	// left is the rows that were not met before. nil: no row can be met twice, and met
	// has those that were.
	left rowGroup
	met  [][]uint32
	// remaining is how many rows were not met.
	remaining uint64
}

// byTerms divides a group by the terms of a key.
func (o *sorter) byTerms(rows rowGroup, depth int, seek bool) (full bool, err error) {
	if seek && !o.keys[depth].has {
		return o.without(rows, depth, seek)
	}
	t := &termWalk{key: &o.s.q.Sort[depth], depth: depth, seek: seek, rows: rows, remaining: rows.count()}
	if t.walks, err = o.openWalks(rows, depth, seek); err != nil {
		return false, err
	}
	t.sets, t.steps, t.met = make([]*index.RowSet, len(rows)), make([]uint64, len(rows)), make([][]uint32, len(rows))
	if seek || o.anySeveral(rows, t.key) {
		t.keepLeft()
	}
	var room []byte
	for n := 0; len(t.walks) > 0 && t.remaining > 0; n++ {
		if n%walksPerCheck == 0 && o.s.check() != nil {
			return false, o.s.check()
		}
		room = append(room[:0], t.walks[0].Key()...)
		if full, err = o.byValue(t, room); full || err != nil {
			return full, cmp.Or(err, o.walked(t.key, t.steps))
		}
	}
	if err := o.walked(t.key, t.steps); err != nil || t.remaining == 0 {
		return false, err
	}
	t.keepLeft()
	if seek {
		return o.without(t.left, depth, false)
	}
	return o.group(t.left, depth+1, false)
}

// keepLeft makes left.
func (t *termWalk) keepLeft() {
	if t.left != nil {
		return
	}
	t.left = make(rowGroup, len(t.rows))
	for i, rows := range t.rows {
		t.left[i] = rows.Clone()
		for _, row := range t.met[i] {
			t.left[i].Remove(row)
		}
	}
}

// anySeveral tells whether a row may have several values of a key.
func (o *sorter) anySeveral(rows rowGroup, key *SortKey) bool {
	for i, src := range o.s.sources {
		if !rows[i].IsEmpty() && !o.isSingle(src, key) {
			return true
		}
	}
	return false
}

// byValue adds the rows that have a value and were not met before.
func (o *sorter) byValue(t *termWalk, value []byte) (full bool, err error) {
	only, err := o.read(t, value)
	if err != nil {
		return false, err
	}
	if only >= 0 && !t.seek && t.depth+1 == len(o.s.q.Sort) {
		if few, ok := t.sets[only].Few(); ok {
			return o.addFew(t, only, few)
		}
	}
	t.keepLeft()
	group := t.take(o.none)
	count := group.count()
	if t.remaining -= count; count == 0 {
		return false, nil
	}
	return o.valueGroup(group, t.depth, t.seek, value)
}

// addFew adds rows of one source, which ascend.
func (o *sorter) addFew(t *termWalk, source int, few []uint32) (full bool, err error) {
	for _, row := range few {
		if t.left != nil {
			if !t.left[source].CheckedRemove(row) {
				continue
			}
		} else if t.rows[source].Contains(row) {
			t.met[source] = append(t.met[source], row)
		} else {
			continue
		}
		t.remaining--
		if full, err = o.add(o.s.sources[source], row); full || err != nil {
			return full, err
		}
	}
	return false, nil
}

// valueGroup adds a group that has a value.
func (o *sorter) valueGroup(group rowGroup, depth int, seek bool, value []byte) (full bool, err error) {
	if seek {
		value = bytes.Clone(value)
		o.checks = append(o.checks, sortedCheck{depth, sortedKey{has: true, key: value}})
		defer func() { o.checks = o.checks[:len(o.checks)-1] }()
	}
	return o.subgroup(group, depth, seek, sortedKey{has: true, key: value})
}

// without adds those of a group that have no value of a key, where its walk did not
// go through all: those that have one are found first.
func (o *sorter) without(rows rowGroup, depth int, seek bool) (full bool, err error) {
	key := &o.s.q.Sort[depth]
	if key.Param.Virtual == search.ByClock {
		return false, nil
	}
	left := make(rowGroup, len(rows))
	for i, src := range o.s.sources {
		if left[i] = rows[i]; rows[i].IsEmpty() {
			continue
		}
		walks, err := key.open(o.terms[i])
		if err != nil {
			return false, err
		}
		var stretches []index.Walk
		for _, w := range walks {
			stretches = append(stretches, w.Stretch())
		}
		v := evaluation{s: o.s, src: src, terms: o.terms[i]}
		with, err := v.walks(stretches, rows[i], 0)
		if err != nil {
			return false, err
		}
		left[i] = roaring.AndNot(rows[i], with)
	}
	return o.group(left, depth+1, seek)
}

// openWalks opens the walks of a key over the sources of rows, in the order of
// their first keys; with seek they begin where the cursor's version stands.
func (o *sorter) openWalks(rows rowGroup, depth int, seek bool) (walks []keyedWalk, err error) {
	key := &o.s.q.Sort[depth]
	begin := (*index.SortWalk).Next
	if seek {
		begin = func(w *index.SortWalk) bool { return w.SeekKey(o.keys[depth].key) }
	}
	for i := range rows {
		if rows[i].IsEmpty() {
			continue
		}
		terms, err := o.s.cheaperSort(o.s.sources[i], o.terms[i], key, rows[i])
		if err != nil {
			return nil, err
		}
		opened, err := key.open(terms)
		if err != nil {
			return nil, err
		}
		for _, w := range opened {
			if begin(w) {
				walks = append(walks, keyedWalk{w, i})
			} else if w.Err() != nil {
				return nil, w.Err()
			}
		}
	}
	slices.SortFunc(walks, func(a, b keyedWalk) int { return compareSorted(a.Key(), b.Key(), key.Desc) })
	return walks, nil
}

// walked tells the runs how many terms of a key were read, by source.
func (o *sorter) walked(key *SortKey, steps []uint64) error {
	for i, src := range o.s.sources {
		if src.run == nil {
			continue
		}
		for _, p := range key.params() {
			if err := o.s.columnWalked(src.run.run, p, steps[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// subgroup adds a group with one value, unless it lies before the cursor.
func (o *sorter) subgroup(rows rowGroup, depth int, seek bool, value sortedKey) (full bool, err error) {
	if !seek {
		return o.group(rows, depth+1, false)
	}
	switch o.compare(value, depth) {
	case -1:
		return false, nil
	case 0:
		return o.group(rows, depth+1, true)
	}
	return o.group(rows, depth+1, false)
}

// compare tells whether a value comes before the cursor's, with it, or behind.
func (o *sorter) compare(value sortedKey, depth int) int {
	at := o.keys[depth]
	switch {
	case !value.has && !at.has:
		return 0
	case !value.has:
		return 1
	case !at.has:
		return -1
	}
	return compareSorted(value.key, at.key, o.s.q.Sort[depth].Desc)
}

// read adds the rows that have a value to the sets, and moves the walks that stand on
// it. It gives the only source that has it, or -1.
func (o *sorter) read(t *termWalk, value []byte) (only int, err error) {
	only = t.walks[0].source
	for len(t.walks) > 0 && bytes.Equal(t.walks[0].Key(), value) {
		w := t.walks[0]
		if w.source != only {
			only = -1
		}
		if t.sets[w.source] == nil {
			t.sets[w.source] = index.NewRowSet(o.s.sources[w.source].rows)
		}
		if err := w.AddTo(t.sets[w.source]); err != nil {
			return only, err
		}
		t.steps[w.source]++
		o.s.work.terms++
		if !w.Next() {
			if w.Err() != nil {
				return only, w.Err()
			}
			t.walks = t.walks[1:]
			continue
		}
		t.walks = moveFirst(t.walks, t.key.Desc)
	}
	return only, nil
}

// take gives the rows of the sets that were not met before.
func (t *termWalk) take(none *roaring.Bitmap) rowGroup {
	group := make(rowGroup, len(t.left))
	for i := range t.left {
		if t.sets[i] == nil {
			group[i] = none
			continue
		}
		group[i] = t.sets[i].Bitmap()
		group[i].And(t.left[i])
		t.left[i].AndNot(group[i])
	}
	return group
}

// moveFirst puts the first walk, which has moved on, into its place among the others.
func moveFirst(walks []keyedWalk, desc bool) []keyedWalk {
	for i := 1; i < len(walks) && compareSorted(walks[i].Key(), walks[i-1].Key(), desc) < 0; i++ {
		walks[i-1], walks[i] = walks[i], walks[i-1]
	}
	return walks
}

// keyedPlace is a row with its id.
type keyedPlace struct {
	id  string
	src int
	row uint32
}

// byKey divides a group by the resources' ids.
func (o *sorter) byKey(rows rowGroup, depth int, seek bool) (full bool, err error) {
	var places []keyedPlace
	for i, src := range o.s.sources {
		err := o.s.eachKey(src, rows[i], func(row uint32, _ fhir.TypeCode, id []byte) error {
			places = append(places, keyedPlace{string(id), i, row})
			if o.s.bytes += uint64(len(id)) + 2*sortedPlaceBytes; o.s.bytes > queryBytesMax {
				return ErrQueryTooLarge
			}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	desc := o.s.q.Sort[depth].Desc
	slices.SortFunc(places, func(a, b keyedPlace) int {
		if desc {
			a, b = b, a
		}
		return cmp.Compare(a.id, b.id)
	})
	for len(places) > 0 {
		n := 1
		for n < len(places) && places[n].id == places[0].id {
			n++
		}
		group := make(rowGroup, len(rows))
		for i := range group {
			group[i] = roaring.New()
		}
		for _, p := range places[:n] {
			group[p.src].Add(p.row)
		}
		full, err := o.subgroup(group, depth, seek, sortedKey{has: true, key: []byte(places[0].id)})
		if full || err != nil {
			return full, err
		}
		places = places[n:]
	}
	return false, nil
}
