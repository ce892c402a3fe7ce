package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/internal/shareddata"
)

func TestTableIsWhatTheElementsGive(t *testing.T) {
	target := filepath.Join(t.TempDir(), "table.go")
	if err := run(filepath.Join("..", "elements.tsv"), target); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("..", "table.go"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("table.go is not what elements.tsv gives: run go generate ./fhir/structure")
	}
}

func TestElementsAreThoseOfTheSpecification(t *testing.T) {
	want := shareddata.Read(t, shareddata.Path(t, "definitions", "elements-r4.tsv"))
	got, err := os.ReadFile(filepath.Join("..", "elements.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("elements.tsv differs from the shared element table")
	}
}

func TestElementsThatCannotBeHeldAreRefused(t *testing.T) {
	f := func(row, want string) {
		t.Helper()
		_, err := readNodes("header\n" + row + "\n")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q", row, err, want)
		}
	}
	f("resource\tPatient", "line 2 has 2 columns")
	f("resource\tPatient\tPatient.a\t2\t3\tstring\t\t\t\t", "the cardinality 2..3")
	f("resource\tPatient\tPatient.a\t0\t1\tstring|code\t\t\t\t", "is no choice and has 2 types")
	f("resource\tPatient\tPatient.a\t0\t1\t\t\t\t\t", "neither a type nor a reference")
	f("resource\tPatient\tPatient.a\t0\t1\tstring\t\t\t\t", "the table has 1 of the 146 resource types")
}
