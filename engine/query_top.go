package engine

import (
	"cmp"
	"encoding/binary"
	"slices"

	"kiln/fhir/search"
	"kiln/index"
)

// The first page by a date, of matches that are few beside the field's values: each
// source's first rows are found by the column, and merged. Whatever that does not answer
// is left to the walks over terms.

const (
	// topRowsMin rows are always looked at; more where they are less than one in
	// maskedShare of those that have a value.
	topRowsMin = 1 << 12
	// topLimitMax bounds the rows that are found of each source.
	topLimitMax       = 1 << 12
	topSourcesTypical = 4
)

// topRow is one of the first rows of a source.
type topRow struct {
	key uint64 // rises in the order of the page
	src *source
	row uint32
}

// topByColumn adds the places of the first page by a column; ok is false when it cannot,
// and nothing is added then.
func (o *sorter) topByColumn() (ok bool, err error) {
	s := o.s
	if len(s.q.Sort) != 1 || s.q.After != (Cursor{}) || o.limit == 0 || o.limit > topLimitMax || s.n.s.readThrough || s.q.Explain != nil {
		return false, nil
	}
	all := make([]topRow, 0, o.limit*min(len(s.sources), topSourcesTypical))
	for _, src := range s.sources {
		var rows []topRow
		if rows, ok, err = o.topOf(src); !ok || err != nil {
			return false, err
		}
		all = append(all, rows...)
	}
	if len(all) < o.limit {
		return false, nil // those without a date follow
	}
	slices.SortFunc(all, func(a, b topRow) int {
		order, failed := s.compareTop(&a, &b)
		err = cmp.Or(err, failed)
		return order
	})
	if err != nil {
		return false, err
	}
	for _, r := range all[:o.limit] {
		o.places = append(o.places, sortedPlace{r.src, r.row})
	}
	return true, nil
}

// compareTop is the order of the page: by the key, then that of the store.
func (s *searching) compareTop(a, b *topRow) (order int, err error) {
	if a.key != b.key || a.src == b.src {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.row, b.row)), nil
	}
	first, err := a.src.lsn(a.row)
	if err != nil {
		return 0, err
	}
	second, err := b.src.lsn(b.row)
	return cmp.Or(cmp.Compare(first, second), cmp.Compare(a.src.order, b.src.order)), err
}

// topOf gives the first rows of a source; ok as for topByColumn.
func (o *sorter) topOf(src *source) (top []topRow, ok bool, err error) {
	s, key := o.s, &o.s.q.Sort[0]
	column := s.dateColumn(src, key)
	if column == nil {
		err := s.evaluate(src)
		return nil, err == nil && src.matches.IsEmpty(), err
	}
	if !src.run.has(s.q.sortNeeds()) {
		return nil, false, ErrReindex
	}
	if err := s.prepare(src); err != nil || !src.doubtful.IsEmpty() {
		return nil, false, err
	}
	rows, err := s.rowsForValues(src)
	if err != nil {
		return nil, false, err
	}
	if n := rows.count(); n > max(topRowsMin, column.Rows()/maskedShare) {
		return nil, false, nil
	}
	found := column.Top(o.limit, key.Desc)
	if err := rows.each(func(rows []uint32) error { found.Add(rows); return s.check() }); err != nil {
		return nil, false, err
	}
	placed := found.Rows()
	if len(placed) == o.limit && column.DateShared(placed[o.limit-1].Place) {
		return nil, false, nil // which of the rows with that date come first is not known
	}
	flip := uint64(0)
	if key.Desc {
		flip = ^flip
	}
	top = make([]topRow, len(placed))
	for i, p := range placed {
		top[i] = topRow{key: binary.BigEndian.Uint64(column.DateKey(p.Place)) ^ flip, src: src, row: p.Row}
	}
	return top, true, nil
}

// dateColumn is the column of a key by a date of which no row of a run has several; nil:
// there is none.
func (s *searching) dateColumn(src *source, key *SortKey) *index.FieldColumn {
	if src.run == nil || len(key.Param.Sources) != 1 || key.Param.Sources[0].Field.Kind != search.Date {
		return nil
	}
	column := src.run.run.Column(index.Param(key.Param.Sources[0].Field.Number))
	if column == nil || column.Several() || !column.DatesOrdered() {
		return nil
	}
	return column
}

// count is how many rows there are.
func (r *valueRows) count() uint64 {
	if r.rows == nil {
		return uint64(len(r.list))
	}
	return r.rows.GetCardinality()
}

// topStep is how many rows are looked at between two looks at the time.
const topStep = 1 << 10

// each calls fn with all rows, ascending, some at a time.
func (r *valueRows) each(fn func(rows []uint32) error) error {
	if r.rows == nil {
		for list := range slices.Chunk(r.list, topStep) {
			if err := fn(list); err != nil {
				return err
			}
		}
		return nil
	}
	step, it := make([]uint32, min(topStep, r.rows.GetCardinality())), r.rows.ManyIterator()
	for n := it.NextMany(step); n > 0; n = it.NextMany(step) {
		if err := fn(step[:n]); err != nil {
			return err
		}
	}
	return nil
}
