package query

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"kiln/index"
)

// text writes a clause with every bracket that it could have.
func (c *clause) text() string {
	switch c.op {
	case opTerms:
		var path []string
		for _, step := range c.path {
			name := step.name
			if step.where != nil {
				name += "[" + step.where.text() + "]"
			}
			path = append(path, name)
		}
		return strings.Join(path, ".") + " " + c.operator + " <" + c.value + ">"
	case opNot:
		return "not (" + c.args[0].text() + ")"
	}
	var parts []string
	for _, arg := range c.args {
		parts = append(parts, arg.text())
	}
	return "(" + strings.Join(parts, map[op]string{opAnd: " and ", opOr: " or "}[c.op]) + ")"
}

func TestFiltersAreParsed(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		c, err := parseClause(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := c.text(); got != want {
			t.Errorf("%s is read as %s, want %s", text, got, want)
		}
		again, err := parseClause(strings.NewReplacer("<", `"`, ">", `"`).Replace(want))
		if err != nil || again.text() != want {
			t.Errorf("%s comes back with error %v", want, err)
		}
	}
	f(`name co "pet"`, `name co <pet>`)
	f(`given eq "peter" and birthdate ge 2014-10-10`, `(given eq <peter> and birthdate ge <2014-10-10>)`)
	f(`code eq http://loinc.org|1234-5`, `code eq <http://loinc.org|1234-5>`)
	f(`subject.name co "pet"`, `subject.name co <pet>`)
	f(`related[type eq "has-component"].target pr true`, `related[type eq <has-component>].target pr <true>`)
	f(`related[type eq has-component].target re Observation/4`, `related[type eq <has-component>].target re <Observation/4>`)
	// From left to right, without precedence.
	f(`a eq 1 or b eq 2 and c eq 3`, `((a eq <1> or b eq <2>) and c eq <3>)`)
	f(`a eq 1 and b eq 2 or c eq 3`, `((a eq <1> and b eq <2>) or c eq <3>)`)
	f(`a eq 1 and b eq 2 and c eq 3`, `(a eq <1> and b eq <2> and c eq <3>)`)
	f(`a eq 1 and (b eq 2 or c eq 3)`, `(a eq <1> and (b eq <2> or c eq <3>))`)
	f(`((a eq 1))`, `a eq <1>`)
	f(`not (a eq 1)`, `not (a eq <1>)`)
	f(`not(a eq 1)and not(b eq 2 or not (c eq 3))`, `(not (a eq <1>) and not ((b eq <2> or not (c eq <3>))))`)
	f("  a\teq\n 1  ", `a eq <1>`)
	f("a eq 1", `a eq <1>`)
	f(`subject:Patient[_id eq x and active eq true].organization[name sw "a"].name ew b`, `subject:Patient[(_id eq <x> and active eq <true>)].organization[name sw <a>].name ew <b>`)
	f(`_has:Observation:patient:code eq x`, `_has:Observation:patient:code eq <x>`)
	f(`a eq "x) ] and b"`, `a eq <x) ] and b>`)
	f(`notes eq and`, `notes eq <and>`)
	f(`a eq -5 and b eq +1.5e3`, `(a eq <-5> and b eq <+1.5e3>)`)
}

func TestStringsOfFiltersAreThoseOfJSON(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if c, err := parseClause("a eq " + text); err != nil || c.value != want {
			t.Errorf("%s is %q, error %v, want %q", text, c.value, err, want)
		}
	}
	f(`""`, "")
	f(`"a\"b\\c\/d\u00e9\ud83d\ude00\n"`, "a\"b\\c/dé😀\n")
	f(`"Müller"`, "Müller")
	f(`a\,b|c$d`, `a\,b|c$d`)
	f(`x"y`, `x"y`)
}

