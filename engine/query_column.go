package engine

import (
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// A walk over many terms reads the postings of each. Where the field has a column
// (index.FieldColumn), the walk runs over the column's values in memory, which
// tells how many terms it has, and then either their postings are read or the
// rows that are left are looked up in the column, whatever costs less.

// About what it costs, in nanoseconds.
const (
	postingCost   = 300 // to read the postings of a term
	columnRowCost = 6   // to look a row up in a column
)

// columnRule is when columns are made and what is done with them.
type columnRule uint8

const (
	columnsByCost   columnRule = iota
	columnsLookUp              // made at the first walk, rows are looked up
	columnsPostings            // made at the first walk, postings are read
)

// atOnceTerms is more than any field is walked for without a column.
const atOnceTerms = 1 << 40

// columnWalked tells a run how many terms of a field were read.
func (s *searching) columnWalked(r *index.Run, p index.Param, terms uint64) error {
	if s.n.s.columns != columnsByCost {
		terms = atOnceTerms
	}
	return r.Walked(p, terms, s.check)
}

// column is the column that a walk may use; nil: none, or no use.
func (v *evaluation) column(w *index.Walk) *index.FieldColumn {
	if v.src.run == nil || v.small || w.Exact {
		return nil
	}
	return v.src.run.run.Column(w.Param)
}

// columnPlaces are the values of some walks of a field.
type columnPlaces struct {
	param  index.Param
	column *index.FieldColumn
	places []index.Places
}

// lookUp tells whether looking so many rows up costs less than reading postings.
func (v *evaluation) lookUp(p *columnPlaces, rows, enough uint64) bool {
	if rule := v.s.n.s.columns; rule != columnsByCost {
		return rule == columnsLookUp
	}
	places := index.CountPlaces(p.places)
	if enough > 0 && places > 0 {
		// So many are looked at until enough have one of the values.
		rows = min(rows, enough*p.column.Values()/places)
	}
	return rows*columnRowCost < places*postingCost
}

// rows gives the rows of within that have one of the values. With enough, which is
// not 0, it may stop at the lowest so many; source.cut says so.
func (v *evaluation) rows(p *columnPlaces, within *roaring.Bitmap, enough uint64) (*roaring.Bitmap, error) {
	if v.lookUp(p, within.GetCardinality(), enough) {
		rows, stopped, err := p.column.Filter(p.places, within, enough, v.s.check)
		v.src.cut = v.src.cut || stopped
		return rows, err
	}
	set := index.NewRowSet(v.src.rows)
	if err := p.column.AddPostings(set, v.src.run.run, p.param, p.places, v.s.check); err != nil {
		return nil, err
	}
	rows := set.Bitmap()
	rows.And(within)
	return rows, nil
}

// anyColumn tells whether one of walks may use a column.
func (v *evaluation) anyColumn(walks []index.Walk) bool {
	for i := range walks {
		if v.column(&walks[i]) != nil {
			return true
		}
	}
	return false
}

// walkColumns walks over the columns that there are, and gives the walks without.
func (v *evaluation) walkColumns(walks []index.Walk) (found []columnPlaces, rest []index.Walk, err error) {
	if !v.anyColumn(walks) {
		return nil, walks, nil
	}
	for i := range walks {
		column := v.column(&walks[i])
		if column == nil {
			rest = append(rest, walks[i])
			continue
		}
		places, err := column.Places(&walks[i], v.s.check)
		if err != nil {
			return nil, nil, err
		}
		at := slices.IndexFunc(found, func(f columnPlaces) bool { return f.param == walks[i].Param })
		if at < 0 {
			found = append(found, columnPlaces{walks[i].Param, column, places})
		} else {
			found[at].places = index.UnitedPlaces(found[at].places, places)
		}
	}
	return found, rest, nil
}

// oneColumn is the values of an expression that one column answers; nil: none does.
func (v *evaluation) oneColumn(e *Expr) (*columnPlaces, error) {
	if e.Op != Terms || !v.anyColumn(e.Walks) {
		return nil, nil
	}
	if inside, err := v.anyInside(e); inside || err != nil {
		return nil, err // more than what the walks find
	}
	found, rest, err := v.walkColumns(e.Walks)
	if err != nil || len(rest) > 0 || len(found) != 1 {
		return nil, err
	}
	return &found[0], nil
}

// about is about how many rows have one of the values; 0: none has.
func (p *columnPlaces) about() uint64 {
	n := index.CountPlaces(p.places)
	if n == 0 {
		return 0
	}
	return max(n, n*p.column.Rows()/p.column.Values())
}

// evalPlaces evaluates an argument of an And that a column answers. Of several that
// have their values in common the first to have its turn leaves nothing to do.
func (v *evaluation) evalPlaces(arg *Expr, p *columnPlaces, within *roaring.Bitmap, enough uint64, x *Explanation) (*roaring.Bitmap, error) {
	done := v.s.explain(arg, x)
	if p.column != nil {
		var err error
		if within, err = v.rows(p, within, enough); err != nil {
			return nil, err
		}
		p.column = nil
	}
	if done != nil {
		done(within.GetCardinality())
	}
	return within, nil
}
