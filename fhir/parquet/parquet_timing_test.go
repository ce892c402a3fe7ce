package parquet

import (
	"encoding/json"
	"io"
	"runtime"
	"testing"

	"kiln/fhir"
	"kiln/internal/shareddata"
)

// Rate of one writer on real resources, and what it holds in memory.
func BenchmarkWrite(b *testing.B) {
	byType := map[string][][]byte{}
	for _, line := range shareddata.Lines(b, "data", "public-mini") {
		var typed struct{ ResourceType string }
		if text, err := fhir.Minify(line); err == nil && json.Unmarshal(text, &typed) == nil {
			byType[typed.ResourceType] = append(byType[typed.ResourceType], text)
		}
	}
	for _, name := range []string{"Patient", "Observation", "ExplanationOfBenefit"} {
		b.Run(name, func(b *testing.B) {
			resources := byType[name]
			if len(resources) == 0 {
				b.Skip("no " + name)
			}
			size := 0
			for _, r := range resources {
				size += len(r)
			}
			b.SetBytes(int64(size / len(resources)))
			b.ReportAllocs()
			w := NewWriter(io.Discard, fhir.TypeByName([]byte(name)), NewSchemas())
			for i := range b.N {
				if err := w.Add(resources[i%len(resources)]); err != nil {
					b.Fatal(err)
				}
			}
			var memory runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&memory)
			b.ReportMetric(float64(memory.HeapAlloc)/1e6, "MB-held")
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(w.Bytes())/float64(b.N), "B/row")
		})
	}
}
