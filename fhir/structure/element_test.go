package structure

import (
	"slices"
	"testing"
)

func TestElementsAreFound(t *testing.T) {
	f := func(parent, key, name string, want Element) {
		t.Helper()
		gotName, got, ok := ByKey(parent, key)
		if !ok || gotName != name || got.List != want.List || got.Mandatory != want.Mandatory || got.Summary != want.Summary ||
			got.Modifier != want.Modifier || got.Choice != want.Choice || !slices.Equal(got.Types, want.Types) {
			t.Errorf("%s of %s: got %q %+v %v", key, parent, gotName, got, ok)
		}
	}
	f("Patient", "active", "active", Element{Summary: true, Modifier: true, Types: []string{"boolean"}})
	f("Patient", "modifierExtension", "modifierExtension", Element{List: true, Modifier: true, Types: []string{"Extension"}})
	f("Patient.contact", "modifierExtension", "modifierExtension", Element{List: true, Summary: true, Modifier: true, Types: []string{"Extension"}})
	f("date", "extension", "extension", Element{List: true, Types: []string{"Extension"}})
	f("Patient", "name", "name", Element{List: true, Summary: true, Types: []string{"HumanName"}})
	f("Patient", "meta", "meta", Element{Summary: true, Types: []string{"Meta"}})
	f("Patient", "contact", "contact", Element{List: true, Types: []string{"Patient.contact"}})
	f("Patient.contact", "name", "name", Element{Types: []string{"HumanName"}})
	f("Observation", "valueQuantity", "value", Element{Choice: true, Summary: true, Types: []string{"Quantity"}})
	f("Observation", "effectiveDateTime", "effective", Element{Choice: true, Summary: true, Types: []string{"dateTime"}})
	f("Observation", "status", "status", Element{Mandatory: true, Summary: true, Modifier: true, Types: []string{"code"}})
	f("Bundle.entry", "link", "link", Element{List: true, Summary: true, Types: []string{"Bundle.link"}})
	f("HumanName", "extension", "extension", Element{List: true, Types: []string{"Extension"}})
	for _, bad := range [][2]string{{"Patient", "nam"}, {"Observation", "value"}, {"Observation", "valueAddress"}, {"HumanName", "meta"}, {"Nothing", "id"}, {"Patient", "resourceType"}, {"HumanName", "modifierExtension"}} {
		if _, _, ok := ByKey(bad[0], bad[1]); ok {
			t.Errorf("%s has a member %s", bad[0], bad[1])
		}
	}
}

func TestElementsOfAChoiceAreOne(t *testing.T) {
	e, ok := Of("Patient", "deceased")
	if !ok || !e.Choice || !e.Modifier || !slices.Equal(e.Types, []string{"boolean", "dateTime"}) {
		t.Errorf("got %+v %v", e, ok)
	}
	for _, name := range []string{"deceasedBoolean", "resourceType", ""} {
		if _, ok := Of("Patient", name); ok {
			t.Errorf("Patient has an element %q", name)
		}
	}
}

// TestEveryTypeOfAnElementIsKnown: whoever walks a resource by these types gets
// on at every element that has members.
func TestEveryTypeOfAnElementIsKnown(t *testing.T) {
	for i := range members[1:] {
		m := &members[i+1]
		if m.kind == kindResourceType {
			continue
		}
		types := elements().members[i+1].Types
		if len(types) != 1 || types[0] == "" {
			t.Fatalf("%s has the types %q", m.key, types)
		}
		if _, known := elements().nodes[types[0]]; !known && m.kind != kindResource && m.kind != kindXHTML {
			t.Errorf("%s: the type %s is not known", m.key, types[0])
		}
	}
}
