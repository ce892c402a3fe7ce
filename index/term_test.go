package index

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"kiln/fhir/search"
)

func TestFoldTakesCaseAndMarksAway(t *testing.T) {
	folder := NewFolder()
	f := func(text, want string) {
		t.Helper()
		if got := string(folder.Fold([]byte(text))); got != want {
			t.Errorf("%q folds to %q, want %q", text, got, want)
		}
	}
	f("", "")
	f("eve", "eve")
	f("Évelyn McDONALD", "evelyn mcdonald")
	f("E\u0301ve", "eve")
	f("Straße", "strasse")
	f("İstanbul ıI", "istanbul ıi")
	f("ΣΑΣ", "σασ")
	f("Ångström ﬁn", "angstrom fin")
	f("各 한글", "各 \u1112\u1161\u11ab\u1100\u1173\u11af")
	f("Zoë\x00", "zoe\x00")
}

func TestTokenValues(t *testing.T) {
	f := func(system, code, want string) {
		t.Helper()
		value := AppendToken(nil, []byte(system), []byte(code))
		if fmt.Sprintf("%q", value) != want {
			t.Errorf("%s|%s is %q, want %s", system, code, value, want)
		}
		if s, c, ok := ParseToken(value); !ok || string(s) != system || string(c) != code {
			t.Errorf("%s|%s comes back as %s|%s", system, code, s, c)
		}
	}
	f("http://loinc.org", "8480-6", `"\x01http://loinc.org\x008480-6"`)
	f("", "final", `"\x01\x00final"`)
	f("urn:x", "", `"\x01urn:x\x00"`)
	f("urn:x", "0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5f", `"\x01urn:x\x00\x02\v\x9c\xb3\xf4j$M;\x9d\fzK~{\x1c_"`)
	f("a\x00b", "\x02c\x01", `"\x01a\x01\x01b\x00\x01\x03c\x01\x02"`)
}

func TestReferenceValues(t *testing.T) {
	const uuid = "0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5f"
	f := func(text string, form byte, typed bool) {
		t.Helper()
		value := AppendReference(nil, []byte(text))
		if value[0] != form {
			t.Errorf("%s has form %d, want %d", text, value[0], form)
		}
		if typed != (form <= refAbsolute && bytes.HasPrefix(value, AppendReferenceType(nil, int(form), 103))) {
			t.Errorf("%s is a reference to type %x", text, value)
		}
		if back, ok := AppendReferenceText(nil, value); !ok || string(back) != text {
			t.Errorf("%s comes back as %s", text, back)
		}
	}
	f("Patient/"+uuid, refUUID, true)
	f("Patient/"+uuid+"/_history/2", refUUID, true)
	f("Patient/1", refID, true)
	f("Patient/1/_history/2", refID, true)
	f("http://x.org/fhir/Patient/1", refAbsolute, true)
	f("http://x.org/fhir/Patient/"+uuid+"/_history/3", refAbsolute, true)
	f("urn:uuid:"+uuid, refURN, false)
	f("urn:uuid:"+strings.ToUpper(uuid), refText, false)
	f("#p1", refText, false)
	f("Nobody/1", refText, false)
	f("x/Patient/1", refText, false)
	f("Patient/not valid", refText, false)
	f("Patient/1/_history/", refText, false)
	f("urn:oid:1.2.3", refText, false)
	f("Patient?identifier=x", refText, false)
	f("/", refText, false)
}

func TestCanonicalsWithoutVersionArePrefixes(t *testing.T) {
	plain := AppendCanonical(nil, []byte("http://x/a"))
	if !bytes.HasPrefix(AppendCanonical(nil, []byte("http://x/a|1.0")), plain) {
		t.Error("a version's value does not begin as the one without")
	}
	if bytes.HasPrefix(AppendCanonical(nil, []byte("http://x/ab|1.0")), plain) {
		t.Error("another canonical begins with this one's value")
	}
}

// ordered checks that byte order is the order of values.
func ordered(t *testing.T, what string, a, b []byte, want int) {
	t.Helper()
	if got := bytes.Compare(a, b); got != want {
		t.Errorf("%s: byte order is %d, the values' is %d (%x, %x)", what, got, want, a, b)
	}
}

