package index

import (
	"math"

	"kiln/fhir/search"
)

// Compare is a prefix of a query's number, quantity or date.
type Compare uint8

// The prefixes.
const (
	Eq Compare = iota
	Ne
	Gt
	Lt
	Ge
	Le
	Sa // starts after
	Eb // ends before
	Ap // approximately

	// Holds is no prefix: the value's whole span holds the query's. For dates only.
	Holds
)

var compareNames = [...]string{Eq: "eq", Ne: "ne", Gt: "gt", Lt: "lt", Ge: "ge", Le: "le", Sa: "sa", Eb: "eb", Ap: "ap", Holds: "holds"}

// String is the prefix's two letters.
func (c Compare) String() string { return compareNames[c] }

// CutCompare takes the prefix off a query's value; without one it is Eq.
func CutCompare(text []byte) (Compare, []byte) {
	if len(text) > 2 {
		for c, name := range compareNames {
			if string(text[:2]) == name {
				return Compare(c), text[2:]
			}
		}
	}
	return Eq, text
}

// DateWalks gives the walks of a date: first and last are its millisecond bounds
// (fhir.ParseDate); for Ap they are those of the widened date, and whatever
// overlaps it is found.
func DateWalks(sources []search.Source, c Compare, first, last int64) (walks []Walk) {
	q := dateQuery{c, first, last}
	for _, s := range sources {
		walks = append(walks, Walk{Param: Param(s.Field.Number), Look: q.look})
	}
	return walks
}

// dateQuery judges spans; see the table in term_date.go.
type dateQuery struct {
	compare     Compare
	first, last int64
}

// look takes the values class by class: of each only the neighbours that can fit.
func (q dateQuery) look(value, room []byte) (Verdict, []byte) {
	first, last, ok := ParseDate(value)
	if !ok {
		return Pass, nil
	}
	class, at := value[0], first
	if class == dateOpenStart {
		at = last
	}
	low, high := q.bounds(class)
	switch {
	case low > high || at > high:
		return Pass, append(room, class+1)
	case at < low:
		return Pass, AppendMilli(append(room, class), low)
	}
	if from, to := q.sure(class); from <= at && at <= to {
		return TakeAll, appendBehindDate(room, class, to)
	}
	if q.fits(first, last) {
		return Take, nil
	}
	return Pass, nil
}

// appendBehindDate appends what is above the values of a class that stand at a
// millisecond.
func appendBehindDate(dst []byte, class byte, at int64) []byte {
	if at == math.MaxInt64 {
		return append(dst, class+1)
	}
	return AppendMilli(append(dst, class), at+1)
}

// fits tells whether a stored span answers the query.
func (q dateQuery) fits(first, last int64) bool {
	inside := q.first <= first && last <= q.last
	switch q.compare {
	case Eq:
		return inside
	case Ne:
		return !inside
	case Gt:
		return last > q.last
	case Lt:
		return first < q.first
	case Ge:
		return last > q.last || inside
	case Le:
		return first < q.first || inside
	case Sa:
		return first > q.last
	case Eb:
		return last < q.first
	case Holds:
		return first <= q.first && q.last <= last
	}
	return first <= q.last && last >= q.first
}

// bounds gives the lowest and the highest millisecond that a class's values that
// fit can stand at; low is above high when none fits.
func (q dateQuery) bounds(class byte) (low, high int64) {
	switch class {
	case dateOpenEnd:
		return q.openEndBounds()
	case dateOpenStart:
		return q.openStartBounds()
	}
	span := DateClassSpan(class)
	low, high = math.MinInt64, math.MaxInt64
	switch q.compare {
	case Eq:
		return q.first, q.last
	case Gt:
		low = minusSpan(q.last, span)
	case Lt, Eb:
		high = q.first
	case Ge:
		low = min(q.first, minusSpan(q.last, span))
	case Le:
		high = max(q.first, q.last)
	case Sa:
		low = q.last
	case Ap:
		low, high = minusSpan(q.first, span), q.last
	case Holds:
		low, high = minusSpan(q.last, span), q.first
	}
	return low, high
}

// sure gives the lowest and the highest first millisecond of a stretch of a
// class's values that all fit, whatever their last is; low is above high when
// there is none that is known.
func (q dateQuery) sure(class byte) (low, high int64) {
	if class > dateClassMax {
		return 1, 0
	}
	shortest, longest := int64(0), DateClassSpan(class)
	if class > 0 {
		shortest = 1 << (4*class - 4)
	}
	low, high = math.MinInt64, math.MaxInt64
	switch q.compare {
	case Eq:
		return q.first, minusSpan(q.last, longest)
	case Gt:
		return behindMilli(minusSpan(q.last, shortest)), high
	case Lt:
		return low, minusSpan(q.first, 1)
	case Ge:
		return q.first, high
	case Le:
		return low, max(minusSpan(q.first, 1), minusSpan(q.last, longest))
	case Sa:
		return behindMilli(q.last), high
	case Eb:
		return low, minusSpan(minusSpan(q.first, 1), longest)
	case Ap:
		return minusSpan(q.first, shortest), q.last
	}
	return 1, 0
}

// behindMilli is at + 1, not above the highest.
func behindMilli(at int64) int64 {
	if at == math.MaxInt64 {
		return at
	}
	return at + 1
}

// minusSpan is at - span, not below the lowest.
func minusSpan(at, span int64) int64 {
	if at < math.MinInt64+span {
		return math.MinInt64
	}
	return at - span
}

// openEndBounds bounds the beginning of spans without an end.
func (q dateQuery) openEndBounds() (low, high int64) {
	switch q.compare {
	case Lt, Le, Ap, Holds:
		return math.MinInt64, max(q.first, q.last)
	case Sa:
		return q.last, math.MaxInt64
	case Eq, Eb:
		return 1, 0
	}
	return math.MinInt64, math.MaxInt64
}

// openStartBounds bounds the end of spans without a beginning.
func (q dateQuery) openStartBounds() (low, high int64) {
	switch q.compare {
	case Gt, Ge:
		return q.last, math.MaxInt64
	case Ap, Holds:
		return q.first, math.MaxInt64
	case Eb:
		return math.MinInt64, q.first
	case Eq, Sa:
		return 1, 0
	}
	return math.MinInt64, math.MaxInt64
}

// LastUpdatedWalks gives the walks of _lastUpdated, whose values are instants.
func LastUpdatedWalks(c Compare, first, last int64) []Walk {
	low, high := AppendMilli(nil, first), AppendMilli(nil, last)
	behind := append(AppendMilli(nil, last), 0) // above last, not above what follows it
	p := ParamLastUpdated
	switch c {
	case Ne:
		return []Walk{{Param: p, To: low}, {Param: p, From: behind}}
	case Gt, Sa:
		return []Walk{{Param: p, From: behind}}
	case Lt, Eb:
		return []Walk{{Param: p, To: low}}
	case Ge:
		return []Walk{{Param: p, From: low}}
	case Le:
		return []Walk{{Param: p, To: append(high, 0)}}
	case Holds:
		if first != last {
			return nil // an instant holds no span
		}
	}
	return []Walk{{Param: p, From: low, To: behind}}
}