func TestFiltersThatAreNotWellFormed(t *testing.T) {
	f := func(text string, at string, want string) {
		t.Helper()
		_, err := parseClause(text)
		var refused *Error
		if !errors.As(err, &refused) || !strings.Contains(refused.Text, "at character "+at+": ") || !strings.Contains(refused.Text, want) {
			t.Errorf("%q: %v, want %q at %s", text, err, want, at)
		}
	}
	f("", "1", "name of a search parameter is expected, not the end")
	f("a", "2", "an operator is expected, one of eq, ne, co")
	f("a is b", "3", "an operator")
	f("a EQ b", "3", "an operator")
	f("a eq", "5", "a blank and a value")
	f("a eq ", "6", "a value is expected, not the end")
	f("(a eq )", "7", "a value is expected, not ')'")
	f(`a eq"x"`, "5", "a blank and a value is expected, not '\"'")
	f("(a eq b", "8", "'and', 'or' or ')' is expected, not the end")
	f("a eq b)", "7", "'and', 'or' or the end is expected, not ')'")
	f("a eq b c eq d", "8", "'and', 'or' or the end is expected, not 'c'")
	f("a eq b and", "11", "the name of a search parameter")
	f("and eq b", "1", "the name of a search parameter is expected, not 'a'")
	f("not a eq b", "5", "'(' behind 'not' is expected, not 'a'")
	f("é eq b", "1", "not 'é'")
	f(`a eq "é" and b`, "15", "an operator")
	f(`a eq "x`, "6", "not closed")
	f(`a eq "x\`, "6", "not closed")
	f(`a eq "x\q"`, "6", "not one of JSON")
	f(`a eq "x\ud800"`, "6", "not one of JSON")
	f("a[b eq c] eq d", "10", "'.' and a parameter behind ']'")
	f("a[b eq c.d eq e", "12", "'and', 'or' or ']'")
	f("a..b eq c", "3", "the name")
	f("a. eq c", "3", "the name")
	f("1a eq c", "1", "the name")
	if _, err := parseClause(strings.Repeat("(", clauseDepthMax) + "a eq b"); err == nil || !strings.Contains(err.Error(), "nested more than") {
		t.Errorf("deep: %v", err)
	}
	if _, err := parseClause("a eq " + strings.Repeat("x", clauseBytesMax)); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("long: %v", err)
	}
}

// A _filter and an ordinary search that say the same walk over the same terms.
func TestFiltersAreOrdinarySearches(t *testing.T) {
	f := func(typ, text, ordinary string) {
		t.Helper()
		a, err := read(typ, "_filter="+text, testOptions())
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		b, err := read(typ, ordinary, testOptions())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := shape(a.where), shape(b.where); got != want {
			t.Errorf("%s asks %s, %s asks %s", text, got, ordinary, want)
		}
	}
	f("Patient", `name sw "eve"`, "name=eve")
	f("Patient", `name co "eve"`, "name:contains=eve")
	f("Patient", `name sw "a,b|c\\d"`, `name=a\,b|c\\d`)
	f("Patient", `birthdate ge 2014-10-10`, "birthdate=ge2014-10-10")
	f("Patient", `birthdate eq "2014"`, "birthdate=2014")
	f("Patient", `birthdate ap 2014`, "birthdate=ap2014")
	f("Patient", `_lastUpdated gt 2014`, "_lastUpdated=gt2014")
	f("Patient", `gender eq male and active eq true`, "gender=male&active=true")
	f("Patient", `gender eq male or gender eq female`, "gender=male,female")
	f("Patient", `not (gender eq male)`, "gender:not=male")
	f("Patient", `gender pr false`, "gender:missing=true")
	f("Patient", `gender pr true`, "gender:missing=false")
	f("Patient", `_id eq a`, "_id=a")
	f("Patient", `_id ne a`, "_id:not=a")
	f("Patient", `organization re Organization/1`, "organization=Organization/1")
	f("Patient", `organization re 1`, "organization=1")
	f("Patient", `organization.name sw x`, "organization.name=x")
	f("Patient", `_has:Observation:patient:code eq x|y`, "_has:Observation:patient:code=x|y")
	f("Patient", `_has:Observation:patient:encounter.status eq done`, "_has:Observation:patient:encounter.status=done")
	f("Patient", `_list eq 5`, "_list=5")
	f("Observation", `code eq loinc|1-8`, "code=http://loinc.org|1-8")
	f("Observation", `code in http://x/ValueSet/a`, "code:in=http://x/ValueSet/a")
	f("Observation", `code ni "http://x/ValueSet/a"`, "code:not-in=http://x/ValueSet/a")
	f("Observation", `code ss snomed|5`, "code:below=http://snomed.info/sct|5")
	f("Observation", `code sb snomed|5`, "code:above=http://snomed.info/sct|5")
	f("Observation", `value-quantity gt 5.4|ucum|mg`, "value-quantity=gt5.4|http://unitsofmeasure.org|mg")
	f("Observation", `value-quantity lt -5`, "value-quantity=lt-5")
	f("Observation", `subject:Patient.name sw pet`, "subject:Patient.name=pet")
	f("Observation", `patient.organization.name sw x`, "patient.organization.name=x")
	f("Observation", `code-value-quantity eq a|b$gt5`, "code-value-quantity=a|b$gt5")
	f("Observation", `based-on re "CarePlan/1"`, "based-on=CarePlan/1")
	f("ValueSet", `url eq http://x and url sw http`, "url=http://x&url:below=http")
	f("Location", `near eq 1|2|3`, "near=1|2|3|km")
	f("DocumentReference", `relatesTo[code eq replaces].target re DocumentReference/1`, "relationship=replaces$DocumentReference/1")
	f("Group", `characteristic[code eq a|b or code eq c].value eq d`, "characteristic-value=a|b$d,c$d")
	f("Group", `characteristic eq c`, "characteristic=c")
	f("", `_tag eq x`, "_tag=x")
}

// shape is a filter with its walks' bounds, without names.
func shape(f *filter) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d%v", f.op, f.codes)
	for _, w := range f.walks {
		b.WriteString(walkShape(w))
	}
	for _, k := range f.keys {
		b.WriteString(" " + k.typ.String() + "/" + k.id)
	}
	for _, arg := range f.args {
		b.WriteString("(" + shape(arg) + ")")
	}
	for _, t := range f.targets {
		b.WriteString("[" + t.typ.String() + " " + shape(t.where) + "]")
	}
	return b.String()
}

