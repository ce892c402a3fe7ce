package engine

import (
	"bytes"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// evaluate makes the matches of a source, doubtful ones included.
func (s *searching) evaluate(src *source) error {
	if src.matches != nil {
		return nil
	}
	return s.evaluateFrom(src, 0, 0)
}

// evaluateFrom is evaluate for the rows from one on. With enough, which is not 0,
// the lowest so many may be all that are found: then src.cut says that there may be
// more above the highest of them.
func (s *searching) evaluateFrom(src *source, from uint32, enough uint64) error {
	if err := s.prepare(src); err != nil {
		return err
	}
	src.cut = false
	if s.q.Where == nil || src.live.IsEmpty() {
		src.matches = src.live
		return nil
	}
	within := src.live
	if from > 0 {
		within = within.Clone()
		within.RemoveRange(0, uint64(from))
	}
	err := s.withTerms(src, s.needed, func(terms index.TermSource) error {
		e := evaluation{s: s, src: src, terms: terms, enough: enough, counting: s.counting && s.q.Explain == nil}
		var err error
		src.matches, err = e.eval(s.q.Where, within, s.q.Explain)
		return err
	})
	if err != nil {
		return err
	}
	return s.keep(src.matches)
}

// withTerms gives the terms of a source to fn, which keeps nothing of them.
// ErrReindex when the source does not have what is needed.
func (s *searching) withTerms(src *source, needed needs, fn func(index.TermSource) error) error {
	if src.run == nil {
		return s.n.withHeadTerms(s.ctx, src.gen, int(src.rows), func(m *index.MemoryTerms) error {
			return fn(index.MemorySource{Terms: m, Below: index.Ordinal(src.rows)})
		})
	}
	if !src.run.has(needed) {
		return ErrReindex
	}
	return fn(src.run.run)
}

// evaluation evaluates expressions over one source.
type evaluation struct {
	s     *searching
	src   *source
	terms index.TermSource
	small bool       // terms are those of a few rows
	parts []heldPart // rows are these contained resources; nil: versions
	whole bool       // the one part is a version
	// enough is for what eval evaluates next: so many of its rows are needed, the
	// lowest; 0: all. With counting only their number is: source.counted may have it
	// instead.
	enough   uint64
	counting bool
}

// eval gives the rows of within that e chooses. within is not modified; the
// result may be within itself and is not to be modified either.
func (v *evaluation) eval(e *Expr, within *roaring.Bitmap, x *Explanation) (*roaring.Bitmap, error) {
	if err := v.s.check(); err != nil {
		return nil, err
	}
	done := v.s.explain(e, x)
	rows, err := v.apply(e, within, x)
	if err != nil {
		return nil, err
	}
	if done != nil {
		done(rows.GetCardinality())
	}
	return rows, nil
}

func (v *evaluation) apply(e *Expr, within *roaring.Bitmap, x *Explanation) (*roaring.Bitmap, error) {
	enough, counting := v.enough, v.counting
	v.enough, v.counting = 0, false // what is inside is needed whole
	switch e.Op {
	case All:
		return within, nil
	case And:
		return v.and(e, within, enough, counting, x)
	case Or:
		return v.or(e, within, x)
	case Not:
		rows, err := v.eval(e.Args[0], within, x.step(0))
		if err != nil {
			return nil, err
		}
		return roaring.AndNot(within, rows), nil
	case Terms:
		return v.termsOrInside(e, within, enough, x)
	case Keys:
		return v.keys(e, within)
	}
	panic("BUG: an operation that does not exist")
}

func (v *evaluation) or(e *Expr, within *roaring.Bitmap, x *Explanation) (*roaring.Bitmap, error) {
	all := roaring.New()
	for i, arg := range e.Args {
		rows, err := v.eval(arg, within, x.step(i))
		if err != nil {
			return nil, err
		}
		all.Or(rows)
	}
	return all, nil
}

// Guesses of how many rows an argument of And leaves, where counting would cost
// as much as reading: walks over ranges leave a part, Not leaves most.
const (
	estimateWalk  = 1 << 32
	estimateNot   = 1 << 33
	estimateTerms = 16 // so many walks are looked at
	estimateBlock = 256
)

// estimate guesses how many rows an argument of And leaves.
func (v *evaluation) estimate(e *Expr) (uint64, error) {
	total := uint64(0)
	switch e.Op {
	case And:
		total = estimateNot
		for _, arg := range e.Args {
			n, err := v.estimate(arg)
			if err != nil {
				return 0, err
			}
			total = min(total, n)
		}
	case Or:
		for _, arg := range e.Args {
			n, err := v.estimate(arg)
			if err != nil {
				return 0, err
			}
			total += n
		}
	case Keys:
		total = uint64(len(e.Keys) + len(e.Sorted))
	case Terms:
		if any, err := v.anyInside(e); any || err != nil {
			return estimateNot, err // it reads bodies: of few rows, if others leave few
		}
		return v.estimateWalks(e.Walks)
	default:
		total = estimateNot
	}
	return total, nil
}

func (v *evaluation) estimateWalks(walks []index.Walk) (total uint64, err error) {
	if len(walks) > estimateTerms {
		return estimateWalk, nil
	}
	for i := range walks {
		switch {
		case walks[i].Exact:
		case v.src.run == nil || v.small:
			return estimateWalk, nil
		default:
			total += v.src.run.run.WalkCost(&walks[i]) * estimateBlock
			continue
		}
		n, err := v.terms.PostingCount(walks[i].Param, walks[i].From)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// walks gives the rows of within that have a term of one of walks; enough is as
// for rows.
func (v *evaluation) walks(walks []index.Walk, within *roaring.Bitmap, enough uint64) (*roaring.Bitmap, error) {
	if len(walks) == 1 && walks[0].Exact && v.src.run != nil && !v.small {
		term, err := v.src.run.run.TermRows(walks[0].Param, walks[0].From)
		if err != nil {
			return nil, err
		}
		return v.rowsOf(term, walks[0].Param, within)
	}
	found, rest, err := v.walkColumns(walks)
	if err != nil {
		return nil, err
	}
	if len(rest) == 0 && len(found) == 1 {
		return v.rows(&found[0], within, enough)
	}
	all, err := v.walkTerms(rest, within)
	if err != nil {
		return nil, err
	}
	for i := range found {
		rows, err := v.rows(&found[i], within, 0)
		if err != nil {
			return nil, err
		}
		all.Or(rows)
	}
	return all, nil
}

// walkTerms is walks without columns.
func (v *evaluation) walkTerms(walks []index.Walk, within *roaring.Bitmap) (*roaring.Bitmap, error) {
	rows, unsure := index.NewRowSet(v.src.rows), index.NewRowSet(v.src.rows)
	for i := range walks {
		if i%walksPerCheck == walksPerCheck-1 {
			if err := v.s.check(); err != nil {
				return nil, err
			}
		}
		terms, err := walks[i].AddTo(rows, unsure, v.terms, v.s.check)
		if err != nil {
			return nil, err
		}
		if !walks[i].Exact {
			if err := v.walked(walks[i].Param, terms); err != nil {
				return nil, err
			}
		}
	}
	all := rows.Bitmap()
	all.And(within)
	return all, v.lookInto(all, unsure.Bitmap(), walks, within)
}

// walked tells the run that terms of a field were read.
func (v *evaluation) walked(p index.Param, terms uint64) error {
	if v.src.run == nil || v.small {
		return nil
	}
	return v.s.columnWalked(v.src.run.run, p, terms)
}

// lookInto adds those of the unsure rows whose bodies have a term in walks.
func (v *evaluation) lookInto(all, unsure *roaring.Bitmap, walks []index.Walk, within *roaring.Bitmap) error {
	if unsure.IsEmpty() {
		return nil
	}
	unsure.And(within)
	unsure.AndNot(all)
	found := false
	sink := termFunc(func(p index.Param, value []byte) {
		found = found || slices.ContainsFunc(walks, func(w index.Walk) bool { return w.Param == p && w.Takes(value) })
	})
	for it := unsure.Iterator(); it.HasNext(); {
		o := it.Next()
		if err := v.s.check(); err != nil {
			return err
		}
		found = false
		if err := v.rowTerms(o, sink); err != nil {
			return err
		}
		if found {
			all.Add(o)
		}
	}
	return nil
}

// walksPerCheck is how many walks pass between looks at the deadline.
const walksPerCheck = 256

// keys gives the rows of within that are versions of the keys.
func (v *evaluation) keys(e *Expr, within *roaring.Bitmap) (*roaring.Bitmap, error) {
	if v.parts != nil {
		return v.partKeys(e, within), nil
	}
	all := index.NewRowSet(v.src.rows)
	sorted, lookup := v.s.sortedKeys(e), (*index.LookupCursor)(nil)
	if v.src.run != nil {
		lookup = v.src.run.run.LookupCursor()
	}
	// Where most of the rows may be asked for, their keys are neighbours, and the
	// next one is found sooner than the filter is asked.
	probe := uint64(len(sorted))*keyNeighbours < within.GetCardinality()
	var space []index.Found
	for i, key := range sorted {
		if i%walksPerCheck == walksPerCheck-1 {
			if err := v.s.check(); err != nil {
				return nil, err
			}
		}
		if lookup != nil && probe && !v.src.run.run.MayContain(index.KeyHash(key)) {
			continue
		}
		var err error
		if space, err = v.rowsOfKey(all, lookup, key, space[:0]); err != nil {
			return nil, err
		}
	}
	rows := all.Bitmap()
	rows.And(within)
	return rows, nil
}

// keyNeighbours: keys that lie so far apart on average are found without a filter.
const keyNeighbours = 16

// sortedKeys gives the keys of an expression in order, made once for all sources.
func (s *searching) sortedKeys(e *Expr) [][]byte {
	if e.Sorted != nil {
		return e.Sorted
	}
	sorted, ok := s.keysOf[e]
	if ok {
		return sorted
	}
	sorted = make([][]byte, 0, len(e.Keys))
	room := make([]byte, 0, len(e.Keys)*keyBytesTypical)
	for _, k := range e.Keys {
		at := len(room)
		room = index.AppendKey(room, k.Type, k.ID)
		sorted = append(sorted, room[at:len(room):len(room)])
	}
	slices.SortFunc(sorted, bytes.Compare)
	if s.keysOf == nil {
		s.keysOf = map[*Expr][][]byte{}
	}
	s.keysOf[e] = sorted
	return sorted
}

// rowsOfKey adds the rows of one key. Keys come in order.
func (v *evaluation) rowsOfKey(all *index.RowSet, lookup *index.LookupCursor, key []byte, space []index.Found) ([]index.Found, error) {
	if lookup == nil {
		// rows is where the page's LSN ends.
		v.src.gen.versions(key, v.s.n.lsn, func(i int32, _ *headEntry) bool {
			if uint32(i) < v.src.rows {
				all.Add(uint32(i))
			}
			return true
		})
		return space, nil
	}
	space, err := lookup.Lookup(space, key)
	for _, f := range space {
		all.Add(uint32(f.Ordinal))
	}
	return space, err
}