func checkDecimals(t *testing.T, x, y string) {
	t.Helper()
	a, ok := AppendDecimal(nil, []byte(x))
	b, also := AppendDecimal(nil, []byte(y))
	if !ok || !also {
		t.Fatalf("cannot encode %s and %s", x, y)
	}
	p, _ := new(big.Rat).SetString(x)
	q, _ := new(big.Rat).SetString(y)
	ordered(t, x+" and "+y, a, b, p.Cmp(q))
	if got := decodeDecimal(a); got != p.RatString() {
		t.Errorf("%s comes back as %s", x, got)
	}
	for _, value := range [][]byte{a, b} {
		ordered(t, "infinity", value, []byte{decimalHighest}, -1)
		ordered(t, "minus infinity", value, []byte{decimalLowest}, 1)
	}
}

func TestDecimalsKeepTheirOrder(t *testing.T) {
	texts := []string{"0", "-0.00", "1", "1.0", "1.00", "10", "9.99", "0.1", "0.01", "0.0100", "-1", "-1.1", "-0.5", "100e-2", "1E3", "1000", "999.999",
		"1e-112", "1e-113", "1e-200", "1e112", "1e113", "-1e300", "123456789012345678901234567890.123456789", "0.000000000000000000000000000001", "12", "1.2", "12.5", "120", "99", "101", "-99", "-100", "-101"}
	for _, x := range texts {
		for _, y := range texts {
			checkDecimals(t, x, y)
		}
	}
	for _, text := range []string{"", "-", ".", "x", "1x", "1e", "1e+", "1e9999999999999999999", "e5", "1.2.3"} {
		if value, ok := AppendDecimal(nil, []byte(text)); ok || len(value) > 0 {
			t.Errorf("%q is encoded as %x", text, value)
		}
	}
}

func FuzzDecimals(f *testing.F) {
	f.Add(int64(12), int8(-1), int64(-120), int8(3))
	f.Fuzz(func(t *testing.T, a int64, e int8, b int64, g int8) {
		checkDecimals(t, fmt.Sprintf("%de%d", a, e), fmt.Sprintf("%de%d", b, g))
		checkDecimals(t, fmt.Sprintf("%d.%d", a, uint8(e)), fmt.Sprintf("%d.%03d", b, uint8(g)))
	})
}

func TestDatesComeBackAndKeepTheirOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	span := func() (first, last int64) {
		first = rng.Int64N(4e12) - 2e12
		return first, first + rng.Int64N(1<<rng.IntN(49))
	}
	for range 20_000 {
		a, b := span()
		c, d := span()
		x, y := AppendDate(nil, a, b), AppendDate(nil, c, d)
		if first, last, ok := ParseDate(x); !ok || first != a || last != b || b-a > DateClassSpan(x[0]) {
			t.Fatalf("%d..%d comes back as %d..%d, class %d", a, b, first, last, x[0])
		}
		if x[0] == y[0] {
			want := 0
			if a < c || a == c && b < d {
				want = -1
			} else if a > c || b > d {
				want = 1
			}
			ordered(t, fmt.Sprint(a, b, c, d), x, y, want)
		}
	}
	f := func(first, last int64, class byte) {
		t.Helper()
		value := AppendDate(nil, first, last)
		a, b, ok := ParseDate(value)
		if !ok || a != first || b != last || value[0] != class {
			t.Errorf("%d..%d is %x, %d..%d", first, last, value, a, b)
		}
	}
	f(5, 5, 0)
	f(5, 6, 1)
	f(0, 999, 3)
	f(0, 86_399_999, 7)
	f(5, math.MaxInt64, dateOpenEnd)
	f(math.MinInt64, 5, dateOpenStart)
	if value := AppendDate(nil, 6, 5); len(value) > 0 {
		t.Errorf("a span that ends before it begins is %x", value)
	}
	if value := AppendDate(nil, math.MinInt64, math.MaxInt64); len(value) > 0 {
		t.Errorf("a span without ends is %x", value)
	}
}