func walkShape(w index.Walk) string {
	text := " " + strings.Join([]string{string(rune(w.Param)), string(w.From), string(w.To)}, "~")
	if w.Look != nil {
		text += "?"
	}
	return text
}

func TestFiltersThatAreRefused(t *testing.T) {
	f := func(typ, text, want string) {
		t.Helper()
		_, err := read(typ, "_filter="+text, testOptions())
		var refused *Error
		if !errors.As(err, &refused) || !strings.Contains(refused.Text, want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		lenient := testOptions()
		lenient.Lenient = true
		if _, err := read(typ, "_filter="+text, lenient); err == nil {
			t.Errorf("%s is ignored by a lenient search", text)
		}
	}
	f("Patient", "nonsense eq 1", "In _filter, at character 1: The search parameter 'nonsense' is not supported for resource type 'Patient'")
	f("Patient", "gender eq male and (nonsense eq 1)", "at character 21: ")
	f("Patient", "gender sw m", "'gender' of type token has no operator sw, only eq, ne")
	f("Patient", "birthdate co yesterday", "'yesterday' of the parameter 'birthdate' is not a date")
	f("Patient", "birthdate eq ge2014", "is not a date")
	f("Patient", "birthdate sw 2014", "has no operator sw")
	f("Patient", "organization eq Organization/1", "has no operator eq, only re, pr")
	f("Patient", "name ap x", "has no operator ap")
	f("Patient", `name eq ""`, "empty value")
	f("Patient", "name pr maybe", "'maybe' of the operator pr is not true or false")
	f("Patient", "name:exact eq x", "no modifiers")
	f("Patient", "name.x eq x", "is no reference")
	f("Patient", "name[gender eq x].x eq x", "is no reference")
	f("Patient", "organization:Patient.name eq x", "does not refer to")
	f("Patient", "_text eq x", "no index of the words")
	f("Patient", "_list pr true", "only compared with the operator eq")
	f("Patient", "_filter.x eq x", "only compared with the operator eq")
	f("Patient", "_has:Observation:patient eq x", "_has:Type:reference:parameter")
	f("Patient", "organization.organization eq x", "'organization' is not supported for resource type 'Organization'")
	f("Patient", "organization"+strings.Repeat(".partof", 9)+" re x", "more than 8 links")
	f("Observation", "value-quantity gt x", "'gtx' of the parameter 'value-quantity'")
	f("Group", "characteristic.value eq x", "stands in front of a filter")
	f("Group", "characteristic[code eq x].y eq x", "nothing of the name 'y'")
	f("Group", "characteristic[code eq x and code eq y].value eq x", "several with 'or'")
	f("Group", "characteristic[value eq x].value eq x", "itself")
	f("Group", "characteristic[code ne x].value eq x", "only eq")
	f("Location", "near eq 1", "latitude|longitude|distance|unit")
	f("", "gender eq male", "not supported for all resource types")
	f("Patient", "gender eq male"+strings.Repeat(" or gender eq male", 500), "more than 500 conditions")
}

// Of several types each is asked by itself, whatever "not" stands where.
func TestFiltersOfSeveralTypes(t *testing.T) {
	s, err := Parse(nil, []Parameter{{"_type", "Patient,Practitioner"}, {"_filter", "gender eq male or not (_tag eq x)"}}, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.where; got.op != opOr || len(got.args) != 2 || got.args[0].op != opAnd || got.args[1].op != opAnd {
		t.Errorf("read as %s", shape(got))
	}
}

func TestContainedParameters(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		s, err := read("Patient", text, testOptions())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err == nil && s.Contained() != (strings.Contains(text, "=true") || strings.Contains(text, "=both")) {
			t.Errorf("%s: contained resources are searched: %t", text, s.Contained())
		}
	}
	f("_contained=false", "")
	f("_contained=false&_containedType=container&_sort=name&_lastUpdated=gt2020", "")
	f("_containedType=contained&_list=x", "")
	f("_contained=both&_containedType=contained", "")
	f("_contained=true&name=x&organization._lastUpdated=gt2020&organization._has:Patient:organization:name=x", "")
	f("_contained=true&_filter=name eq x", "")
	f("_contained=container", "none of false, true and both")
	f("_containedType=false", "none of container and contained")
	f("_contained=true&_contained=true", "more than once")
	f("_sort=name&_contained=true", "order of the store")
	f("_lastUpdated=gt2020&_contained=both", "have none of their own")
	f("_lastUpdated:missing=true&_contained=both", "have none of their own")
	f("_list=x&_contained=true", "only what contains a resource refers to it")
	f("_has:Observation:patient:code=x&_contained=true", "only what contains a resource refers to it")
	f("_filter=_lastUpdated gt 2020&_contained=true", "have none of their own")
	f("_filter=_has:Observation:patient:code eq x&_contained=true", "only what contains a resource refers to it")
}

// Whatever a client writes, it gets a clause or a reason, and what is no clause is none
// for any type.
func FuzzClause(f *testing.F) {
	for _, seed := range []string{
		`given eq "peter" and birthdate ge 2014-10-10`, `subject[not (active eq false)].name co "p\u00e9t"`, `related[type eq has-component].target re Observation/4`,
		`((a eq 1 or b ne 2) and not(c sw 3))`, `_has:Observation:patient:code eq loinc|1-8`, `characteristic[code eq a].value eq b`, `a eq "`, `a[b eq`, `near eq 1|2|3`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, err := parseClause(text)
		var refused *Error
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("%q is refused with %T: %v", text, err, err)
		}
		for _, typ := range []string{"Observation", "Group", "Location", ""} {
			_, read := read(typ, "_filter="+text, testOptions())
			if err != nil && read == nil && text != "" && !strings.Contains(text, "&") {
				t.Fatalf("%q is not well-formed, and is read", text)
			}
			if read != nil && !errors.As(read, &refused) {
				t.Fatalf("%q is refused with %T: %v", text, read, read)
			}
		}
	})
}
