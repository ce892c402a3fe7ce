package search

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"kiln/fhir"
)

// added compiles a definition; new fields get numbers from FieldCustomMin on.
func added(t *Table, d *Definition) ([]*Param, error) {
	n := uint16(FieldCustomMin)
	return t.Compile(d, func(f *Field) *Field {
		f.Number = n
		n++
		return f
	})
}

func race() Definition {
	return Definition{
		URL: "http://example.org/SearchParameter/race", Code: "race", Kind: Token, Bases: []string{"Patient"},
		Expression: "Patient.extension.where(url = 'http://example.org/race').extension.value.code",
	}
}

func TestAddedParametersAreFoundByCode(t *testing.T) {
	table := loadTable(t)
	d := race()
	params, err := added(table, &d)
	if err != nil {
		t.Fatal(err)
	}
	more, err := table.With(params)
	if err != nil {
		t.Fatal(err)
	}
	patient := fhir.TypeByName([]byte("Patient"))
	if p := more.Param(patient, "race"); p == nil || p.FieldMax() != FieldCustomMin || p.Sources[0].Field.Elements[0].Type != "code" {
		t.Errorf("found %+v", p)
	}
	if p := more.Param(patient, "gender"); p != table.Param(patient, "gender") {
		t.Error("the parameters of R4 are not the same any more")
	}
	if table.Param(patient, "race") != nil || len(more.Params()) != len(table.Params())+1 {
		t.Error("the table of R4 has changed, or one parameter is not there")
	}
	if _, err := more.Compile(&d, func(f *Field) *Field { return f }); err == nil || !strings.Contains(err.Error(), "'race'") {
		t.Errorf("a code is taken twice: %v", err)
	}
	if _, err := more.With(params); err == nil {
		t.Error("a parameter is added twice")
	}
}

// One of every type is found for each, and stands in the way of others.
func TestAddedParametersOfEveryType(t *testing.T) {
	table := loadTable(t)
	d := race()
	d.Bases, d.Expression = []string{"DomainResource"}, "DomainResource.extension('e').value"
	params, err := added(table, &d)
	if err != nil {
		t.Fatal(err)
	}
	more, err := table.With(params)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Patient", "Observation"} {
		if more.Param(fhir.TypeByName([]byte(name)), "race") != params[0] {
			t.Errorf("%s does not have it", name)
		}
	}
	own := race()
	if _, err := added(more, &own); err == nil {
		t.Error("a type has the code of every type")
	}
	if params, err = added(table, &own); err != nil {
		t.Fatal(err)
	}
	if more, err = table.With(params); err != nil {
		t.Fatal(err)
	}
	if _, err := added(more, &d); err == nil {
		t.Error("every type has the code of one")
	}
}

// A path that R4 reads already needs no new field.
func TestAddedParametersUseTheFieldsOfR4(t *testing.T) {
	table := loadTable(t)
	d := Definition{URL: "u", Code: "surname", Kind: String, Bases: []string{"Patient", "Practitioner"}, Expression: "Patient.name.family | Practitioner.name.family"}
	params, err := added(table, &d)
	if err != nil || len(params) != 2 {
		t.Fatalf("%d parameters, error %v", len(params), err)
	}
	if f := params[0].Sources[0].Field; f != table.Param(params[0].Type, "family").Sources[0].Field {
		t.Errorf("another field, %+v", f)
	}
}

