package search

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/fhir"
)

func loadTable(t *testing.T) *Table {
	t.Helper()
	table, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// The numbers of fields are in runs: those of the first release never change.
func TestFieldNumbersNeverChange(t *testing.T) {
	const first, sum = 1674, "f68bcf9f9e011ab1c1c24565e49c7ea6877927ea40178d8dcfe81258a96cc7c3"
	rows := strings.SplitAfter(fieldsTable, "\n")
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(rows[:first], "")))); got != sum {
		t.Errorf("the first %d rows of fields.tsv have changed (sha256 %s): rows may only be added behind them", first, got)
	}
	table := loadTable(t)
	if n := len(table.Fields()); n != len(rows)-1 {
		t.Errorf("%d fields are in use, %d have a number", n, len(rows)-1)
	}
	if table.Fields()[3].Name != "Resource.meta.tag" || table.Fields()[3].Number != 19 {
		t.Errorf("field 19 is %+v", table.Fields()[3])
	}
}

func TestEveryParameterHasAnAnswer(t *testing.T) {
	table := loadTable(t)
	if n := len(table.Params()); n != 1706 {
		t.Errorf("there are %d parameters, not 1,706", n)
	}
	var without []string
	for _, p := range table.Params() {
		if p.Virtual != Stored {
			without = append(without, p.Code)
		}
		ways := 0
		for _, way := range []bool{len(p.Sources) > 0, len(p.Pairings) > 0, p.Virtual != Stored} {
			if way {
				ways++
			}
		}
		if ways != 1 || (p.Kind == Composite) != (len(p.Pairings) > 0) {
			t.Errorf("%s of %s has %d ways to be answered: %+v", p.Code, p.Type, ways, p)
		}
		if table.Param(p.Type, p.Code) != p {
			t.Errorf("%s of %s is not found by its code", p.Code, p.Type)
		}
	}
	slices.Sort(without)
	if want := []string{"_content", "_id", "_lastUpdated", "_query", "_text"}; !slices.Equal(without, want) {
		t.Errorf("parameters without fields: %q, want %q", without, want)
	}
}

// describe writes what answers a parameter.
func describe(p *Param) string {
	var b strings.Builder
	writeSources(&b, p.Sources)
	for _, pairing := range p.Pairings {
		b.WriteString("pair")
		for i, whole := range pairing.Whole {
			if len(whole) > 0 {
				fmt.Fprintf(&b, " %d=", i)
				writeSources(&b, whole)
			}
		}
		if pairing.Group != nil {
			fmt.Fprintf(&b, " group %s at %s", pairing.Group.Name, pairing.Group.Group)
			for _, part := range pairing.Group.Parts {
				fmt.Fprintf(&b, " %s%s", part.Kind, elementsText(part.Elements))
			}
		}
		b.WriteString(" ")
	}
	return strings.TrimSpace(b.String())
}

func elementsText(elements []Element) string {
	return strings.ReplaceAll(fmt.Sprint(elements), " []}", "}")
}

func writeSources(b *strings.Builder, sources []Source) {
	for _, s := range sources {
		b.WriteString(elementsText(s.Field.Elements))
		if s.Only != 0 {
			fmt.Fprintf(b, " only %s", s.Only)
		}
		if s.System != "" {
			fmt.Fprintf(b, " only %s", s.System)
		}
		b.WriteString(" ")
	}
}

