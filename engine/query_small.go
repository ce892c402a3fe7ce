package engine

import (
	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir/search"
	"kiln/index"
)

// Where few rows are left and what comes next would walk over many terms, the
// terms of those rows are made of their bodies instead, and the walks run on them.

// smallRowsMax is how many rows are read through at most: beyond, they lie in so
// many blocks that a walk is cheaper.
const smallRowsMax = 256

// cheaper gives an evaluation for the rest of an And's arguments over rows: v, or
// one over the rows' own terms.
func (v *evaluation) cheaper(args []*Expr, rest []int, rows *roaring.Bitmap) (*evaluation, error) {
	if v.src.run == nil || v.small || rows.GetCardinality() > smallRowsMax {
		return v, nil
	}
	cost := uint64(0)
	for _, i := range rest {
		cost += v.walkCost(args[i])
	}
	if cost <= index.BodyBlockCost && !v.s.n.s.readThrough {
		return v, nil // no row is read for less
	}
	if cost <= v.src.run.run.ReadCost(rows) && !v.s.n.s.readThrough {
		return v, nil
	}
	terms, err := v.s.readTerms(v.src, rows)
	if err != nil {
		return nil, err
	}
	return &evaluation{s: v.s, src: v.src, terms: terms, small: true}, nil
}

// walkCost is about what an expression's walks cost on the run.
func (v *evaluation) walkCost(e *Expr) (cost uint64) {
	for i := range e.Walks {
		if v.column(&e.Walks[i]) != nil {
			cost++
		} else {
			cost += v.src.run.run.WalkCost(&e.Walks[i])
		}
	}
	for _, arg := range e.Args {
		cost += v.walkCost(arg)
	}
	for i := range e.Inside {
		for k := range e.Inside[i].Walks {
			cost += v.src.run.run.WalkCost(&e.Inside[i].Walks[k])
		}
	}
	return cost
}

// readTerms makes the terms of some rows of a run.
func (s *searching) readTerms(src *source, rows *roaring.Bitmap) (index.TermSource, error) {
	table := index.NewMemoryTerms()
	for it := rows.Iterator(); it.HasNext(); {
		if err := s.check(); err != nil {
			return nil, err
		}
		o := it.Next()
		row, err := src.run.row(index.Ordinal(o))
		if err != nil {
			return nil, err
		}
		v, err := s.n.read(src.place(o))
		if err != nil {
			return nil, err
		}
		if !v.Deleted { // as in the run: a deletion has no terms of its content
			if err := s.n.s.VersionTerms(&v, table.AddTerm); err != nil {
				return nil, err
			}
		}
		table.AddRow(row)
		table.Commit(index.Ordinal(o))
	}
	return index.MemorySource{Terms: table, Below: index.Ordinal(src.rows)}, nil
}

// cheaperSort gives the terms to sort rows by: those of the source, or those that
// the rows have.
func (s *searching) cheaperSort(src *source, terms index.TermSource, k *SortKey, rows *roaring.Bitmap) (index.TermSource, error) {
	if src.run == nil {
		return terms, nil
	}
	var columns []index.Param
	cost := uint64(0)
	for _, p := range k.params() {
		if c := src.run.run.Column(p); c != nil && (rows.GetCardinality() < c.Rows()/maskedShare || s.n.s.columns == columnsLookUp) {
			columns = append(columns, p)
			cost++
		} else {
			cost += src.run.run.WalkCost(&index.Walk{Param: p})
		}
	}
	if rows.GetCardinality() <= smallRowsMax && (cost > src.run.run.ReadCost(rows) || s.n.s.readThrough) {
		return s.readTerms(src, rows)
	}
	if len(columns) == 0 {
		return terms, nil
	}
	return src.run.run.Masked(columns, rows, s.check)
}

// maskedShare: where less than one in so many of the rows with a value is wanted,
// a column tells first which values they have.
const maskedShare = 4

// params are the fields that a key reads.
func (k *SortKey) params() (params []index.Param) {
	if k.Param.Virtual == search.ByClock {
		params = append(params, index.ParamLastUpdated)
	}
	for _, from := range k.Param.Sources {
		params = append(params, index.Param(from.Field.Number))
	}
	return params
}
