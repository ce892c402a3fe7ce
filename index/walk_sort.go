package index

import (
	"bytes"
	"errors"

	"kiln/fhir/search"
)

// ErrUnsortable: the values have no order that would mean something.
var ErrUnsortable = errors.New("this parameter has no order")

// SortWalk walks a stretch of a field whose terms lie in the order of their sort
// keys. Start with Next. Not safe for concurrent use.
type SortWalk struct {
	Cursor   // stands on the term
	from, to []byte
	key      func(value []byte) []byte
	desc     bool
	begun    bool
}

// SortWalks opens the stretches of the terms that sources have, all together in
// rising order of their keys, or falling. Keys of dates are their beginnings,
// those of quantities their numbers, without the unit, those of strings their
// texts without case and accents. ErrUnsortable.
func SortWalks(sources []search.Source, terms TermSource, desc bool) ([]*SortWalk, error) {
	var walks []*SortWalk
	for _, s := range sources {
		o := sortOpener{p: Param(s.Field.Number), terms: terms, desc: desc}
		if err := o.open(s); err != nil {
			return nil, err
		}
		walks = append(walks, o.walks...)
	}
	return walks, nil
}

// SortWalkLastUpdated is SortWalks of the rows' dates.
func SortWalkLastUpdated(terms TermSource, desc bool) *SortWalk {
	return &SortWalk{Cursor: terms.Cursor(ParamLastUpdated), key: wholeValue, desc: desc}
}

func wholeValue(value []byte) []byte { return value }

// foldedText is a string's value without the original: "Eve" and "eve" are equal,
// so that the next key decides.
func foldedText(value []byte) []byte {
	folded, _, _ := bytes.Cut(value, []byte{termSeparator})
	return folded
}

type sortOpener struct {
	p     Param
	terms TermSource
	desc  bool
	walks []*SortWalk
}

func (o *sortOpener) open(s search.Source) error {
	switch s.Field.Kind {
	case search.Composite, search.Special:
		return ErrUnsortable
	case search.Date:
		return o.openDates()
	case search.Number:
		o.add([]byte{numberValue}, func(value []byte) []byte { return value[1:] })
		o.add([]byte{numberInterval}, func(value []byte) []byte { return firstDecimal(value[1:]) })
	case search.Quantity:
		return errors.Join(o.openUnits(quantityValue), o.openUnits(quantityInterval))
	case search.Token:
		if s.System != "" {
			o.add(AppendTokenSystem(nil, []byte(s.System)), wholeValue)
		} else {
			o.add([]byte{tokenCode}, wholeValue)
		}
	case search.String:
		o.walks = append(o.walks, &SortWalk{Cursor: o.terms.Cursor(o.p), key: foldedText, desc: o.desc})
	default:
		for _, w := range FieldWalks([]search.Source{s}) {
			o.walks = append(o.walks, &SortWalk{Cursor: o.terms.Cursor(o.p), from: w.From, to: w.To, key: wholeValue, desc: o.desc})
		}
	}
	return nil
}

// add opens the values that begin with a prefix.
func (o *sortOpener) add(prefix []byte, key func([]byte) []byte) {
	o.walks = append(o.walks, &SortWalk{
		Cursor: o.terms.Cursor(o.p), from: prefix, to: successor(prefix), key: key, desc: o.desc,
	})
}

// openDates opens the classes that the field has.
func (o *sortOpener) openDates() error {
	c := o.terms.Cursor(o.p)
	for ok := c.SeekGE(nil); ok; {
		class := c.Value()[0]
		key := func(value []byte) []byte { return value[1:9] }
		if class == dateOpenStart {
			key = func([]byte) []byte { return nil } // before every other
		}
		o.add([]byte{class}, key)
		ok = c.SeekGE([]byte{class + 1})
	}
	return c.Err()
}

// openUnits opens the units of a family that the field has.
func (o *sortOpener) openUnits(family byte) error {
	c := o.terms.Cursor(o.p)
	for ok := c.SeekGE([]byte{family}); ok && c.Value()[0] == family; {
		n := unitLength(c.Value())
		if n < 0 || n > TermPrefixBytes/2 {
			return ErrWalk
		}
		unit := bytes.Clone(c.Value()[:n])
		o.add(unit, func(value []byte) []byte { return firstDecimal(value[n:]) })
		ok = c.SeekGE(successor(unit))
	}
	return c.Err()
}

func firstDecimal(value []byte) []byte {
	if n := decimalLength(value); n > 0 {
		return value[:n]
	}
	return value
}

// Next moves to the next term; false at the end, or at damage (Err).
func (w *SortWalk) Next() bool {
	ok := false
	switch {
	case w.begun && w.desc:
		ok = w.Prev()
	case w.begun:
		ok = w.Cursor.Next()
	case w.desc && w.to == nil:
		ok = w.Last()
	case w.desc:
		ok = w.SeekLT(w.to)
	default:
		ok = w.SeekGE(w.from)
	}
	w.begun = true
	if !ok {
		return false
	}
	if w.desc {
		return bytes.Compare(w.Value(), w.from) >= 0
	}
	return w.to == nil || bytes.Compare(w.Value(), w.to) < 0
}

// Key is the sort key of the term; it holds until the next move.
func (w *SortWalk) Key() []byte { return w.key(w.Value()) }
