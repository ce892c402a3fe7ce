package fhir

import (
	"os"
	"strings"
	"testing"

	"kiln/internal/shareddata"
)

func TestTypesAreTheListOfR4(t *testing.T) {
	text, err := os.ReadFile(shareddata.Path(t, "definitions", "resource-types-r4.txt"))
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(text))
	if len(names) != int(TypeMax) {
		t.Fatalf("the list has %d types, want %d", len(names), TypeMax)
	}
	for i, name := range names {
		code := TypeCode(i + 1)
		if TypeByName([]byte(name)) != code || code.String() != name {
			t.Errorf("type %d is %q, want %q", code, code, name)
		}
	}
}

func TestTypeByNameKnowsOnlyExactNames(t *testing.T) {
	for code := TypeCode(1); code <= TypeMax; code++ {
		name := code.String()
		if got := TypeByName([]byte(name)); got != code {
			t.Errorf("TypeByName(%q) = %d, want %d", name, got, code)
		}
		for _, other := range []string{name + "s", name[1:], strings.ToLower(name), name[:len(name)-1] + "\x00"} {
			if got := TypeByName([]byte(other)); got != 0 && got.String() != other {
				t.Errorf("TypeByName(%q) = %d, want 0", other, got)
			}
		}
	}
	if TypeByName(nil) != 0 || TypeCode(0).String() != "" || (TypeMax+1).String() != "" {
		t.Error("something that is no type has a code or a name")
	}
}