func FuzzTokensComeBack(f *testing.F) {
	f.Add("http://x", "code", "http://y", "code")
	f.Fuzz(func(t *testing.T, system, code, otherSystem, otherCode string) {
		a, b := AppendToken(nil, []byte(system), []byte(code)), AppendToken(nil, []byte(otherSystem), []byte(otherCode))
		if s, c, ok := ParseToken(a); !ok || string(s) != system || string(c) != code {
			t.Errorf("%q|%q comes back as %q|%q", system, code, s, c)
		}
		if bytes.Equal(a, b) != (system == otherSystem && code == otherCode) {
			t.Errorf("%q|%q and %q|%q have values %x and %x", system, code, otherSystem, otherCode, a, b)
		}
	})
}

func FuzzStringsComeBack(f *testing.F) {
	f.Add("Évelyn", "eve")
	folder := NewFolder()
	f.Fuzz(func(t *testing.T, text, prefix string) {
		if strings.ToValidUTF8(text, "") != text || strings.ToValidUTF8(prefix, "") != prefix {
			t.Skip()
		}
		value := AppendString(nil, []byte(text), folder)
		folded, original := ParseString(value)
		if string(original) != text || string(folded) != oracleFold(text) {
			t.Errorf("%q comes back as %q, %q", text, folded, original)
		}
		begins := strings.HasPrefix(string(folded), oracleFold(prefix))
		if got := bytes.HasPrefix(value, AppendStringPrefix(nil, []byte(prefix), folder)); got != begins && !strings.Contains(prefix, "\x00") {
			t.Errorf("%q begins with %q: %t, want %t", text, prefix, got, begins)
		}
	})
}

func TestOddShapesGiveNoTerms(t *testing.T) {
	sink := &recorder{}
	x := testExtraction(t).NewExtractor(sink)
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	names := map[Param]*search.Field{}
	for _, f := range table.Fields() {
		names[Param(f.Number)] = f
	}
	f := func(body string, want ...string) {
		t.Helper()
		sink.terms = nil
		if _, err := x.Scan([]byte(body)); err != nil {
			t.Fatalf("%s: %s", body, err)
		}
		var got []string
		for _, term := range sink.terms {
			got = append(got, names[term.p].Name+": "+describeTerm(names[term.p].Kind, term.value))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s gives\n%q, want\n%q", body, got, want)
		}
	}
	f(`{"resourceType":"Observation","code":"x","status":{"a":1},"effectiveDateTime":5,"valueQuantity":[]}`)
	f(`{"resourceType":"Observation","code":{"coding":["x",null,{"code":5},{"system":{}},[{"code":"y"}]]}}`, "Observation.code: code |y")
	f(`{"resourceType":"Observation","valueQuantity":{"value":"5"},"effectivePeriod":{"start":"x"},"subject":{"reference":""}}`)
	f(`{"resourceType":"Observation","code":{"coding":{"code":"a","code":"b"}}}`, "Observation.code: code |b")
	f(`{"resourceType":"Observation","effectivePeriod":{"start":"2021","end":"2020"}}`)
	f(`{"resourceType":"Nobody","code":{"coding":{"code":"a"}}}`)
}

func TestTooLargeValuesAreRefused(t *testing.T) {
	x := testExtraction(t).NewExtractor(nullSink{})
	f := func(body, want string) {
		t.Helper()
		_, err := x.Scan([]byte(body))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	f(`{"resourceType":"Observation","valueQuantity":{"value":1e99999999999999999999}}`, "1e99999999999999999999")
	codes := strings.Repeat(`{"code":"a"},`, 100) + `{"code":"a"}`
	f(`{"resourceType":"Observation","component":[{"code":{"coding":[`+codes+`]},"valueCodeableConcept":{"coding":[`+codes+`]}}]}`, "pairs of values")
	if _, err := x.Scan([]byte(`{"resourceType":"Observation","valueQuantity":{"value":1e9}}`)); err != nil {
		t.Errorf("the next resource fails: %s", err)
	}
}
