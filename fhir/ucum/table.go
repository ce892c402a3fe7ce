package ucum

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Table is the units of a ucum-essence.xml. It is immutable and safe for concurrent
// use.
type Table struct {
	// Version is the table's own.
	Version  string
	prefixes map[string]*big.Rat
	atoms    map[string]*atom
}

// atom is a unit with a name of its own.
type atom struct {
	metric bool // takes prefixes
	term   *term
	err    error // it is not converted
}

// essence is the file.
type essence struct {
	XMLName  xml.Name `xml:"http://unitsofmeasure.org/ucum-essence root"`
	Version  string   `xml:"version,attr"`
	Prefixes []struct {
		Code  string       `xml:"Code,attr"`
		Value essenceValue `xml:"value"`
	} `xml:"prefix"`
	Bases []struct {
		Code string `xml:"Code,attr"`
	} `xml:"base-unit"`
	Units []essenceUnit `xml:"unit"`
}

type essenceUnit struct {
	Code      string       `xml:"Code,attr"`
	Metric    string       `xml:"isMetric,attr"`
	Special   string       `xml:"isSpecial,attr"`
	Arbitrary string       `xml:"isArbitrary,attr"`
	Value     essenceValue `xml:"value"`
}

type essenceValue struct {
	Unit     string           `xml:"Unit,attr"`
	Value    string           `xml:"value,attr"`
	Function *essenceFunction `xml:"function"`
}

type essenceFunction struct {
	Name  string `xml:"name,attr"`
	Unit  string `xml:"Unit,attr"`
	Value string `xml:"value,attr"`
}

// apart are units that the table says are moles, but which are another count of the
// same solution: 2 equivalents of calcium are one mole of it.
var apart = []string{"eq", "osm"}

// Read reads a table: the whole of ucum-essence.xml.
func Read(text []byte) (*Table, error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "ascii") || strings.EqualFold(charset, "us-ascii") {
			return in, nil
		}
		return nil, fmt.Errorf("the encoding %q is not known", charset)
	}
	var e essence
	if err := d.Decode(&e); err != nil {
		return nil, fmt.Errorf("cannot read the table of units: %w", err)
	}
	if len(e.Prefixes) == 0 || len(e.Bases) == 0 || len(e.Units) == 0 {
		return nil, fmt.Errorf("cannot read the table of units: it has %d prefixes, %d base units and %d units", len(e.Prefixes), len(e.Bases), len(e.Units))
	}
	t := &Table{Version: e.Version, prefixes: map[string]*big.Rat{}, atoms: map[string]*atom{}}
	for _, p := range e.Prefixes {
		value, err := number(p.Value.Value)
		if err != nil {
			return nil, fmt.Errorf("cannot read the prefix %q of the table of units: %w", p.Code, err)
		}
		t.prefixes[p.Code] = value
	}
	for _, b := range e.Bases {
		t.atoms[b.Code] = &atom{metric: true, term: base(b.Code)}
	}
	return t, t.define(e.Units)
}

// define finds what all units are in base units; definitions may be in any order.
func (t *Table) define(units []essenceUnit) error {
	open := units
	for len(open) > 0 {
		var later []essenceUnit
		for i := range open {
			a, err := t.define1(&open[i])
			switch {
			case err == nil:
				t.atoms[open[i].Code] = a
			case err == errUnit:
				later = append(later, open[i]) // made of one that is not known yet
			default:
				return fmt.Errorf("cannot read the unit %q of the table of units: %w", open[i].Code, err)
			}
		}
		if len(later) == len(open) {
			return fmt.Errorf("cannot read the unit %q of the table of units: it is made of %q, which is not known", open[0].Code, open[0].Value.Unit)
		}
		open = later
	}
	return nil
}

