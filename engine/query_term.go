package engine

import (
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// One term of a run is found once and then read as little as possible: to be
// counted not at all; where few rows are left, those are looked up in it; and the
// few rows that one term has are a list, of which the other arguments of an And
// strike out, and no bitmap before they did.

const (
	// listRowsMax: a term with more rows is a bitmap from the start.
	listRowsMax = 1 << 14
	// lookUpShare: to look a row up costs as much as to read so many.
	lookUpShare = 8
	// goneRowsMax is how many rows that do not count are looked up in a term to
	// count it, and struck from what a term has: some 50 microseconds.
	goneRowsMax = 1 << 10
)

// term is the run's rows of an expression that asks for one term; ok is false when
// it asks for anything else.
func (v *evaluation) term(e *Expr) (rows index.TermRows, ok bool, err error) {
	if v.src.run == nil || v.small || e.Op != Terms || len(e.Walks) != 1 || !e.Walks[0].Exact {
		return rows, false, nil
	}
	rows, err = v.src.run.run.TermRows(e.Walks[0].Param, e.Walks[0].From)
	return rows, true, err
}

// isLive tells whether of the rows of a field's terms those are in within that are
// not gone.
func (v *evaluation) isLive(within *roaring.Bitmap, p index.Param) bool {
	return within == v.src.live && v.src.gone.isFew() && v.s.isOfQuery(p)
}

// isOfQuery tells whether all resources with terms of a field are of the query's types.
func (s *searching) isOfQuery(p index.Param) bool {
	if !p.IsField() {
		return false
	}
	if len(s.q.Types) == 0 {
		return true
	}
	t := s.n.s.fields.Load().typeOf(p)
	return t != 0 && slices.Equal(s.q.Types, []fhir.TypeCode{t})
}

// rowsOf gives the rows of within that a term of a field has.
func (v *evaluation) rowsOf(term index.TermRows, p index.Param, within *roaring.Bitmap) (*roaring.Bitmap, error) {
	if n := within.GetCardinality(); n <= listRowsMax && n*lookUpShare < term.Count() {
		list, err := term.Keep(v.s.list(within))
		return bitmapOf(list), err
	}
	rows, err := term.Bitmap()
	switch {
	case err != nil:
	case v.isLive(within, p):
		for _, o := range v.src.gone.rows {
			rows.Remove(o)
		}
	default:
		rows.And(within)
	}
	return rows, err
}

// list gives the rows of a bitmap, until the next call.
func (s *searching) list(rows *roaring.Bitmap) []uint32 {
	n := int(rows.GetCardinality())
	s.listed = slices.Grow(s.listed[:0], n)[:n]
	rows.ManyIterator().NextMany(s.listed)
	return s.listed
}

func bitmapOf(list []uint32) *roaring.Bitmap {
	rows := roaring.New()
	rows.AddMany(list)
	return rows
}

// countTerm counts a query for one term of a run without reading its rows; ok is
// false when that cannot be done.
func (s *searching) countTerm(src *source) (n uint64, ok bool, err error) {
	if e := s.q.Where; src.run == nil || s.q.Explain != nil || e == nil || e.Op != Terms || len(e.Walks) != 1 || !e.Walks[0].Exact || !s.isOfQuery(e.Walks[0].Param) {
		return 0, false, nil
	}
	if !src.run.has(s.needed) {
		return 0, false, ErrReindex
	}
	if err := s.prepare(src); err != nil {
		return 0, false, err
	}
	if !src.gone.isFew() {
		return 0, false, nil
	}
	v := evaluation{s: s, src: src}
	term, _, err := v.term(s.q.Where)
	if n = term.Count(); n == 0 || err != nil || len(src.gone.rows) == 0 {
		return n, err == nil, err
	}
	s.listed = append(s.listed[:0], src.gone.rows...)
	gone, err := term.Keep(s.listed)
	return n - uint64(len(gone)), err == nil, err
}
