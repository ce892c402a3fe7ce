package engine

import (
	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// valueRows is the rows of which values are wanted: a list, or a bitmap.
type valueRows struct {
	list []uint32        // ascending
	rows *roaring.Bitmap // nil: list has them
}

func (r *valueRows) isEmpty() bool { return len(r.list) == 0 && (r.rows == nil || r.rows.IsEmpty()) }

func (r *valueRows) bitmap() *roaring.Bitmap {
	if r.rows == nil {
		r.rows = bitmapOf(r.list)
	}
	return r.rows
}

// masked is the run's terms, those of a field that has a column only as far as one of
// the rows has them.
func (r *valueRows) masked(run *index.Run, p index.Param, check func() error) (index.TermSource, error) {
	if r.rows == nil {
		return run.MaskedByList(p, r.list, check)
	}
	return run.Masked([]index.Param{p}, r.rows, check)
}

// rowsForValues gives the matches of a source that were current. Those of one term are
// a list.
func (s *searching) rowsForValues(src *source) (*valueRows, error) {
	list, ok, err := s.listOfTerm(src)
	if ok || err != nil {
		return &valueRows{list: list}, err
	}
	rows, err := s.settled(src)
	return &valueRows{rows: rows}, err
}

// listOfTerm lists the matches of a query for one term that few rows of a run have; ok
// is false for any other.
func (s *searching) listOfTerm(src *source) (rows []uint32, ok bool, err error) {
	e := s.q.Where
	if src.run == nil || s.q.Explain != nil || e == nil || e.Op != Terms || len(e.Walks) != 1 || !e.Walks[0].Exact || len(e.Inside) > 0 {
		return nil, false, nil
	}
	if !src.run.has(s.needed) {
		return nil, false, ErrReindex
	}
	if err := s.prepare(src); err != nil || !src.doubtful.IsEmpty() {
		return nil, false, err
	}
	v := evaluation{s: s, src: src}
	term, _, err := v.term(e)
	if err != nil || term.Count() > listRowsMax || !v.isLive(src.live, e.Walks[0].Param) {
		return nil, false, err
	}
	rows, err = v.rowsOfTerms([]index.TermRows{term}, e.Walks[0].Param, src.live)
	return rows, err == nil, err
}

// values gives the terms in walks that some match has.
func (s *searching) values(walks []index.Walk, fn func(p index.Param, value []byte) error) error {
	for _, src := range s.sources {
		rows, err := s.rowsForValues(src)
		if err != nil {
			return err
		}
		if rows.isEmpty() {
			s.forget(src)
			continue
		}
		err = s.withTerms(src, walksNeed(walks), func(terms index.TermSource) error {
			for i := range walks {
				if err := s.walkValues(&walks[i], terms, src, rows, fn); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		s.forget(src)
	}
	return nil
}

// walkValues walks the values that rows have, where a column knows them, or all.
func (s *searching) walkValues(w *index.Walk, terms index.TermSource, src *source, rows *valueRows, fn func(index.Param, []byte) error) error {
	if src.run != nil && src.run.run.Column(w.Param) != nil {
		masked, err := rows.masked(src.run.run, w.Param, s.check)
		if err != nil {
			return err
		}
		c := masked.Cursor(w.Param)
		return w.Run(c, s.check, func(bool) error { return fn(w.Param, c.Value()) })
	}
	c, n := terms.Cursor(w.Param), uint64(0)
	have := index.NewRowSet(src.rows)
	err := w.Run(c, s.check, func(sure bool) error {
		if !sure {
			return index.ErrWalk
		}
		if n++; n%walksPerCheck == 0 && s.check() != nil {
			return s.check()
		}
		if err := c.AddTo(have); err != nil {
			return err
		}
		if have.Meets(rows.bitmap()) {
			return fn(w.Param, c.Value())
		}
		return nil
	})
	if err != nil || src.run == nil {
		return err
	}
	return s.columnWalked(src.run.run, w.Param, n)
}