func TestParametersCompileToElements(t *testing.T) {
	table := loadTable(t)
	f := func(typ, code, want string) {
		t.Helper()
		p := table.Param(fhir.TypeByName([]byte(typ)), code)
		if p == nil {
			t.Errorf("there is no parameter %s of %s", code, typ)
		} else if got := describe(p); got != want {
			t.Errorf("%s of %s is\n%s, want\n%s", code, typ, got, want)
		}
	}
	f("Patient", "_tag", "[{*.meta.tag Coding false }]")
	f("Patient", "gender", "[{Patient.gender code false }]")
	f("Patient", "phone", "[{Patient.telecom ContactPoint false }] only phone")
	f("Patient", "deceased", "[{Patient.deceasedBoolean deceased false } {Patient.deceasedDateTime deceased false }]")
	f("Patient", "death-date", "[{Patient.deceasedDateTime dateTime false }]")
	f("Observation", "patient", "[{Observation.subject Reference false }] only Patient")
	f("Observation", "date", "[{Observation.effectiveDateTime dateTime false } {Observation.effectivePeriod Period false } {Observation.effectiveTiming Timing false } {Observation.effectiveInstant instant false }]")
	f("Observation", "combo-code", "[{Observation.code CodeableConcept false }] [{Observation.component.code CodeableConcept false }]")
	f("Observation", "value-string", "[{Observation.valueString string false }] [{Observation.valueCodeableConcept.text string false }]")
	f("Observation", "combo-code-value-quantity", "pair 0=[{Observation.code CodeableConcept false }]  1=[{Observation.valueQuantity Quantity false }]  "+
		"pair group Observation.component(code;value.as(Quantity)) at Observation.component token[{Observation.component.code CodeableConcept false }] quantity[{Observation.component.valueQuantity Quantity false }]")
	f("MolecularSequence", "chromosome-variant-coordinate", "pair 0=[{MolecularSequence.referenceSeq.chromosome CodeableConcept false }]  "+
		"group MolecularSequence.variant(start;end) at MolecularSequence.variant number[{MolecularSequence.variant.start integer false }] number[{MolecularSequence.variant.end integer false }]")
	f("DocumentReference", "relationship", "pair group DocumentReference.relatesTo(code;target) at DocumentReference.relatesTo "+
		"token[{DocumentReference.relatesTo.code code false }] reference[{DocumentReference.relatesTo.target Reference false }]")
	f("Library", "successor", "[{Library.relatedArtifact.resource canonical false successor}]")
	f("Bundle", "composition", "[{Bundle.entry.resource Resource true }]")
	f("InsurancePlan", "name", "[{InsurancePlan.name string false }] [{InsurancePlan.alias string false }]")
	f("Location", "near", "[{Location.position Location.position false }]")
	if p := table.Param(1, "nothing"); p != nil {
		t.Errorf("found %+v", p)
	}
}

// What is not understood is an error, never a parameter that finds nothing.
func TestUnknownExpressionsAreRefused(t *testing.T) {
	f := func(kind, expression, components string) {
		t.Helper()
		row := strings.Join([]string{"Patient", "x", kind, expression, "", components, "x"}, "\t") + "\n"
		if _, err := compileTable(row, func(Kind, string) uint16 { return 16 }); err == nil {
			t.Errorf("%s %q %q is compiled", kind, expression, components)
		}
	}
	f("token", "Patient.nothing", "")
	f("token", "Observation.code", "")
	f("token", "Patient", "")
	f("token", "Patient.name.first()", "")
	f("token", "Patient.deceased.exists()", "")
	f("token", "Patient.name.where(use='official').where(use='usual').family", "")
	f("token", "Patient.name.where(given='x').family", "")
	f("token", "Patient.name.where(period='x').family", "")
	f("token", "Patient.name.where(use=official).family", "")
	f("token", "Patient.name.where(use='').family", "")
	f("token", "Patient.extension.where(url='a' or url='b').value", "")
	f("token", "Patient.extension('a", "")
	f("token", "Patient.extension('a\\'b').value", "")
	f("token", "(Patient.gender", "")
	f("token", "Patient.gender)", "")
	f("token", "Patient.gender Patient.id", "")
	f("token", "Patient.gender |", "")
	f("token", "Patient.extension.value as Quantity", "")
	f("token", "Patient.extension.value as Coding as Coding", "")
	f("token", "Patient.Gender", "")
	f("token", "Patient.name[1].family", "")
	f("token", strings.Repeat("(", 100)+"Patient.gender"+strings.Repeat(")", 100), "")
	f("composite", "Patient.extension.where(url='a')", "a=value;b=value")
	f("composite", "Patient.contact", "a=extension('x').value;b=gender")
	f("token", "Patient.name.where(system='phone')", "")
	f("token", "Patient.telecom.where(resolve() is Patient)", "")
	f("date", "Patient.gender", "")
	f("date", "(Patient.deceased as Period)", "")
	f("composite", "Patient.nothing", "a=b")
	f("composite", "Patient.link", "other")
	f("composite", "Patient.link", "other=nothing")
	f("wrong", "Patient.gender", "")
}
