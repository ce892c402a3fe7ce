package engine

import (
	"cmp"
	"errors"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// andArgs are the arguments of an And, and what is known of them before any is
// evaluated.
type andArgs struct {
	args  []*Expr
	known []andArg
	order []int // in which to take those that are left
	// nothing: one of them leaves no row.
	nothing bool
	// Room for the slices of most.
	knownRoom [andArgsTypical]andArg
	orderRoom [andArgsTypical]int
}

type andArg struct {
	size uint64 // about how many rows it leaves
	// terms of a run are all that it asks for, when isTerms.
	terms   []index.TermRows
	isTerms bool
	// places are the values of the column that answers it; nil: none does. Arguments
	// about a field of which no row has several values, such as the two ends of a range
	// of dates, share what they have in common.
	places *columnPlaces
}

const andArgsTypical = 4

// isLast tells whether the first argument that is left is the last that takes rows
// away.
func (a *andArgs) isLast() bool {
	first := a.known[a.order[0]].places
	return len(a.order) == 1 || first != nil && !slices.ContainsFunc(a.order, func(i int) bool { return a.known[i].places != first })
}

// and takes the argument that is thought to leave least first.
func (v *evaluation) and(e *Expr, within *roaring.Bitmap, enough uint64, counting bool, x *Explanation) (*roaring.Bitmap, error) {
	a, err := v.andArgs(e.Args)
	if err != nil {
		return nil, err
	}
	if a.nothing {
		return v.s.none(), nil
	}
	list, err := v.listFirst(a, within, x)
	if err != nil {
		return nil, err
	}
	if list != nil {
		if err := list.strike(enough, x); err != nil {
			return nil, err
		}
		if counting && len(a.order) == 0 {
			v.src.counted = uint64(len(list.rows))
			return v.s.none(), nil
		}
		within = bitmapOf(list.rows)
	}
	for ; len(a.order) > 0 && !within.IsEmpty(); a.order = a.order[1:] {
		if v, err = v.cheaper(e.Args, a.order, within); err != nil {
			return nil, err
		}
		if within, err = v.andNext(a, within, enough, x); err != nil {
			return nil, err
		}
	}
	return within, nil
}

// andNext evaluates the first argument that is left.
func (v *evaluation) andNext(a *andArgs, within *roaring.Bitmap, enough uint64, x *Explanation) (*roaring.Bitmap, error) {
	i := a.order[0]
	if !a.isLast() {
		enough = 0
	}
	if places := a.known[i].places; places != nil && !v.small {
		return v.evalPlaces(a.args[i], places, within, enough, x.step(i))
	}
	v.enough = enough
	return v.eval(a.args[i], within, x.step(i))
}

// andArgs looks at the arguments of And, and gives the order in which to take them.
func (v *evaluation) andArgs(args []*Expr) (*andArgs, error) {
	a := &andArgs{args: args}
	a.known, a.order = a.knownRoom[:0], a.orderRoom[:0]
	for i, arg := range args {
		known, err := v.andArg(arg)
		if err != nil {
			return nil, err
		}
		a.known, a.order = append(a.known, known), append(a.order, i)
		if a.nothing = a.share(i); a.nothing {
			return a, nil
		}
	}
	for i := range a.known {
		if err := a.known[i].measure(v, args[i]); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(a.order, func(i, j int) int { return cmp.Compare(a.known[i].size, a.known[j].size) })
	return a, nil
}

// andArg finds what answers an argument.
func (v *evaluation) andArg(arg *Expr) (known andArg, err error) {
	term, ok, err := v.term(arg)
	if ok || err != nil {
		return andArg{terms: []index.TermRows{term}, isTerms: true}, err
	}
	if known.places, err = v.oneColumn(arg); known.places != nil || err != nil {
		return known, err
	}
	known.terms, known.isTerms, err = v.fewTerms(arg)
	return known, err
}

// listTermsMax is how many terms make a list, to be read one by one.
const listTermsMax = 8

// fewTermsCost is the WalkCost of a walk that is looked at for being few terms.
const fewTermsCost = 2

// errManyTerms ends a walk over more than listTermsMax.
var errManyTerms = errors.New("many terms")

// fewTerms are the terms of an expression that asks for those of one field alone, when
// a look at them costs little; ok is false when it does not, or they are not few.
func (v *evaluation) fewTerms(e *Expr) (terms []index.TermRows, ok bool, err error) {
	if v.src.run == nil || v.small || e.Op != Terms || len(e.Walks) != 1 || v.src.run.run.WalkCost(&e.Walks[0]) > fewTermsCost {
		return nil, false, nil
	}
	if inside, err := v.anyInside(e); inside || err != nil {
		return nil, false, err
	}
	w := &e.Walks[0]
	c := v.src.run.run.Terms(w.Param)
	err = w.Run(c, v.s.check, func(sure bool) error {
		if !sure || len(terms) == listTermsMax {
			return errManyTerms
		}
		terms = append(terms, c.Rows())
		return nil
	})
	if err == errManyTerms {
		return nil, false, nil
	}
	return terms, err == nil, err // not counted as walked: a column would find so few no sooner
}

// share joins the places of an argument with those of one before that is about the
// same field. It tells whether no row is left.
func (a *andArgs) share(i int) (nothing bool) {
	known := &a.known[i]
	switch {
	case known.isTerms:
		return countRows(known.terms) == 0
	case known.places == nil:
		return false
	case known.places.column.Several():
		return len(known.places.places) == 0
	}
	for k := range a.known[:i] {
		if before := a.known[k].places; before != nil && before.param == known.places.param {
			before.places = index.CommonPlaces(before.places, known.places.places)
			known.places = before
			break
		}
	}
	return len(known.places.places) == 0
}

// measure says about how many rows an argument leaves.
func (k *andArg) measure(v *evaluation, arg *Expr) (err error) {
	switch {
	case k.isTerms:
		k.size = countRows(k.terms)
	case k.places != nil:
		k.size = k.places.about()
	default:
		k.size, err = v.estimate(arg)
	}
	return err
}

// andList is an And whose first arguments are evaluated over the list of rows that
// the first has.
type andList struct {
	*evaluation
	and  *andArgs
	rows []uint32
}

// countRows is how many rows terms have, at most.
func countRows(terms []index.TermRows) (n uint64) {
	for _, t := range terms {
		n += t.Count()
	}
	return n
}

// listTerms are the terms of an argument, when they are few; nil: they are not.
func (v *evaluation) listTerms(known *andArg) (terms []index.TermRows, err error) {
	if known.isTerms {
		return known.terms, nil
	}
	p := known.places
	if p == nil || index.CountPlaces(p.places) > listTermsMax || v.s.n.s.columns == columnsLookUp {
		return nil, nil
	}
	for _, stretch := range p.places {
		for place := stretch.From; place < stretch.To; place++ {
			term, err := v.src.run.run.TermRows(p.param, p.column.Value(place))
			if err != nil {
				return nil, err
			}
			terms = append(terms, term)
		}
	}
	return terms, nil
}

// listFirst begins with the first argument, when it is terms that few rows have; nil
// otherwise.
func (v *evaluation) listFirst(a *andArgs, within *roaring.Bitmap, x *Explanation) (*andList, error) {
	if len(a.order) == 0 || v.small || v.s.n.s.readThrough {
		return nil, nil
	}
	first := a.order[0]
	terms, err := v.listTerms(&a.known[first])
	n := countRows(terms)
	if n == 0 || n > listRowsMax || within.GetCardinality()*lookUpShare < n || err != nil {
		return nil, err
	}
	done := v.s.explain(a.args[first], x.step(first))
	l := &andList{evaluation: v, and: a}
	if l.rows, err = v.rowsOfTerms(terms, a.args[first].Walks[0].Param, within); err != nil {
		return nil, err
	}
	if done != nil {
		done(uint64(len(l.rows)))
	}
	if places := a.known[first].places; places != nil {
		places.column = nil
	}
	a.order = a.order[1:]
	return l, nil
}

// rowsOfTerms lists the rows of within that have one of a field's terms.
func (v *evaluation) rowsOfTerms(terms []index.TermRows, p index.Param, within *roaring.Bitmap) (rows []uint32, err error) {
	rows = v.s.listed[:0]
	for _, term := range terms {
		if rows, err = term.AppendTo(rows); err != nil {
			return nil, err
		}
	}
	v.s.listed = rows
	if len(terms) > 1 {
		slices.Sort(rows)
		rows = slices.Compact(rows)
	}
	if v.isLive(within, p) {
		return without(rows, v.src.gone.rows), nil
	}
	left := bitmapOf(rows)
	left.And(within)
	return v.s.list(left), nil
}

// without gives rows without some others, in the memory of rows; both ascend, and
// the others are few.
func without(rows, others []uint32) []uint32 {
	kept := rows[:0]
	for _, o := range others {
		at, found := slices.BinarySearch(rows, o)
		kept = append(kept, rows[:at]...)
		if found {
			at++
		}
		rows = rows[at:]
	}
	return append(kept, rows...)
}

// keepAny gives those of rows that have one of terms, in the memory of rows or in new.
func keepAny(terms []index.TermRows, rows []uint32) ([]uint32, error) {
	if len(terms) == 1 {
		return terms[0].Keep(rows)
	}
	var all, room []uint32
	for _, t := range terms {
		kept, err := t.Keep(append(room[:0], rows...))
		if err != nil {
			return nil, err
		}
		all, room = append(all, kept...), kept[:0]
	}
	slices.Sort(all)
	return slices.Compact(all), nil
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
	if a.known[i].isTerms {
		l.rows, err = keepAny(a.known[i].terms, l.rows)
		return true, err
	}
	places := a.known[i].places
	switch {
	case places == nil:
		return false, nil
	case places.column == nil:
		return true, nil // it had its turn with another argument
	}
	if !a.isLast() {
		enough = 0
	}
	if !l.lookUp(places, uint64(len(l.rows)), enough) {
		return false, nil
	}
	var stopped bool
	l.rows, stopped, err = places.column.Keep(places.places, l.rows, enough, l.s.check)
	l.src.cut = l.src.cut || stopped
	places.column = nil
	return true, err
}
