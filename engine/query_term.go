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
	// count it: some 50 microseconds.
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

// isAll tells whether within takes nothing away from the rows of a field's terms.
func (v *evaluation) isAll(within *roaring.Bitmap, p index.Param) bool {
	return within == v.src.live && v.src.gone != nil && v.src.gone.IsEmpty() && v.s.isOfQuery(p)
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
	if err == nil && !v.isAll(within, p) {
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

// andList is an And whose first arguments are evaluated over the list of rows that
// the first has.
type andList struct {
	*evaluation
	and  *andArgs
	rows []uint32
}

// listFirst begins with the first argument, when it is one term that few rows have;
// nil otherwise.
func (v *evaluation) listFirst(a *andArgs, within *roaring.Bitmap, x *Explanation) (*andList, error) {
	if len(a.order) == 0 {
		return nil, nil
	}
	first := a.order[0]
	term := a.known[first].term
	if n := term.Count(); n == 0 || n > listRowsMax || within.GetCardinality()*lookUpShare < n || v.s.n.s.readThrough {
		return nil, nil
	}
	done := v.s.explain(a.args[first], x.step(first))
	var err error
	l := &andList{evaluation: v, and: a}
	if l.rows, err = term.AppendTo(v.s.listed[:0]); err != nil {
		return nil, err
	}
	if v.s.listed = l.rows; !v.isAll(within, a.args[first].Walks[0].Param) {
		left := bitmapOf(l.rows)
		left.And(within)
		l.rows = v.s.list(left)
	}
	if done != nil {
		done(uint64(len(l.rows)))
	}
	a.order = a.order[1:]
	return l, nil
}

// strike takes the arguments that follow, up to one that a list is no help with.
func (l *andList) strike(enough uint64, x *Explanation) error {
	for a := l.and; len(a.order) > 0; a.order = a.order[1:] {
		i := a.order[0]
		if len(l.rows) == 0 {
			a.order = nil
			return nil
		}
		done := l.s.explain(a.args[i], x.step(i))
		struck, err := l.strikeOne(i, enough)
		if err != nil || !struck {
			return err
		}
		if done != nil {
			done(uint64(len(l.rows)))
		}
	}
	return nil
}

func (l *andList) strikeOne(i int, enough uint64) (struck bool, err error) {
	a := l.and
	if a.known[i].isTerm {
		l.rows, err = a.known[i].term.Keep(l.rows)
		return true, err
	}
	common := &a.common
	if !slices.Contains(a.which, i) {
		if common, err = l.oneColumn(a.args[i]); common == nil || err != nil {
			return false, err
		}
	} else if common.column == nil {
		return true, nil // it had its turn with the other end of the range
	}
	if !a.isLast(a.order) {
		enough = 0
	}
	if !l.lookUp(common, uint64(len(l.rows)), enough) {
		return false, nil
	}
	var stopped bool
	l.rows, stopped, err = common.column.Keep(common.places, l.rows, enough, l.s.check)
	l.src.cut = l.src.cut || stopped
	common.column = nil
	return true, err
}

// oneColumn is the values of an expression that one column answers; nil: none does.
func (v *evaluation) oneColumn(e *Expr) (*columnPlaces, error) {
	if e.Op != Terms {
		return nil, nil
	}
	if inside, err := v.anyInside(e); inside || err != nil {
		return nil, err
	}
	found, rest, err := v.walkColumns(e.Walks)
	if err != nil || len(rest) > 0 || len(found) != 1 {
		return nil, err
	}
	return &found[0], nil
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
	if src.gone == nil || src.gone.GetCardinality() > goneRowsMax {
		return 0, false, nil
	}
	v := evaluation{s: s, src: src}
	term, _, err := v.term(s.q.Where)
	if n = term.Count(); n == 0 || err != nil || src.gone.IsEmpty() {
		return n, err == nil, err
	}
	gone, err := term.Keep(s.list(src.gone))
	return n - uint64(len(gone)), err == nil, err
}
