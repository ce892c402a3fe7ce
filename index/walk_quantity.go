package index

import (
	"bytes"

	"kiln/fhir/search"
)

// Unit is what a query's quantity says of the unit: nothing (AnySystem and no
// Code), a code or a unit's text (AnySystem), a code of a system, or any code of
// a system (no Code).
type Unit struct {
	System, Code []byte
	AnySystem    bool
}

// QuantityWalks gives the walks of a quantity. ErrWalk when text is no number,
// or the unit is too long.
func QuantityWalks(sources []search.Source, c Compare, text []byte, u Unit) ([]Walk, error) {
	q, err := newNumberQuery(c, text)
	if err != nil {
		return nil, err
	}
	if len(u.System)+len(u.Code) > TermPrefixBytes/4 { // the number must stay whole behind it
		return nil, errLong
	}
	var walks []Walk
	for _, s := range sources {
		p := Param(s.Field.Number)
		if !u.AnySystem && len(u.Code) > 0 {
			walks = append(walks, spanWalks(p, AppendQuantityUnit(nil, u.System, u.Code), &q)...)
			walks = append(walks, intervalWalk(p, AppendQuantityIntervalUnit(nil, u.System, u.Code), &q))
			continue
		}
		wanted := u.matcher()
		for _, span := range q.spans() {
			walks = append(walks, unitsWalk(p, wanted, span))
		}
		walks = append(walks, unitIntervalsWalk(p, wanted, &q))
		if len(u.Code) > 0 {
			walks = append(walks, spanWalks(p, AppendQuantityText(nil, u.Code), &q)...)
			walks = append(walks, intervalWalk(p, AppendQuantityIntervalText(nil, u.Code), &q))
		}
	}
	return walks, nil
}

// matcher tells whether a stored "system, separator, code, separator" is wanted.
func (u *Unit) matcher() func(unit []byte) bool {
	code := append(appendText([]byte{termSeparator}, u.Code), termSeparator)
	system := append(appendText(nil, u.System), termSeparator)
	switch {
	case !u.AnySystem:
		return func(unit []byte) bool { return bytes.HasPrefix(unit, system) }
	case len(u.Code) > 0:
		return func(unit []byte) bool { return bytes.HasSuffix(unit, code) }
	}
	return func([]byte) bool { return true }
}

// unitLength is the length of the family, system and code that a value begins
// with, or -1.
func unitLength(value []byte) int {
	at := bytes.IndexByte(value, termSeparator)
	if at < 0 {
		return -1
	}
	end := bytes.IndexByte(value[at+1:], termSeparator)
	if end < 0 {
		return -1
	}
	return at + 1 + end + 1
}

// unitsWalk finds the decimals of a span in all wanted units, from unit to unit.
func unitsWalk(p Param, wanted func(unit []byte) bool, span [2][]byte) Walk {
	look := func(value, room []byte) (Verdict, []byte) {
		n := unitLength(value)
		if n < 0 {
			return Pass, nil
		}
		unit, number := value[:n], value[n:]
		switch {
		case !wanted(unit[1:]), span[1] != nil && bytes.Compare(number, span[1]) >= 0:
			return Pass, behind(room, unit)
		case bytes.Compare(number, span[0]) < 0:
			return Pass, append(append(room, unit...), span[0]...)
		case span[1] == nil:
			return TakeAll, behind(room, unit)
		}
		return TakeAll, append(append(room, unit...), span[1]...)
	}
	return Walk{Param: p, From: []byte{quantityValue}, To: []byte{quantityValue + 1}, Look: look}
}

// unitIntervalsWalk finds the intervals that fit in all wanted units.
func unitIntervalsWalk(p Param, wanted func(unit []byte) bool, q *numberQuery) Walk {
	look := func(value, room []byte) (Verdict, []byte) {
		n := unitLength(value)
		switch {
		case n < 0:
			return Pass, nil
		case !wanted(value[1:n]):
			return Pass, behind(room, value[:n])
		case q.fitsInterval(value[n:]):
			return Take, nil
		}
		return Pass, nil
	}
	return Walk{Param: p, From: []byte{quantityInterval}, To: []byte{quantityInterval + 1}, Look: look}
}
