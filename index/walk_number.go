package index

import (
	"bytes"
	"math/big"
	"strconv"

	"kiln/fhir/search"
)

// numberQuery is a query's number as decimals (AppendDecimal).
type numberQuery struct {
	compare   Compare
	low, high bound // Eq, Ne: what the number stands for, without high; Ap: with it
	exact     bound
}

// bound is a number that stored decimals are compared with. One that is a decimal of
// few digits is below and above; of another, which comes of a conversion, these are
// the decimals around it.
type bound struct {
	below, above []byte
	number       *big.Rat // nil: below is the number
}

// compare orders a decimal and the bound.
func (b *bound) compare(decimal []byte) int {
	switch {
	case b.number == nil:
		return bytes.Compare(decimal, b.below)
	case bytes.Compare(decimal, b.below) <= 0:
		return -1
	case bytes.Compare(decimal, b.above) >= 0:
		return 1
	}
	number, ok := decimalRat(decimal)
	if !ok { // no decimal: no term has it
		return -1
	}
	return number.Cmp(b.number)
}

// plainBound is a decimal.
func plainBound(decimal []byte) bound { return bound{below: decimal, above: decimal} }

// A query's number stands for all that rounds to it: 100 for 99.5 to 100.5,
// 100.00 for 99.995 to 100.005. With an exponent R4 counts one digit more: 1e2
// stands for 95 to 105. Approximately is a tenth more and less. The other
// prefixes compare with the number itself.

// newNumberQuery reads a number. ErrWalk when the text is none.
func newNumberQuery(c Compare, text []byte) (numberQuery, error) {
	q := numberQuery{compare: c}
	d, ok := splitDecimal(text)
	if !ok {
		return q, errNumber
	}
	exact, ok := AppendDecimal(nil, text)
	if !ok {
		return q, errNumber
	}
	scale, off := int64(1), int64(5)
	if d.scientific {
		scale = 2
	}
	low, high := new(big.Int), new(big.Int)
	if c == Ap {
		low.Mul(d.digits, big.NewInt(9))
		high.Mul(d.digits, big.NewInt(11))
		scale = 1
		if low.Cmp(high) > 0 {
			low, high = high, low
		}
	} else {
		low.Mul(d.digits, new(big.Int).Exp(big.NewInt(10), big.NewInt(scale), nil))
		high.Add(low, big.NewInt(off))
		low.Sub(low, big.NewInt(off))
	}
	lowest, okLow := AppendDecimal(nil, decimalText(low, d.exponent-scale))
	highest, okHigh := AppendDecimal(nil, decimalText(high, d.exponent-scale))
	if !okLow || !okHigh {
		return q, errNumber
	}
	q.low, q.high, q.exact = plainBound(lowest), plainBound(highest), plainBound(exact)
	return q, nil
}

func decimalText(digits *big.Int, exponent int64) []byte {
	return strconv.AppendInt(append(digits.Append(nil, 10), 'e'), exponent, 10)
}

// decimalDigits is a number as digits times 10 to the exponent.
type decimalDigits struct {
	digits     *big.Int
	exponent   int64
	scientific bool
}

// numberTextMax bounds a query's number: longer ones cost time and mean nothing.
const numberTextMax = 256

func splitDecimal(text []byte) (d decimalDigits, ok bool) {
	if len(text) > numberTextMax {
		return d, false
	}
	number := text
	if at := bytes.IndexAny(text, "eE"); at >= 0 {
		d.scientific = true
		if d.exponent, ok = parseExponent(text[at:]); !ok {
			return d, false
		}
		number = text[:at]
	}
	whole, fraction, _ := bytes.Cut(number, []byte("."))
	d.exponent -= int64(len(fraction))
	d.digits, ok = new(big.Int).SetString(string(whole)+string(fraction), 10)
	return d, ok && len(whole) > 0 && whole[0] != '+'
}

