package index

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"kiln/fhir/search"
)

// testUnit is what a number in a unit means: times factor, plus offset, it is in the
// base unit of its kind.
type testUnit struct{ kind, factor, offset string }

var testUnits = map[string]testUnit{
	"g": {"mass", "1", "0"}, "mg": {"mass", "1/1000", "0"}, "kg": {"mass", "1000", "0"}, "[lb]": {"mass", "453.59237", "0"}, "third": {"mass", "1/3", "0"},
	"K": {"heat", "1", "0"}, "Cel": {"heat", "1", "273.15"}, "[degF]": {"heat", "5/9", "45967/180"},
}

func testConversion(to string) Conversion {
	v := testUnits[to]
	return func(code []byte) (scale, offset *big.Rat, ok bool) {
		u, known := testUnits[string(code)]
		if !known || u.kind != v.kind {
			return nil, nil, false
		}
		offset = new(big.Rat).Sub(rat(u.offset), rat(v.offset))
		return new(big.Rat).Quo(rat(u.factor), rat(v.factor)), offset.Quo(offset, rat(v.factor)), true
	}
}

// measured is a stored quantity: low and high are the same, or the ends of an
// interval, "" when open.
type measured struct{ system, unit, low, high string }

func (m measured) value() []byte {
	value := AppendQuantityIntervalUnit(nil, []byte(m.system), []byte(m.unit))
	if m.low == m.high {
		value = AppendQuantityUnit(nil, []byte(m.system), []byte(m.unit))
		value, _ = AppendDecimal(value, []byte(m.low))
		return value
	}
	if m.low == "" {
		value = append(value, decimalLowest)
	} else {
		value, _ = AppendDecimal(value, []byte(m.low))
	}
	if m.high == "" {
		return append(value, decimalHighest)
	}
	value, _ = AppendDecimal(value, []byte(m.high))
	return value
}

// answers tells, with fractions, whether a quantity answers in another unit.
func (m measured) answers(c Compare, text, unit string) bool {
	scale, offset, ok := testConversion(unit)([]byte(m.unit))
	if m.system != "ucum" || m.unit == unit || !ok {
		return false
	}
	end := func(text string, open int64) *big.Rat {
		if text == "" {
			return big.NewRat(open, 1)
		}
		number := rat(text)
		return number.Add(number.Mul(number, scale), offset)
	}
	first, last := end(m.low, -1<<62), end(m.high, 1<<62)
	low, high := queryBounds(text)
	n := rat(text)
	switch inside := low.Cmp(first) <= 0 && last.Cmp(high) < 0; c {
	case Eq:
		return inside
	case Ne:
		return !inside
	case Gt:
		return last.Cmp(n) > 0
	case Lt:
		return first.Cmp(n) < 0
	case Ge:
		return last.Cmp(n) >= 0
	case Le:
		return first.Cmp(n) <= 0
	case Sa:
		return first.Cmp(n) > 0
	case Eb:
		return last.Cmp(n) < 0
	}
	low, high = new(big.Rat).Mul(n, rat("0.9")), new(big.Rat).Mul(n, rat("1.1"))
	if low.Cmp(high) > 0 {
		low, high = high, low
	}
	return first.Cmp(high) <= 0 && last.Cmp(low) >= 0
}

// What is found in other units is what fractions say, at the bounds too.
func TestQuantitiesAreFoundInOtherUnits(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	units := []string{"g", "mg", "kg", "[lb]", "third", "K", "Cel", "[degF]", "other"}
	asked := []string{"mg", "[lb]", "[degF]"}
	queries := []string{"0", "5.4", "5.40", "-40", "1e2", "453.59237", "-0.5e-3"}
	var all []measured
	add := func(m measured) { all = append(all, m) }
	for range 400 {
		n := fmt.Sprintf("%d.%de%d", r.IntN(200)-100, r.IntN(100), r.IntN(9)-5)
		m := measured{[]string{"ucum", "ucum", "ucum", "other"}[r.IntN(4)], units[r.IntN(len(units))], n, n}
		switch r.IntN(8) {
		case 0:
			m.low = ""
		case 1:
			m.high = ""
		case 2:
			m.low, m.high = fmt.Sprint(r.IntN(100)), fmt.Sprint(100+r.IntN(100))
		}
		add(m)
	}
	for _, q := range queries { // the bounds themselves, in every unit, as far as they are decimals, and beside them
		low, high := queryBounds(q)
		for _, number := range []*big.Rat{low, high, rat(q)} {
			for _, from := range units {
				for _, to := range asked {
					scale, offset, ok := testConversion(to)([]byte(from))
					if !ok {
						continue
					}
					at := new(big.Rat).Sub(number, offset)
					at.Quo(at, scale)
					for _, digits := range []int{3, 41} {
						n := at.FloatString(digits)
						add(measured{"ucum", from, n, n})
					}
				}
			}
		}
	}
	var values [][]byte
	for _, m := range all {
		values = append(values, m.value())
	}
	m, found := tableOf(t, values), 0
	for _, q := range queries {
		for _, unit := range asked {
			for c := Eq; c <= Ap; c++ {
				walks, err := ConvertedQuantityWalks(walkField(search.Quantity), c, []byte(q), Unit{System: []byte("ucum"), Code: []byte(unit)}, testConversion(unit))
				if err != nil {
					t.Fatal(err)
				}
				got := m.walked(t, walks)
				found += len(got)
				expectWalk(t, fmt.Sprintf("%v %s %s", c, q, unit), got, len(values), func(i int) bool { return all[i].answers(c, q, unit) })
			}
		}
	}
	if found < 1000 {
		t.Errorf("only %d are found", found)
	}
	if _, err := ConvertedQuantityWalks(walkField(search.Quantity), Eq, []byte("1e5000"), Unit{System: []byte("ucum"), Code: []byte("g")}, testConversion("g")); err == nil {
		t.Error("a number of 5000 digits is converted")
	}
}

// A decimal becomes the fraction that its text is.
func TestDecimalsBecomeFractions(t *testing.T) {
	for _, text := range []string{"0", "1", "-1", "0.5", "12.345", "-0.00012345", "1e100", "-1e-100", "123456789.123456789e200", "99", "100", "9e-900"} {
		decimal, ok := AppendDecimal(nil, []byte(text))
		if !ok {
			t.Fatal(text)
		}
		if got, ok := decimalRat(decimal); !ok || got.Cmp(rat(text)) != 0 {
			t.Errorf("%s is %v", text, got)
		}
	}
	for _, text := range []string{"1e1001", "1e-2000", "-1e99999999"} {
		decimal, _ := AppendDecimal(nil, []byte(text))
		if _, ok := decimalRat(decimal); ok {
			t.Errorf("%s is a fraction", text)
		}
	}
}
