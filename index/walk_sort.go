package index

import (
	"bytes"
	"errors"
	"slices"

	"kiln/fhir/search"
)

// ErrUnsortable: the values have no order that would mean something.
var ErrUnsortable = errors.New("this parameter has no order")

// SortWalk walks a stretch of a field whose terms lie in the order of their sort
// keys. Start with Next or SeekKey. Not safe for concurrent use.
type SortWalk struct {
	Cursor   // stands on the term
	param    Param
	from, to []byte
	form     sortForm
	prefix   []byte // of all values of sortDates and sortDecimals
	desc     bool
	begun    bool
}

// sortForm says what of a value is its sort key.
type sortForm uint8

const (
	sortWhole    sortForm = iota // all of it
	sortFolded                   // a string without the original: "Eve" and "eve" are equal, so that the next key decides
	sortDates                    // eight bytes behind the prefix: a date's beginning
	sortDecimals                 // the first decimal behind the prefix
	sortOpen                     // nothing: before every other
)

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
	return &SortWalk{Cursor: terms.Cursor(ParamLastUpdated), param: ParamLastUpdated, desc: desc}
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
		o.add([]byte{numberValue}, sortDecimals)
		o.add([]byte{numberInterval}, sortDecimals)
	case search.Quantity:
		return errors.Join(o.openUnits(quantityValue), o.openUnits(quantityInterval))
	case search.Token:
		if s.System != "" {
			o.add(AppendTokenSystem(nil, []byte(s.System)), sortWhole)
		} else {
			o.add([]byte{tokenCode}, sortWhole)
		}
	case search.String:
		o.walks = append(o.walks, &SortWalk{Cursor: o.terms.Cursor(o.p), param: o.p, form: sortFolded, desc: o.desc})
	default:
		for _, w := range FieldWalks([]search.Source{s}) {
			o.walks = append(o.walks, &SortWalk{Cursor: o.terms.Cursor(o.p), param: o.p, from: w.From, to: w.To, desc: o.desc})
		}
	}
	return nil
}

// add opens the values that begin with a prefix.
func (o *sortOpener) add(prefix []byte, form sortForm) {
	o.walks = append(o.walks, &SortWalk{
		Cursor: o.terms.Cursor(o.p), param: o.p, from: prefix, to: successor(prefix), form: form, prefix: prefix, desc: o.desc,
	})
}

// openDates opens the classes that the field has.
func (o *sortOpener) openDates() error {
	c := o.terms.Cursor(o.p)
	for ok := c.SeekGE(nil); ok; {
		class := c.Value()[0]
		form := sortDates
		if class == dateOpenStart {
			form = sortOpen
		}
		o.add([]byte{class}, form)
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
		o.add(unit, sortDecimals)
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
	return ok && w.inside()
}

// inside tells whether the term belongs to the stretch.
func (w *SortWalk) inside() bool {
	if w.desc {
		return bytes.Compare(w.Value(), w.from) >= 0
	}
	return w.to == nil || bytes.Compare(w.Value(), w.to) < 0
}

// SeekKey moves to the first term whose key does not come before key; where values
// were cut, perhaps to one that lies a little before that. Otherwise as Next.
func (w *SortWalk) SeekKey(key []byte) bool {
	w.begun = true
	ok := false
	if w.desc {
		if above := w.above(key); above != nil && (w.to == nil || bytes.Compare(above, w.to) < 0) {
			ok = w.SeekLT(above)
		} else if w.to != nil {
			ok = w.SeekLT(w.to)
		} else {
			ok = w.Last()
		}
		return ok && w.inside()
	}
	lowest := w.lowest(key)
	if bytes.Compare(lowest, w.from) < 0 {
		lowest = w.from
	}
	return w.SeekGE(lowest) && w.inside()
}

// lowest is not above any value of the stretch whose key is not less than key.
func (w *SortWalk) lowest(key []byte) []byte {
	value := key
	switch w.form {
	case sortDates, sortDecimals:
		value = slices.Concat(w.prefix, key)
	case sortOpen:
		value = w.from
		if len(key) > 0 {
			value = w.to // no value has such a key
		}
	}
	return value[:min(len(value), TermPrefixBytes)] // beyond, there is no order
}

// above is above all values of the stretch whose key is not greater than key; nil:
// nothing is.
func (w *SortWalk) above(key []byte) []byte {
	var value []byte
	switch w.form {
	case sortWhole:
		value = append(bytes.Clone(key), 0)
	case sortFolded:
		value = append(bytes.Clone(key), termSeparator+1)
	case sortDates, sortDecimals:
		value = successor(slices.Concat(w.prefix, key))
	case sortOpen:
		return nil
	}
	if len(value) > TermPrefixBytes {
		return successor(value[:TermPrefixBytes])
	}
	return value
}

// Key is the sort key of the term; it holds until the next move.
func (w *SortWalk) Key() []byte {
	value := w.Value()
	switch w.form {
	case sortFolded:
		folded, _, _ := bytes.Cut(value, []byte{termSeparator})
		return folded
	case sortDates:
		return dateKey(value)
	case sortDecimals:
		return firstDecimal(value[len(w.prefix):])
	case sortOpen:
		return nil
	}
	return value
}

// Stretch is the walk of all terms that the walk goes through.
func (w *SortWalk) Stretch() Walk { return Walk{Param: w.param, From: w.from, To: w.to} }
