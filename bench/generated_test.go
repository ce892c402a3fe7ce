package main

import (
	"testing"

	"kiln/bench/synth"
	"kiln/fhir"
	"kiln/fhir/structure"
)

// TestServerAcceptsGeneratedLines stands here because synth knows nothing of
// the server.
func TestServerAcceptsGeneratedLines(t *testing.T) {
	scanner, checker := fhir.NewScanner(fhir.ScannerOptions{}), structure.NewChecker()
	_, err := synth.Generate(synth.Options{Seed: 11, Patients: 30}, func(name string, line []byte) error {
		resource, err := scanner.Scan(line, nil)
		if err != nil {
			return err
		}
		if resource.Type == 0 || string(resource.TypeName) != name || !fhir.ValidID(resource.ID) || resource.ConditionalReference {
			t.Errorf("a %s scans as %s/%s (code %d)", name, resource.TypeName, resource.ID, resource.Type)
		}
		if &resource.Body[0] != &line[0] || len(resource.Body) != len(line) {
			t.Errorf("%s/%s is not minified", name, resource.ID)
		}
		if issues := checker.Check(line); structure.Refused(issues) {
			t.Errorf("%s/%s: %+v", name, resource.ID, issues)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
