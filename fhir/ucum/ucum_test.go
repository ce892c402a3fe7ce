package ucum

import (
	"math/big"
	"os"
	"strings"
	"testing"
)

// table is a small one of our own, in the form of the real one.
const table = `<?xml version="1.0" encoding="ascii"?>
<root xmlns="http://unitsofmeasure.org/ucum-essence" version="test">
<prefix Code="k"><value value="1e3"/></prefix><prefix Code="d"><value value="1e-1"/></prefix><prefix Code="c"><value value="1e-2"/></prefix>
<prefix Code="m"><value value="1e-3"/></prefix><prefix Code="u"><value value="1e-6"/></prefix>
<base-unit Code="m"/><base-unit Code="s"/><base-unit Code="g"/><base-unit Code="K"/>
<unit Code="min" isMetric="no"><value Unit="s" value="60"/></unit>
<unit Code="L" isMetric="yes"><value Unit="l" value="1"/></unit>
<unit Code="l" isMetric="yes"><value Unit="dm3" value="1"/></unit>
<unit Code="10*" isMetric="no"><value Unit="1" value="10"/></unit>
<unit Code="%" isMetric="no"><value Unit="10*-2" value="1"/></unit>
<unit Code="mol" isMetric="yes"><value Unit="10*23" value="6.02214076"/></unit>
<unit Code="eq" isMetric="yes"><value Unit="mol" value="1"/></unit>
<unit Code="U" isMetric="yes"><value Unit="umol/min" value="1"/></unit>
<unit Code="[iU]" isMetric="yes" isArbitrary="yes"><value Unit="1" value="1"/></unit>
<unit Code="[IU]" isMetric="yes" isArbitrary="yes"><value Unit="[iU]" value="1"/></unit>
<unit Code="[lb_av]" isMetric="no"><value Unit="g" value="453.59237"/></unit>
<unit Code="m[X]" isMetric="yes"><value Unit="g/(m.s2)" value="2"/></unit>
<unit Code="Cel" isMetric="yes" isSpecial="yes"><value Unit="cel(1 K)"><function name="Cel" value="1" Unit="K"/></value></unit>
<unit Code="[degF]" isMetric="no" isSpecial="yes"><value Unit="degf(5 K/9)"><function name="degF" value="5" Unit="K/9"/></value></unit>
<unit Code="[pH]" isMetric="no" isSpecial="yes"><value Unit="pH(1 mol/l)"><function name="pH" value="1" Unit="mol/l"/></value></unit>
</root>`

// converted is a number of one unit in another; "": there is no way.
func converted(t *Table, value, from, to string) string {
	u, okU := t.Unit(from)
	v, okV := t.Unit(to)
	if !okU || !okV {
		return "no unit"
	}
	scale, offset, ok := u.To(v)
	if !ok {
		return "another kind"
	}
	number, _ := new(big.Rat).SetString(value)
	return number.Add(number.Mul(number, scale), offset).RatString()
}

func TestConversions(t *testing.T) {
	units, err := Read([]byte(table))
	if err != nil {
		t.Fatal(err)
	}
	f := func(value, from, to, want string) {
		t.Helper()
		if got := converted(units, value, from, to); got != want {
			t.Errorf("%s %s is %s %s, want %s", value, from, got, to, want)
		}
	}
	f("5.4", "mg", "g", "27/5000")
	f("1", "[lb_av]", "kg", "45359237/100000000")
	f("1", "mg/dL", "g/L", "1/100")
	f("1", "mmol/L", "umol/mL", "1")
	f("7", "/min", "/s", "7/60")
	f("1", "10*3/uL", "10*9/L", "1")
	f("1", "10*-3.m2", "cm2", "10")
	f("50", "%", "1", "1/2")
	f("1", "kg.m/s2", "g.m.s-2", "1000")
	f("1", "g/(m.s2)", "m[X]", "1/2")
	f("1", "mm[X]", "m[X]", "1/1000")
	f("1", "U/L", "umol/min/L", "1")
	f("1", "(mg/dL)/(kg/L)", "1", "1/100000")
	f("37", "Cel", "K", "6203/20")
	f("98.6", "[degF]", "Cel", "37")
	f("-40", "Cel", "[degF]", "-40")
	f("3", "[IU]/L", "k[iU]/L", "3/1000")
	f("1", "mg{dry}/dL", "g{dry}/L", "1/100")
	f("1", "{beats}/min", "{beats}/s", "1/60")
	f("2", "12.m", "m", "24")

	f("1", "mg", "mL", "another kind")
	f("1", "meq/L", "mmol/L", "another kind")
	f("1", "[iU]", "U", "another kind")
	f("1", "{beats}/min", "/min", "another kind")
	f("1", "mg{dry}", "mg", "another kind")
	for _, code := range []string{"", "x", "mg/", "mg//dL", "kmin", "mCel", "Cel/s", "[pH]", "m-", "(m", "m)", "{x", "m{{x}}", "0", "m999", "mkg", "kk", "1234567890", "m.", strings.Repeat("m.", 70) + "m", strings.Repeat("(", 9) + "m" + strings.Repeat(")", 9), "10*99.10*99.10*99.10*99.10*99.10*99.10*99.10*99.10*99.10*99.10*99.10*99.10*99"} {
		f("1", code, "m", "no unit")
	}
}