// spans gives the stretches of decimals that fit a query whose bounds are decimals:
// each from a lowest on and below a highest; nil is open.
func (q *numberQuery) spans() [][2][]byte {
	low, high, exact := q.low.below, q.high.below, q.exact.below
	behind := append(bytes.Clone(exact), 0) // no decimal begins with another
	switch q.compare {
	case Ne:
		return [][2][]byte{{nil, low}, {high, nil}}
	case Gt, Sa:
		return [][2][]byte{{behind, nil}}
	case Lt, Eb:
		return [][2][]byte{{nil, exact}}
	case Ge:
		return [][2][]byte{{exact, nil}}
	case Le:
		return [][2][]byte{{nil, behind}}
	case Ap:
		return [][2][]byte{{low, append(bytes.Clone(high), 0)}}
	}
	return [][2][]byte{{low, high}}
}

// around is a stretch that has all decimals that fit, and some beside: from a lowest
// to a highest; nil is open.
func (q *numberQuery) around() (from, to []byte) {
	switch q.compare {
	case Ne:
		return nil, nil
	case Gt, Sa, Ge:
		return q.exact.below, nil
	case Lt, Eb, Le:
		return nil, q.exact.above
	}
	return q.low.below, q.high.above
}

// fits tells whether a stored decimal answers.
func (q *numberQuery) fits(decimal []byte) bool {
	switch q.compare {
	case Ne:
		return q.low.compare(decimal) < 0 || q.high.compare(decimal) >= 0
	case Gt, Sa:
		return q.exact.compare(decimal) > 0
	case Lt, Eb:
		return q.exact.compare(decimal) < 0
	case Ge:
		return q.exact.compare(decimal) >= 0
	case Le:
		return q.exact.compare(decimal) <= 0
	case Ap:
		return q.low.compare(decimal) >= 0 && q.high.compare(decimal) <= 0
	}
	return q.low.compare(decimal) >= 0 && q.high.compare(decimal) < 0
}

// fitsInterval tells whether a stored interval, as two decimals, answers.
func (q *numberQuery) fitsInterval(value []byte) bool {
	n := decimalLength(value)
	if n < 0 || decimalLength(value[n:]) < 0 {
		return false
	}
	low, high := value[:n], value[n:n+decimalLength(value[n:])]
	inside := q.low.compare(low) >= 0 && q.high.compare(high) < 0
	switch q.compare {
	case Eq:
		return inside
	case Ne:
		return !inside
	case Gt:
		return q.exact.compare(high) > 0
	case Lt:
		return q.exact.compare(low) < 0
	case Ge:
		return q.exact.compare(high) >= 0
	case Le:
		return q.exact.compare(low) <= 0
	case Sa:
		return q.exact.compare(low) > 0
	case Eb:
		return q.exact.compare(high) < 0
	}
	return q.high.compare(low) <= 0 && q.low.compare(high) >= 0
}

// NumberWalks gives the walks of a number. ErrWalk when text is none.
func NumberWalks(sources []search.Source, c Compare, text []byte) ([]Walk, error) {
	q, err := newNumberQuery(c, text)
	if err != nil {
		return nil, err
	}
	var walks []Walk
	for _, s := range sources {
		p := Param(s.Field.Number)
		walks = append(walks, spanWalks(p, []byte{numberValue}, &q)...)
		walks = append(walks, intervalWalk(p, []byte{numberInterval}, &q))
	}
	return walks, nil
}

// spanWalks finds the decimals that fit behind a prefix.
func spanWalks(p Param, prefix []byte, q *numberQuery) (walks []Walk) {
	for _, s := range q.spans() {
		w := Walk{Param: p, From: append(bytes.Clone(prefix), s[0]...), To: successor(prefix)}
		if s[1] != nil {
			w.To = append(bytes.Clone(prefix), s[1]...)
		}
		walks = append(walks, w)
	}
	return walks
}

// intervalWalk finds the intervals that fit behind a prefix.
func intervalWalk(p Param, prefix []byte, q *numberQuery) Walk {
	look := func(value, _ []byte) (Verdict, []byte) {
		if len(value) > len(prefix) && q.fitsInterval(value[len(prefix):]) {
			return Take, nil
		}
		return Pass, nil
	}
	return Walk{Param: p, From: prefix, To: successor(prefix), Look: look}
}
