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
	low, high []byte // Eq, Ne: what the number stands for, without high; Ap: with it
	exact     []byte
}

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
	if q.exact, ok = AppendDecimal(nil, text); !ok {
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
	var okLow, okHigh bool
	q.low, okLow = AppendDecimal(nil, decimalText(low, d.exponent-scale))
	q.high, okHigh = AppendDecimal(nil, decimalText(high, d.exponent-scale))
	if !okLow || !okHigh {
		return q, errNumber
	}
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

// spans gives the stretches of decimals that fit: each from a lowest on and
// below a highest; nil is open.
func (q *numberQuery) spans() [][2][]byte {
	behind := append(bytes.Clone(q.exact), 0) // no decimal begins with another
	switch q.compare {
	case Ne:
		return [][2][]byte{{nil, q.low}, {q.high, nil}}
	case Gt, Sa:
		return [][2][]byte{{behind, nil}}
	case Lt, Eb:
		return [][2][]byte{{nil, q.exact}}
	case Ge:
		return [][2][]byte{{q.exact, nil}}
	case Le:
		return [][2][]byte{{nil, behind}}
	case Ap:
		return [][2][]byte{{q.low, append(bytes.Clone(q.high), 0)}}
	}
	return [][2][]byte{{q.low, q.high}}
}

// fitsInterval tells whether a stored interval, as two decimals, answers.
func (q *numberQuery) fitsInterval(value []byte) bool {
	n := decimalLength(value)
	if n < 0 || decimalLength(value[n:]) < 0 {
		return false
	}
	low, high := value[:n], value[n:n+decimalLength(value[n:])]
	inside := bytes.Compare(q.low, low) <= 0 && bytes.Compare(high, q.high) < 0
	switch q.compare {
	case Eq:
		return inside
	case Ne:
		return !inside
	case Gt:
		return bytes.Compare(high, q.exact) > 0
	case Lt:
		return bytes.Compare(low, q.exact) < 0
	case Ge:
		return bytes.Compare(high, q.exact) >= 0
	case Le:
		return bytes.Compare(low, q.exact) <= 0
	case Sa:
		return bytes.Compare(low, q.exact) > 0
	case Eb:
		return bytes.Compare(high, q.exact) < 0
	}
	return bytes.Compare(low, q.high) <= 0 && bytes.Compare(high, q.low) >= 0
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