func TestTablesThatAreNone(t *testing.T) {
	f := func(old, new, want string) {
		t.Helper()
		_, err := Read([]byte(strings.Replace(table, old, new, 1)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with %q: %v, want %q", new, err, want)
		}
	}
	f("ucum-essence", "other", "cannot read the table of units")
	f("</root>", "", "cannot read the table of units")
	f(`encoding="ascii"`, `encoding="utf-7"`, "is not known")
	f(`Unit="s" value="60"`, `Unit="x" value="60"`, `it is made of "x", which is not known`)
	f(`Unit="s" value="60"`, `Unit="min" value="60"`, "which is not known")
	f(`value="60"`, `value="1e999"`, "is no number")
	f(`value="60"`, `value="0"`, "is no number above 0")
	f(`value="60"`, `value="1/3"`, "is no number")
	f(`value="1e3"`, ``, "cannot read the prefix")
}

// The publisher's own table, when there is a copy.
func TestTheRealTable(t *testing.T) {
	text, err := os.ReadFile(os.Getenv("KILN_UCUM"))
	if err != nil {
		t.Skip("KILN_UCUM names no ucum-essence.xml")
	}
	units, err := Read(text)
	if err != nil {
		t.Fatal(err)
	}
	f := func(value, from, to, want string) {
		t.Helper()
		if got := converted(units, value, from, to); got != want {
			t.Errorf("%s %s is %s %s, want %s", value, from, got, to, want)
		}
	}
	f("1", "[lb_av]", "kg", "45359237/100000000")
	f("12", "[in_i]", "cm", "762/25")
	f("760", "mm[Hg]", "Pa", "2533118/25")
	f("98.6", "[degF]", "Cel", "37")
	f("1", "[gal_us]", "[foz_us]", "128")
	f("1", "ng/mL", "ug/L", "1")
	f("1", "10*3/uL", "10*9/L", "1")
	f("1", "mL/min/{1.73_m2}", "L/h/{1.73_m2}", "3/50")
	f("1", "kat", "U", "60000000")
	f("1", "a", "d", "1461/4")
	convertible := 0
	for code, a := range units.atoms {
		if a.err == nil {
			convertible++
		}
		if u, ok := units.Unit(code); ok {
			if scale, offset, ok := u.To(u); !ok || scale.Cmp(big.NewRat(1, 1)) != 0 || offset.Sign() != 0 {
				t.Errorf("%s is not itself", code)
			}
		} else if a.err == nil {
			t.Errorf("%s is no unit", code)
		}
	}
	t.Logf("version %s: %d of %d atoms can be converted", units.Version, convertible, len(units.atoms))
}

// Whatever stands in a resource for a unit, it is one or it is none; and one can be
// converted to itself.
func FuzzUnit(f *testing.F) {
	for _, seed := range []string{"mg/dL", "10*3/uL", "/min", "kg.m/s2", "(mg/dL)/{x}", "Cel{oral}", "m[X]", "m-2.{a}3", "10*-3", "[IU]", "%"} {
		f.Add(seed)
	}
	units, err := Read([]byte(table))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, code string) {
		u, ok := units.Unit(code)
		if !ok {
			return
		}
		scale, offset, ok := u.To(u)
		if !ok || scale.Cmp(big.NewRat(1, 1)) != 0 || offset.Sign() != 0 || u.factor.Sign() <= 0 {
			t.Errorf("%q is not itself", code)
		}
	})
}
