package parquet

import (
	"os"
	"testing"

	"kiln/fhir"
)

// Readers rely on the columns: who changes them raises SchemaVersion.
func TestSchemaIsGolden(t *testing.T) {
	f := func(name string) {
		t.Helper()
		got := NewSchemas().of(fhir.TypeByName([]byte(name))).lib.String() + "\n"
		path := "testdata/" + name + ".schema"
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the columns of %s changed; UPDATE_GOLDEN=1 writes %s anew:\n%s", name, path, got)
		}
	}
	f("Patient")
	f("Observation")
}

// Every type has columns, and no type has so many that its files are mostly footer.
func TestEveryTypeHasColumns(t *testing.T) {
	schemas := NewSchemas()
	for c := fhir.TypeCode(1); c <= fhir.TypeMax; c++ {
		s := schemas.of(c)
		if leaves := len(s.lib.Columns()); leaves != s.root.leaves || leaves < 5 || leaves > 2000 {
			t.Errorf("%s has %d columns, numbered %d", c, leaves, s.root.leaves)
		}
		for i, path := range s.lib.Columns() {
			if leaf, ok := s.lib.Lookup(path...); !ok || leaf.ColumnIndex != i {
				t.Errorf("%s: column %v is not number %d", c, path, i)
			}
		}
	}
}
