package index

import (
	"bytes"
	"math/big"
	"sync"

	"kiln/fhir/search"
)

// Conversion tells how numbers in a unit, which it is given by its code, become
// numbers in a query's unit: times scale, which is above 0, plus offset. ok is false
// for units of another kind. It is safe for concurrent use.
type Conversion func(code []byte) (scale, offset *big.Rat, ok bool)

// ConvertedQuantityWalks gives the walks of a quantity in the other units of u's
// system that convert knows; QuantityWalks gives those of its own. Bounds are
// converted and not what is stored: a walk goes from unit to unit. ErrWalk as of
// QuantityWalks, and when the number is too large or small to be converted.
func ConvertedQuantityWalks(sources []search.Source, c Compare, text []byte, u Unit, convert Conversion) ([]Walk, error) {
	q, err := newNumberQuery(c, text)
	if err != nil {
		return nil, err
	}
	if len(u.System)+len(u.Code) > TermPrefixBytes/4 {
		return nil, errLong
	}
	in := &convertedQuery{convert: convert, own: u.Code, query: q, units: map[string]*numberQuery{}}
	for i, b := range []*bound{&q.low, &q.high, &q.exact} {
		number, ok := decimalRat(b.below)
		if !ok {
			return nil, errNumber
		}
		in.numbers[i] = number
	}
	var walks []Walk
	for _, s := range sources {
		for _, family := range []byte{quantityValue, quantityInterval} {
			system := append(appendText([]byte{family}, u.System), termSeparator)
			walks = append(walks, Walk{Param: Param(s.Field.Number), From: system, To: successor(system), Look: in.look(len(system))})
		}
	}
	return walks, nil
}

// convertedQuery is a query in other units, each of which is converted once.
type convertedQuery struct {
	convert Conversion
	own     []byte
	query   numberQuery
	numbers [3]*big.Rat // low, high and exact
	mu      sync.Mutex
	units   map[string]*numberQuery // by escaped code; nil: of another kind, or the query's own
}

// look judges the quantities and intervals of a system, whose part of the value ends
// at a place.
func (c *convertedQuery) look(system int) Look {
	return func(value, room []byte) (Verdict, []byte) {
		n := unitLength(value)
		if n < system {
			return Pass, nil
		}
		unit, number := value[:n], value[n:]
		q := c.in(value[system : n-1])
		if q == nil {
			return Pass, behind(room, unit)
		}
		if value[0] == quantityInterval {
			if q.fitsInterval(number) {
				return Take, nil
			}
			return Pass, nil
		}
		from, to := q.around()
		switch {
		case from != nil && bytes.Compare(number, from) < 0:
			return Pass, append(append(room, unit...), from...)
		case to != nil && bytes.Compare(number, to) > 0:
			return Pass, behind(room, unit)
		case q.fits(number):
			return Take, nil
		}
		return Pass, nil
	}
}

// in is the query in a unit; nil: it cannot be.
func (c *convertedQuery) in(escaped []byte) *numberQuery {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q, known := c.units[string(escaped)]; known {
		return q
	}
	var q *numberQuery
	code, _ := cutText(nil, escaped)
	if !bytes.Equal(code, c.own) {
		if scale, offset, ok := c.convert(code); ok {
			q = c.converted(scale, offset)
		}
	}
	c.units[string(escaped)] = q
	return q
}

func (c *convertedQuery) converted(scale, offset *big.Rat) *numberQuery {
	q := &numberQuery{compare: c.query.compare}
	for i, b := range []*bound{&q.low, &q.high, &q.exact} {
		number := new(big.Rat).Sub(c.numbers[i], offset)
		*b = boundAt(number.Quo(number, scale))
	}
	return q
}

// boundDigits is how many digits the decimals around a bound have at least: more
// than anybody measures, so that comparing fractions is for what lies between them.
const boundDigits = 40

// boundAt is the bound at a number.
func boundAt(number *big.Rat) bound {
	digits := len(number.Num().String()) - len(number.Denom().String())
	exponent := int64(digits - boundDigits)
	scaled, rest := new(big.Int), new(big.Int)
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(max(exponent, -exponent)), nil)
	if exponent < 0 {
		scaled.DivMod(power.Mul(power, number.Num()), number.Denom(), rest)
	} else {
		scaled.DivMod(number.Num(), power.Mul(power, number.Denom()), rest)
	}
	below, ok := AppendDecimal(nil, decimalText(scaled, exponent))
	above, okAbove := AppendDecimal(nil, decimalText(scaled.Add(scaled, big.NewInt(1)), exponent))
	if !ok || !okAbove {
		panic("BUG: a bound of a few thousand digits is no decimal")
	}
	if rest.Sign() == 0 {
		return plainBound(below)
	}
	return bound{below: below, above: above, number: number}
}

// ratExponentMax bounds the exponents of numbers that become fractions: these hold
// all their digits.
const ratExponentMax = 1000

// decimalRat undoes AppendDecimal; ok is false for what is no number, and for one
// beyond ratExponentMax.
func decimalRat(decimal []byte) (_ *big.Rat, ok bool) {
	if decimalLength(decimal) != len(decimal) || decimal[0] == decimalLowest || decimal[0] == decimalHighest {
		return nil, false
	}
	if decimal[0] == decimalZero {
		return new(big.Rat), true
	}
	flip := byte(0)
	if decimal[0] == decimalNegative {
		flip = 0xFF
	}
	exponent, at := int64(decimal[1]^flip)-0x80, 2
	if first := decimal[1] ^ flip; first == exponentBelow || first == exponentAbove {
		large := uint64(0)
		for ; at < 2+8; at++ {
			large = large<<8 | uint64(decimal[at]^flip)
		}
		exponent = int64(large ^ (1 << 63))
	}
	if exponent > ratExponentMax || exponent < -ratExponentMax {
		return nil, false
	}
	digits := new(big.Int)
	pairs := decimal[at : len(decimal)-1]
	for _, pair := range pairs {
		digits.Mul(digits, big.NewInt(100))
		digits.Add(digits, big.NewInt(int64(pair^flip)-1))
	}
	if flip != 0 {
		digits.Neg(digits)
	}
	power := exponent - 2*int64(len(pairs))
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(max(power, -power)), nil)
	if power < 0 {
		return new(big.Rat).SetFrac(digits, ten), true
	}
	return new(big.Rat).SetInt(digits.Mul(digits, ten)), true
}
