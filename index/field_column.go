package index

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"
)

// FieldColumn is a field's terms in a run, turned around: for each row the places
// of its values among the field's values, which stand in order. It answers for
// given rows what a walk over the terms answers for all. Immutable.
//
// It is made of the run's terms when walks have read as many as it takes, and
// kept in memory as long as there is room (columnCache).
type FieldColumn struct {
	values []byte // one behind the other, ascending
	ends   []uint32
	// pages hold a number for each of columnPageRows rows: 0 for no value, the
	// place + 1 of the only one, or columnSeveral and where in lists the row's
	// places stand. nil: no row of the page has a value.
	pages [][]uint32
	lists []uint32 // how many, and their places ascending, again and again
	rows  uint64   // that have a value
}

const (
	columnPageRows = 4096
	columnSeveral  = 1 << 31
)

// Places is a stretch of a column's values: those from From on and below To.
type Places struct{ From, To uint32 }

// Several tells whether a row has more than one value.
func (f *FieldColumn) Several() bool { return len(f.lists) > 0 }

// Rows is how many rows have a value.
func (f *FieldColumn) Rows() uint64 { return f.rows }

// Values is how many values there are.
func (f *FieldColumn) Values() uint64 { return uint64(len(f.ends)) }

func (f *FieldColumn) memoryBytes() int64 {
	total := int64(cap(f.values)) + 4*int64(cap(f.ends)+cap(f.lists)) + 24*int64(cap(f.pages))
	for _, page := range f.pages {
		total += 4 * int64(len(page))
	}
	return total
}

func (f *FieldColumn) count() int { return len(f.ends) }

func (f *FieldColumn) value(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = f.ends[i-1]
	}
	return f.values[start:f.ends[i]]
}

// seek is the place of the lowest value that is not less than value.
func (f *FieldColumn) seek(value []byte) int {
	return sort.Search(f.count(), func(i int) bool { return bytes.Compare(f.value(i), value) >= 0 })
}

// Value is the value at a place. Do not modify it.
func (f *FieldColumn) Value(place uint32) []byte { return f.value(int(place)) }

// Places gives the places of a walk's values, ascending and apart. Errors are
// those of check, which is called now and then.
func (f *FieldColumn) Places(w *Walk, check func() error) (all []Places, err error) {
	at, end := f.seek(w.From), f.count()
	switch {
	case w.Exact:
		if at < end && bytes.Equal(f.value(at), w.From) {
			all = append(all, Places{uint32(at), uint32(at) + 1})
		}
		return all, nil
	case w.To != nil:
		end = f.seek(w.To)
	}
	if w.Look == nil {
		return appendPlaces(nil, at, end), nil
	}
	var room []byte
	for n := 1; at < end; n++ {
		if n%walkTermsPerCheck == 0 {
			if err := check(); err != nil {
				return nil, err
			}
		}
		verdict, seek := w.Look(f.value(at), room[:0])
		next := at + 1
		if seek != nil {
			room, next = seek, min(max(f.seek(seek), next), end)
		}
		switch verdict {
		case End:
			return all, nil
		case Take:
			all = appendPlaces(all, at, at+1)
		case TakeAll:
			all = appendPlaces(all, at, next)
		}
		at = next
	}
	return all, nil
}

// appendPlaces appends a stretch that lies behind all others.
func appendPlaces(all []Places, from, to int) []Places {
	switch last := len(all) - 1; {
	case from >= to:
		return all
	case last >= 0 && all[last].To == uint32(from):
		all[last].To = uint32(to)
		return all
	}
	return append(all, Places{uint32(from), uint32(to)})
}

// CountPlaces is how many values are in all.
func CountPlaces(all []Places) (n uint64) {
	for _, p := range all {
		n += uint64(p.To - p.From)
	}
	return n
}

