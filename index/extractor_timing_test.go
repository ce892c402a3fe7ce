package index

import (
	"os"
	"testing"

	"kiln/fhir"
)

// BenchmarkExtract measures a scan with all search terms, which nobody keeps,
// next to BenchmarkScanOnly, which makes none.
func BenchmarkExtract(b *testing.B) {
	lines, bytes := benchLines(b)
	x := testExtraction(b).NewExtractor(nullSink{})
	b.SetBytes(bytes)
	b.ReportAllocs()
	used := cpuSeconds()
	for b.Loop() {
		for _, line := range lines {
			if _, err := x.Scan(line); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric((cpuSeconds()-used)/float64(b.N), "cpu-s/op")
}

func BenchmarkScanOnly(b *testing.B) {
	lines, bytes := benchLines(b)
	s := fhir.NewScanner(fhir.ScannerOptions{})
	b.SetBytes(bytes)
	used := cpuSeconds()
	for b.Loop() {
		for _, line := range lines {
			if _, err := s.Scan(line, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric((cpuSeconds()-used)/float64(b.N), "cpu-s/op")
}

func benchLines(b *testing.B) ([][]byte, int64) {
	b.Helper()
	set := os.Getenv("KILN_BENCH")
	if set == "" {
		set = "public-mini"
	}
	return corpusLines(b, set)
}