func (t *Table) define1(u *essenceUnit) (*atom, error) {
	a := &atom{metric: u.Metric == "yes"}
	switch {
	case u.Special == "yes":
		var err error
		a.term, err = t.temperature(u.Value.Function)
		if err == errSpecial {
			a.err, err = errSpecial, nil
		}
		return a, err
	case u.Arbitrary == "yes" && u.Value.Unit == "1", slices.Contains(apart, u.Code):
		a.term = base(u.Code)
		return a, nil
	}
	factor, err := number(u.Value.Value)
	if err != nil {
		return nil, err
	}
	of, err := t.parse(u.Value.Unit)
	if err != nil {
		return nil, err
	}
	a.term = newTerm()
	if err := a.term.times(of, 1); err != nil {
		return nil, err
	}
	a.term.factor.Mul(a.term.factor, factor)
	return a, nil
}

// temperature is a scale that has its zero elsewhere: degrees Celsius, Fahrenheit
// and Reaumur. errSpecial for other functions.
func (t *Table) temperature(f *essenceFunction) (*term, error) {
	if f == nil {
		return nil, errSpecial
	}
	celsius := big.NewRat(27315, 100)
	zero := map[string]*big.Rat{"Cel": celsius, "degRe": celsius, "degF": nil}
	offset, known := zero[f.Name]
	if !known {
		return nil, errSpecial
	}
	factor, err := number(f.Value)
	if err != nil {
		return nil, err
	}
	of, err := t.parse(f.Unit)
	if err != nil {
		return nil, err
	}
	scale := newTerm()
	if err := scale.times(of, 1); err != nil {
		return nil, err
	}
	scale.factor.Mul(scale.factor, factor)
	if f.Name == "degF" {
		offset = new(big.Rat).Mul(big.NewRat(45967, 100), scale.factor)
	}
	scale.affine = offset
	return scale, nil
}

// numberExponentMax bounds the exponents of the table's numbers.
const numberExponentMax = 400

func number(text string) (*big.Rat, error) {
	mantissa, exponent, scientific := strings.Cut(strings.ToLower(text), "e")
	if scientific {
		if e, err := strconv.Atoi(exponent); err != nil || e > numberExponentMax || e < -numberExponentMax {
			return nil, fmt.Errorf("%q is no number", text)
		}
	}
	if len(mantissa) > codeBytesMax || strings.ContainsAny(mantissa, "/_xp") {
		return nil, fmt.Errorf("%q is no number", text)
	}
	value, ok := new(big.Rat).SetString(text)
	if !ok || value.Sign() <= 0 {
		return nil, fmt.Errorf("%q is no number above 0", text)
	}
	return value, nil
}

// Unit reads a unit; ok is false for what is none, and for those that cannot be
// converted.
func (t *Table) Unit(code string) (u Unit, ok bool) {
	one, err := t.parse(code)
	if err != nil {
		return Unit{}, false
	}
	return one.unit(), true
}

func (t *Table) parse(code string) (*term, error) {
	if code == "" || len(code) > codeBytesMax {
		return nil, errUnit
	}
	p := &parser{table: t, rest: code}
	one, err := p.term()
	if err == nil && p.rest != "" {
		err = errUnit
	}
	return one, err
}

// symbol is an atom, or a prefix and a metric atom; the caller may change it.
func (t *Table) symbol(symbol string) (*term, error) {
	if a := t.atoms[symbol]; a != nil {
		return a.copied(nil)
	}
	var found *term
	for prefix, value := range t.prefixes {
		rest, has := strings.CutPrefix(symbol, prefix)
		a := t.atoms[rest]
		if !has || a == nil || !a.metric {
			continue
		}
		one, err := a.copied(value)
		if err != nil || found != nil {
			return nil, errUnit
		}
		found = one
	}
	if found == nil {
		return nil, errUnit
	}
	return found, nil
}

// copied is the atom's term; with a prefix it must be a multiple.
func (a *atom) copied(prefix *big.Rat) (*term, error) {
	if a.err != nil {
		return nil, a.err
	}
	one := newTerm()
	if a.term.affine != nil {
		if prefix != nil {
			return nil, errSpecial
		}
		one.factor.Set(a.term.factor)
		one.affine = a.term.affine
		for name, power := range a.term.powers {
			one.powers[name] = power
		}
		return one, nil
	}
	err := one.times(a.term, 1)
	if prefix != nil {
		one.factor.Mul(one.factor, prefix)
	}
	return one, err
}
