package fhir

import (
	"bytes"
	"testing"

	"kiln/internal/shareddata"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sys/unix"
)

// countVisitor is the cheapest Visitor that looks at what it gets.
type countVisitor struct{ values, bytes int }

func (c *countVisitor) Value(_ PathID, _ Kind, text []byte) { c.values++; c.bytes += len(text) }
func (c *countVisitor) Begin(PathID)                        {}
func (c *countVisitor) End(PathID)                          {}

func referencePaths(t testing.TB) *Paths {
	t.Helper()
	p, err := NewPaths([]PathRule{{Path: "**.reference", ID: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// cpuSeconds is the processor time of this process, which says more than the
// clock on a machine that does other work.
func cpuSeconds(b *testing.B) float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func benchmarkScan(b *testing.B, lines [][]byte) {
	total := 0
	for _, line := range lines {
		total += len(line)
	}
	s := NewScanner(ScannerOptions{Paths: referencePaths(b)})
	visitor := &countVisitor{}
	b.SetBytes(int64(total))
	b.ReportAllocs()
	before := cpuSeconds(b)
	for b.Loop() {
		for _, line := range lines {
			if _, err := s.Scan(line, visitor); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(total)*float64(b.N)/1e6/(cpuSeconds(b)-before), "MB/cpu-s")
	b.ReportMetric(float64(len(lines))*float64(b.N)/b.Elapsed().Seconds(), "resources/s")
}

func BenchmarkScanPublicMini(b *testing.B) {
	benchmarkScan(b, shareddata.Lines(b, "data", "public-mini"))
}

// The two halves of the benchmark corpus that differ most in shape.
func BenchmarkScanSynthea(b *testing.B) {
	benchmarkScan(b, shareddata.Lines(b, "data", "bench", "smart-bulk-data-server"))
}

func BenchmarkScanSyntheaBlaze(b *testing.B) {
	benchmarkScan(b, shareddata.Lines(b, "data", "bench", "samply-blaze"))
}

func BenchmarkScanHuge(b *testing.B) {
	benchmarkScan(b, shareddata.Lines(b, "data", "huge-r4.ndjson.gz"))
}

// Indented texts are copied token by token.
func BenchmarkScanIndented(b *testing.B) {
	lines := shareddata.Lines(b, "data", "public-mini")
	for i, line := range lines {
		value := jsontext.Value(bytes.Clone(line))
		if err := value.Indent(); err != nil {
			b.Fatal(err)
		}
		lines[i] = value
	}
	benchmarkScan(b, lines)
}

// A resource that was changed and one whose keys came in another order cost the
// same comparison.
func BenchmarkEqualContent(b *testing.B) {
	line := shareddata.Lines(b, "data", "public-mini")[0]
	other := append(bytes.Clone(line[:len(line)-1]), ' ', '}')
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if !EqualContent(line, other) {
			b.Fatal("contents differ")
		}
	}
}