// CommonPlaces is what is in a and in b.
func CommonPlaces(a, b []Places) (both []Places) {
	for len(a) > 0 && len(b) > 0 {
		both = appendPlaces(both, int(max(a[0].From, b[0].From)), int(min(a[0].To, b[0].To)))
		if a[0].To < b[0].To {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return both
}

// UnitedPlaces is what is in one of several lists.
func UnitedPlaces(lists ...[]Places) (all []Places) {
	if len(lists) == 1 {
		return lists[0]
	}
	sorted := slices.Concat(lists...)
	slices.SortFunc(sorted, func(a, b Places) int { return int(a.From) - int(b.From) })
	for _, p := range sorted {
		if last := len(all) - 1; last >= 0 && p.From <= all[last].To {
			all[last].To = max(all[last].To, p.To)
		} else {
			all = append(all, p)
		}
	}
	return all
}

// AddPostings adds the rows that have one of the values, by reading the run's
// postings. Errors are those of reading and of check.
func (f *FieldColumn) AddPostings(rows *RowSet, r *Run, p Param, wanted []Places, check func() error) error {
	c, n := r.Terms(p), 0
	for _, stretch := range wanted {
		ok := c.SeekGE(f.value(int(stretch.From)))
		for range stretch.To - stretch.From {
			if !ok {
				return cmp.Or(c.Err(), r.impossible(blockTerms, r.terms, max(c.block, 0)))
			}
			if n++; n%walkTermsPerCheck == 0 {
				if err := check(); err != nil {
					return err
				}
			}
			if err := c.AddTo(rows); err != nil {
				return err
			}
			ok = c.Next()
		}
		if c.Err() != nil {
			return c.Err()
		}
	}
	return nil
}

// filteredFew: up to so many rows the kept ones, which ascend, join a bitmap sooner
// than a field of bits becomes one.
const filteredFew = 1 << 14

// columnStepRows is how many rows a Filter looks at between two calls of check.
const columnStepRows = 1 << 10

// Filter gives the rows of within that have one of the values; with enough, which
// is not 0, it may stop at the lowest so many, and says so. Errors are those of
// check.
func (f *FieldColumn) Filter(wanted []Places, within *roaring.Bitmap, enough uint64, check func() error) (rows *roaring.Bitmap, stopped bool, err error) {
	if len(wanted) == 0 {
		return roaring.New(), false, nil
	}
	out, few := NewRowSet(uint32(len(f.pages)*columnPageRows)), roaring.New()
	isFew, found := within.GetCardinality() <= filteredFew || enough > 0, uint64(0)
	m := f.matcher(wanted)
	step := make([]uint32, min(columnStepRows, within.GetCardinality()))
	it := within.ManyIterator()
	for n := it.NextMany(step); n > 0; n = it.NextMany(step) {
		if err := check(); err != nil {
			return nil, false, err
		}
		kept := m.keep(step[:n])
		if isFew {
			few.AddMany(kept)
		} else {
			out.Add(kept...)
		}
		if found += uint64(len(kept)); enough > 0 && found >= enough {
			return few, true, nil
		}
	}
	if isFew {
		return few, false, nil
	}
	return out.Bitmap(), false, nil
}

// Keep is Filter for a list of rows, which ascend, in its memory.
func (f *FieldColumn) Keep(wanted []Places, rows []uint32, enough uint64, check func() error) (kept []uint32, stopped bool, err error) {
	kept = rows[:0]
	if len(wanted) == 0 {
		return kept, false, nil
	}
	m := f.matcher(wanted)
	for len(rows) > 0 {
		if err := check(); err != nil {
			return nil, false, err
		}
		step := rows[:min(columnStepRows, len(rows))]
		rows = rows[len(step):]
		kept = append(kept, m.keep(step)...)
		if enough > 0 && uint64(len(kept)) >= enough {
			return kept, true, nil
		}
	}
	return kept, false, nil
}

// columnMatcher tells which rows have one of some values: one stretch of them is
// compared with, several are a field of bits.
type columnMatcher struct {
	f             *FieldColumn
	first, length uint32
	set           []uint64 // nil: one stretch
}

// matcher needs at least one of wanted.
func (f *FieldColumn) matcher(wanted []Places) columnMatcher {
	m := columnMatcher{f: f, first: wanted[0].From, length: wanted[0].To - wanted[0].From}
	if len(wanted) > 1 {
		m.set = f.placeSet(wanted)
	}
	return m
}

func (m *columnMatcher) takes(place uint32) bool {
	if m.set != nil {
		return m.set[place/64]>>(place%64)&1 != 0
	}
	return place-m.first < m.length
}

// keep gives those of rows that have one of the values, in the memory of rows.
func (m *columnMatcher) keep(rows []uint32) []uint32 {
	if m.set == nil && !m.f.Several() {
		return m.keepStretch(rows)
	}
	kept := 0
	for _, o := range rows {
		page := m.f.pages[o/columnPageRows]
		if page == nil {
			continue
		}
		switch at := page[o%columnPageRows]; {
		case at == 0:
			continue
		case at < columnSeveral:
			if !m.takes(at - 1) {
				continue
			}
		case !slices.ContainsFunc(m.f.list(at), m.takes):
			continue
		}
		rows[kept] = o
		kept++
	}
	return rows[:kept]
}

// keepStretch is keep for one stretch of values of which no row has several. Which rows
// have one of them is not foreseen, so that the loop has no branch for it.
func (m *columnMatcher) keepStretch(rows []uint32) []uint32 {
	kept := 0
	for i := 0; i < len(rows); {
		number := rows[i] / columnPageRows
		page := m.f.pages[number]
		if page == nil {
			for i++; i < len(rows) && rows[i]/columnPageRows == number; i++ {
			}
			continue
		}
		for at := (*[columnPageRows]uint32)(page); i < len(rows) && rows[i]/columnPageRows == number; i++ {
			o := rows[i]
			rows[kept] = o
			// Of 0, which is no value, 1 less is above all places.
			if at[o%columnPageRows]-1-m.first < m.length {
				kept++
			}
		}
	}
	return rows[:kept]
}

// list gives the places of a row with several.
func (f *FieldColumn) list(at uint32) []uint32 {
	at &^= columnSeveral
	n := f.lists[at]
	return f.lists[at+1 : at+1+n]
}

func (f *FieldColumn) placeSet(wanted []Places) []uint64 {
	set := make([]uint64, f.count()/64+1)
	for _, p := range wanted {
		for at := p.From; at < p.To; at++ {
			set[at/64] |= 1 << (at % 64)
		}
	}
	return set
}

// Masked is the run's terms, those of fields that have columns only as far as one
// of rows has them. Errors are those of check.
func (r *Run) Masked(fields []Param, rows *roaring.Bitmap, check func() error) (TermSource, error) {
	m := &maskedTerms{Run: r}
	for _, p := range fields {
		if f := r.Column(p); f != nil {
			set, err := f.placesOf(rows, check)
			if err != nil {
				return nil, err
			}
			m.masks = append(m.masks, columnMask{p, f, set})
		}
	}
	return m, nil
}

// MaskedByList is Masked of one field for a list of rows, which ascend.
func (r *Run) MaskedByList(p Param, rows []uint32, check func() error) (TermSource, error) {
	m := &maskedTerms{Run: r}
	f := r.Column(p)
	if f == nil {
		return m, nil
	}
	set := make([]uint64, f.count()/64+1)
	for len(rows) > 0 {
		if err := check(); err != nil {
			return nil, err
		}
		step := rows[:min(columnStepRows, len(rows))]
		rows = rows[len(step):]
		f.addPlaces(set, step)
	}
	m.masks = append(m.masks, columnMask{p, f, set})
	return m, nil
}

// placesOf is the set of the places that rows have.
func (f *FieldColumn) placesOf(rows *roaring.Bitmap, check func() error) ([]uint64, error) {
	set := make([]uint64, f.count()/64+1)
	step := make([]uint32, min(columnStepRows, rows.GetCardinality()))
	it := rows.ManyIterator()
	for n := it.NextMany(step); n > 0; n = it.NextMany(step) {
		if err := check(); err != nil {
			return nil, err
		}
		f.addPlaces(set, step[:n])
	}
	return set, nil
}

// addPlaces adds the places that rows have to a set.
func (f *FieldColumn) addPlaces(set []uint64, rows []uint32) {
	for _, o := range rows {
		page := f.pages[o/columnPageRows]
		if page == nil {
			continue
		}
		switch at := page[o%columnPageRows]; {
		case at == 0:
		case at < columnSeveral:
			set[(at-1)/64] |= 1 << ((at - 1) % 64)
		default:
			for _, place := range f.list(at) {
				set[place/64] |= 1 << (place % 64)
			}
		}
	}
}

// maskedTerms is what Masked gives.
type maskedTerms struct {
	*Run
	masks []columnMask
}

type columnMask struct {
	param  Param
	column *FieldColumn
	set    []uint64 // of places
}

// Cursor walks the terms of a field.
func (m *maskedTerms) Cursor(p Param) Cursor {
	for i := range m.masks {
		if m.masks[i].param == p {
			return &maskedCursor{r: m.Run, m: &m.masks[i], at: -1}
		}
	}
	return m.Run.Cursor(p)
}

// maskedCursor walks the places of a set.
type maskedCursor struct {
	r  *Run
	m  *columnMask
	at int
}

func (c *maskedCursor) SeekGE(value []byte) bool { return c.up(c.m.column.seek(value)) }
func (c *maskedCursor) SeekLT(value []byte) bool { return c.down(c.m.column.seek(value) - 1) }
func (c *maskedCursor) Last() bool               { return c.down(c.m.column.count() - 1) }
func (c *maskedCursor) Next() bool               { return c.at >= 0 && c.up(c.at+1) }
func (c *maskedCursor) Prev() bool               { return c.at >= 0 && c.down(c.at-1) }
func (c *maskedCursor) Value() []byte            { return c.m.column.value(c.at) }
func (c *maskedCursor) Err() error               { return nil }

// Count is how many of the run's ordinals have the value.
func (c *maskedCursor) Count() uint64 {
	n, err := c.r.PostingCount(c.m.param, c.Value())
	if err != nil {
		return 0 // AddTo tells
	}
	return n
}

// AddTo adds all ordinals of the run that have the value.
func (c *maskedCursor) AddTo(rows *RowSet) error {
	return c.r.AddPostings(rows, c.m.param, c.Value())
}

// up stands at the first place of the set from at on.
func (c *maskedCursor) up(at int) bool {
	set := c.m.set
	for word := at / 64; word < len(set); word++ {
		left := set[word]
		if word == at/64 {
			left &= ^uint64(0) << (at % 64)
		}
		if left != 0 {
			c.at = 64*word + bits.TrailingZeros64(left)
			return true
		}
	}
	c.at = -1
	return false
}

// down stands at the last place of the set up to at.
func (c *maskedCursor) down(at int) bool {
	set := c.m.set
	for word := at / 64; at >= 0 && word >= 0; word-- {
		left := set[word]
		if word == at/64 {
			left &= ^uint64(0) >> (63 - at%64)
		}
		if left != 0 {
			c.at = 64*word + 63 - bits.LeadingZeros64(left)
			return true
		}
	}
	c.at = -1
	return false
}
