package structure

import (
	"testing"

	"kiln/fhir"
	"kiln/internal/shareddata"
)

// BenchmarkCheck reads real resources, one after another.
func BenchmarkCheck(b *testing.B) {
	lines := shareddata.Lines(b, "data", "public")
	total := 0
	for _, line := range lines {
		total += len(line)
	}
	c := NewChecker()
	b.SetBytes(int64(total))
	b.ReportAllocs()
	for b.Loop() {
		for _, line := range lines {
			if issues := c.Check(line); len(issues) > 0 {
				b.Fatal(issues)
			}
		}
	}
}

// BenchmarkScan is what the scanner alone takes for the same lines.
func BenchmarkScan(b *testing.B) {
	lines := shareddata.Lines(b, "data", "public")
	total := 0
	for _, line := range lines {
		total += len(line)
	}
	s := fhir.NewScanner(fhir.ScannerOptions{})
	b.SetBytes(int64(total))
	for b.Loop() {
		for _, line := range lines {
			if _, err := s.Scan(line, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
}
