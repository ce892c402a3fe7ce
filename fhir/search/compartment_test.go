package search

import (
	"fmt"
	"strings"
	"testing"

	"kiln/fhir"
)

// The embedded table is what the definitions say, and all of it can be used.
func TestCompartmentsAreTheDefinitions(t *testing.T) {
	var defined strings.Builder
	for _, name := range []string{"Patient", "Encounter", "Practitioner", "Device", "RelatedPerson"} {
		for _, r := range definitions(t, strings.ToLower(name)+"-compartment-r4.tsv") {
			if len(r) > 1 && r[1] != "" {
				fmt.Fprintf(&defined, "%s\t%s\t%s\n", name, r[0], strings.ReplaceAll(r[1], "{def}", ""))
			}
		}
	}
	lines := func(text string) map[string]bool {
		all := map[string]bool{}
		for line := range strings.Lines(text) {
			all[line] = true
		}
		return all
	}
	got, want := lines(compartmentsTable), lines(defined.String())
	for line := range want {
		if !got[line] {
			t.Errorf("compartments.tsv has no row %q", line)
		}
	}
	if len(got) != len(want) {
		t.Errorf("compartments.tsv has %d rows, the definitions %d", len(got), len(want))
	}
}

func TestCompartmentOfAPatient(t *testing.T) {
	members, err := Compartment(fhir.TypeByName([]byte("Patient")))
	if err != nil || len(members) != 66 {
		t.Errorf("%d members, error %v", len(members), err)
	}
	for _, m := range members {
		if m.Type.String() == "Observation" && (len(m.Params) != 2 || m.Params[0].Code != "subject") {
			t.Errorf("Observations belong to a patient by %v", m.Params)
		}
	}
	if none, err := Compartment(fhir.TypeByName([]byte("Observation"))); err != nil || len(none) > 0 {
		t.Errorf("Observation has a compartment: %v, %v", none, err)
	}
}