func TestBadDefinitionsAreRefused(t *testing.T) {
	table := loadTable(t)
	f := func(text string, change func(*Definition)) {
		t.Helper()
		d := race()
		change(&d)
		if _, err := added(table, &d); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("the refusal of %+v is %v, want one with %q", d, err, text)
		}
	}
	f("letters, digits", func(d *Definition) { d.Code = "" })
	f("letters, digits", func(d *Definition) { d.Code = "a.b" })
	f("letters, digits", func(d *Definition) { d.Code = "_race" })
	f("letters, digits", func(d *Definition) { d.Code = "a:b" })
	f("letters, digits", func(d *Definition) { d.Code = strings.Repeat("a", 65) })
	f("is the one of http://hl7.org/fhir/SearchParameter/", func(d *Definition) { d.Code = "gender" })
	f("is the one of", func(d *Definition) {
		d.Code, d.Bases, d.Expression = "gender", []string{"Resource"}, "Resource.meta.tag"
	})
	f("not supported", func(d *Definition) { d.Kind = Special })
	f("no base", func(d *Definition) { d.Bases = nil })
	f("no resource type", func(d *Definition) { d.Bases = []string{"Person", "Human"} })
	f("given twice", func(d *Definition) { d.Bases = []string{"Patient", "Patient"} })
	f("no expression", func(d *Definition) { d.Expression = "" })
	f("at character 19", func(d *Definition) { d.Expression = "Patient.extension(x)" })
	f("not among the bases", func(d *Definition) { d.Expression = "Person.name | Patient.name" })
	f("nothing in it is for the base Person", func(d *Definition) { d.Bases = append(d.Bases, "Person") })
	f("Patient has no element race", func(d *Definition) { d.Expression = "Patient.race" })
	f("cannot be read from HumanName", func(d *Definition) { d.Expression = "Patient.name" })
	f("has components", func(d *Definition) { d.Components = make([]ComponentDefinition, 1) })
	f("has components", func(d *Definition) { d.Kind = Composite })
	f("component 1 is defined by 'x'", func(d *Definition) {
		d.Kind, d.Components = Composite, []ComponentDefinition{{"x", "a"}, {"x", "b"}}
	})
	gender := URLPrefix + "individual-gender"
	f("two components", func(d *Definition) {
		d.Kind, d.Expression, d.Components = Composite, "Patient.contact", []ComponentDefinition{{gender, "gender"}}
	})
	f("has a condition", func(d *Definition) {
		d.Kind, d.Components = Composite, []ComponentDefinition{{gender, "value"}, {gender, "url"}}
		d.Expression = "Patient.extension('a')"
	})
	f("over 16384 bytes", func(d *Definition) { d.Expression = strings.Repeat("a", ExpressionBytesMax+1) })
	f("more than 256 alternatives", func(d *Definition) { d.Expression = strings.Repeat("Patient.name|", 256) + "Patient.name" })
}

const definitionGolden = "01046700310050617469656e742e657874656e73696f6e2e77686572652875726c3d276527292e76616c75652e617328436f64696e6729000001001d0050617469656e742e657874656e73696f6e2e76616c7565436f64696e670600436f64696e670000000100110050617469656e742e657874656e73696f6e030075726c0100650000"

// The bytes of a definition are in logs and checkpoints.
func TestDefinitionBytes(t *testing.T) {
	table := loadTable(t)
	d := race()
	d.Expression = "Patient.extension('e').value as Coding"
	params, err := added(table, &d)
	if err != nil {
		t.Fatal(err)
	}
	f := params[0].Sources[0].Field
	got, ok := f.AppendDefinition(nil)
	if !ok || hex.EncodeToString(got) != definitionGolden {
		t.Errorf("the definition is %x, ok %v", got, ok)
	}
	for _, f := range append(table.Fields(), f) {
		bytes, ok := f.AppendDefinition(nil)
		back, err := ParseDefinition(f.Number, bytes)
		if !ok || err != nil || !reflect.DeepEqual(back, f) {
			t.Fatalf("%+v comes back as %+v, error %v", f, back, err)
		}
	}
	for n := range got {
		if _, err := ParseDefinition(1, got[:n]); err == nil {
			t.Errorf("%d bytes of %d are a definition", n, len(got))
		}
	}
	if _, err := ParseDefinition(1, append(got, 0)); err == nil {
		t.Error("a definition with a byte behind it is read")
	}
}

func FuzzExpression(f *testing.F) {
	f.Add("Patient.extension.where(url = 'a').value as Coding | (Patient.name | %resource.id)[0].as(X)")
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Load()
		if err != nil {
			t.Fatal(err)
		}
		d := race()
		d.Expression = text
		params, err := added(table, &d)
		if err == nil && params[0].FieldMax() == 0 {
			t.Errorf("%q is compiled to nothing", text)
		}
	})
}

func FuzzDefinition(f *testing.F) {
	f.Add([]byte{1, 4, 0, 0})
	f.Fuzz(func(t *testing.T, src []byte) {
		field, err := ParseDefinition(40000, src)
		if err != nil {
			return
		}
		if back, _ := field.AppendDefinition(nil); string(back) != string(src) {
			t.Errorf("%x comes back as %x", src, back)
		}
	})
}
