package query

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/ucum"
	"kiln/index"
)

func testOptions() Options {
	units, err := ucum.Read([]byte(`<root xmlns="http://unitsofmeasure.org/ucum-essence"><prefix Code="m"><value value="1e-3"/></prefix>
		<base-unit Code="g"/><unit Code="third" isMetric="no"><value Unit="g/3" value="1"/></unit></root>`))
	if err != nil {
		panic("BUG: the test's table of units: " + err.Error())
	}
	return Options{Base: "http://x/fhir", Now: time.UnixMilli(1_700_000_000_000), Units: units}
}

// read parses a query as an address has it, without its encoding.
func read(typ, text string, o Options) (*Search, error) {
	var parameters []Parameter
	for part := range strings.SplitSeq(text, "&") {
		name, value, _ := strings.Cut(part, "=")
		parameters = append(parameters, Parameter{name, value})
	}
	var types []fhir.TypeCode
	if t := fhir.TypeByName([]byte(typ)); t != 0 {
		types = append(types, t)
	}
	return Parse(types, parameters, o)
}

func TestEscapes(t *testing.T) {
	f := func(text string, separator byte, want ...string) {
		t.Helper()
		parts := split(text, separator)
		for i := range parts {
			parts[i] = plain(parts[i])
		}
		if strings.Join(parts, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s is %q, want %q", text, parts, want)
		}
	}
	f(`a,b`, ',', "a", "b")
	f(`a\,b,c`, ',', "a,b", "c")
	f(`a\\,b`, ',', `a\`, "b")
	f(`a\|b|c`, '|', "a|b", "c")
	f(`\d\`, ',', `\d\`)
	f(`a\$b$c`, '$', "a$b", "c")
	f(``, ',', "")
}

func TestWhatIsReadIsNoted(t *testing.T) {
	o := testOptions()
	o.Lenient = true
	s, err := read("Patient", "name=eve&odd=1&_sort=-birthdate&_count=5&_total=none&gender=", o)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Ignored) != 1 || s.Ignored[0] != "odd" || s.Count != 5 || s.Total != "none" || len(s.Sort) != 1 || !s.Sort[0].Desc {
		t.Errorf("read as %+v", s)
	}
	if len(s.Used) != 4 || !s.Conditions() {
		t.Errorf("used %v", s.Used)
	}
	for _, text := range []string{"_count=1", "name=", "_include=Patient:organization"} {
		if s, err := read("Patient", text, testOptions()); err != nil || s.Conditions() {
			t.Errorf("%s is a condition, error %v", text, err)
		}
	}
	if _, err := read("Patient", "_count=1&_count=2", testOptions()); err == nil {
		t.Error("two _count are read")
	}
}

// References to thousands of resources are one walk, which finds those and no other.
func TestReferencesToManyAreOneWalk(t *testing.T) {
	patient := fhir.TypeByName([]byte("Patient"))
	var keys []key
	for _, id := range []string{"a", "ab", "b", "0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5f"} {
		keys = append(keys, key{patient, id})
	}
	walk := referencesTo(20, keys, "http://x/fhir")
	f := func(text string, want bool) {
		t.Helper()
		if got := walk.Takes(index.AppendReference(nil, []byte(text))); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
	f("Patient/a", true)
	f("Patient/a/_history/3", true)
	f("Patient/ab", true)
	f("Patient/abc", false)
	f("Patient/aa", false)
	f("Patient/0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5f", true)
	f("Patient/0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5f/_history/2", true)
	f("Patient/0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c50", false)
	f("http://x/fhir/Patient/b", true)
	f("http://x/fhir/Patient/b/_history/2", true)
	f("http://y/fhir/Patient/b", false)
	f("Group/a", false)
	f("urn:uuid:0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5f", false)
	f("#a", false)
	m := index.NewMemoryTerms()
	for i, text := range []string{"#a", "Group/a", "Patient/0", "Patient/a", "Patient/aa", "Patient/b", "http://x/fhir/Patient/ab", "http://y/fhir/Patient/ab", "urn:x"} {
		m.AddTerm(20, index.AppendReference(nil, []byte(text)))
		m.Commit(index.Ordinal(i))
	}
	rows, unsure := index.NewRowSet(9), index.NewRowSet(9)
	if _, err := walk.AddTo(rows, unsure, index.MemorySource{Terms: m, Below: 9}, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := rows.Bitmap().String(); got != "{3,5,6}" {
		t.Errorf("the walk finds %s", got)
	}
}

// Whatever a client asks, it gets a search or a reason, and the walks of the
// search go forward: a seek is above the value it was asked at.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"code=http://loinc.org|8480-6&date=ge2020-01-01", "subject:Patient.name:exact=a,b\\,c", "_has:Observation:patient:code=x",
		"value-quantity=ap5.4||mg", "value-quantity=ge-0.1|http://unitsofmeasure.org|third", "component-code-value-quantity=8480-6$lt110", "subject=123", "identifier:of-type=a|b|c", "code:missing=true",
		"_include:iterate=Observation:*&_revinclude=*", "_id=a,b&_lastUpdated=ne2020&_tag=|", "_sort=-date,code&_count=0&_total=none", "_list=x&_type=a",
		"subject:identifier=a|b&code-value-date=a$ap2020", "subject.organization.partof.name=x", "code:not=a&code:text=b&status=final",
	} {
		f.Add("Observation", seed, []byte("\x01a\x00b"))
	}
	f.Fuzz(func(t *testing.T, typ, text string, value []byte) {
		s, err := read(typ, text, testOptions())
		var refused *Error
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("%s?%s is refused with %T: %v", typ, text, err, err)
		}
		if err != nil || len(value) == 0 {
			return
		}
		eachWalk(s.where, func(w index.Walk) {
			if w.Look == nil {
				return
			}
			if _, seek := w.Look(value, nil); seek != nil && string(seek) <= string(value) {
				t.Fatalf("%s?%s goes back from %x to %x", typ, text, value, seek)
			}
		})
	})
}

func eachWalk(f *filter, fn func(index.Walk)) {
	for _, w := range f.walks {
		fn(w)
	}
	for _, arg := range f.args {
		eachWalk(arg, fn)
	}
	for _, t := range f.targets {
		eachWalk(t.where, fn)
	}
}

// A search that the engine cannot answer in its memory is the client's to narrow.
func TestTooLargeSearchesAreWorded(t *testing.T) {
	var refused *Error
	if err := worded(fmt.Errorf("cannot search: %w", engine.ErrQueryTooLarge)); !errors.As(err, &refused) || refused.Kind != TooCostly ||
		refused.Text != "The search needs too much memory; narrow it." {
		t.Errorf("too large: %v", err)
	}
	if err := worded(engine.ErrReindex); !errors.Is(err, engine.ErrReindex) {
		t.Errorf("indexed by other rules: %v", err)
	}
}
