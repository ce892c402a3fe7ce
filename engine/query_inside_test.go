package engine

import (
	"context"
	"fmt"
	"testing"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
)

// treatedBy is a patient, one of a gender who has a practitioner: a contained one of
// that family, or, when family is empty, Practitioner/other.
func treatedBy(id, family string) Change {
	contained, reference := "", "Practitioner/other"
	if family != "" {
		contained = fmt.Sprintf(`"contained":[{"resourceType":"Practitioner","id":"p","name":[{"family":%q}]}],`, family)
		reference = "#p"
	}
	body := fmt.Appendf(nil, `{"resourceType":"Patient","id":"%s",%s"gender":"female","generalPractitioner":[{"reference":%q}]}`, id, contained, reference)
	at := uint32(len(`{"resourceType":"Patient","id":"`))
	return Change{Type: patient, ID: []byte(id), IDAt: at, Body: body, Splice: fhir.Splice{At: at + uint32(len(id)) + 1}}
}

// What a resource contains itself is found beside other conditions too, whatever
// columns there are.
func TestChainsInsideBesideOtherConditions(t *testing.T) {
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	for i := range 40 {
		mustCommit(t, s, treatedBy(fmt.Sprintf("in%d", i), "Needle"), treatedBy(fmt.Sprintf("hay%d", i), "Hay"), treatedBy(fmt.Sprintf("out%d", i), ""))
	}
	mustFlush(t, s)
	sources := table.Param(patient, "general-practitioner").Sources
	practitioner := fhir.TypeByName([]byte("Practitioner"))
	families, err := index.StringWalks(table.Param(practitioner, "family").Sources, []byte("needle"))
	if err != nil {
		t.Fatal(err)
	}
	outside := index.AppendReference(nil, []byte("Practitioner/other"))
	other := []index.Walk{{Param: index.Param(sources[0].Field.Number), From: outside, To: append(outside, 0)}}
	chain := func(walks []index.Walk) *Expr {
		return &Expr{Op: Terms, Walks: walks, Inside: []Inside{{
			Type: practitioner, Walks: index.FragmentWalks(sources, practitioner), Where: &Expr{Op: Terms, Walks: families},
		}}}
	}
	genders, err := index.TokenWalks(table.Param(patient, "gender").Sources, index.Token{Code: []byte("female")})
	if err != nil {
		t.Fatal(err)
	}
	gender := &Expr{Op: Terms, Walks: genders}
	n := mustSnapshot(t, s)
	defer n.Release()
	for _, rule := range []columnRule{columnsByCost, columnsLookUp, columnsPostings} {
		s.columns = rule
		for turn := range 3 { // columns are made on the way
			for name, c := range map[string]struct {
				where *Expr
				want  uint64
			}{
				"inside":                {&Expr{Op: And, Args: []*Expr{gender, chain(nil)}}, 40},
				"inside or outside":     {&Expr{Op: And, Args: []*Expr{gender, chain(other)}}, 80},
				"twice":                 {&Expr{Op: And, Args: []*Expr{chain(other), chain(other)}}, 80},
				"twice, and a gender":   {&Expr{Op: And, Args: []*Expr{chain(other), gender, chain(nil)}}, 40},
				"outside alone":         {&Expr{Op: And, Args: []*Expr{gender, {Op: Terms, Walks: other}}}, 40},
				"neither of one system": {&Expr{Op: And, Args: []*Expr{gender, {Op: Not, Args: []*Expr{chain(other)}}}}, 40},
			} {
				found, err := n.Count(context.Background(), &Query{Types: []fhir.TypeCode{patient}, Where: c.where})
				if err != nil || found != c.want {
					t.Errorf("columns by rule %d, turn %d, %s: %d, want %d, %v", rule, turn, name, found, c.want, err)
				}
			}
		}
	}
	mustClose(t, s)
}
