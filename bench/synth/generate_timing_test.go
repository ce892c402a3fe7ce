package synth

import "testing"

func BenchmarkGenerate(b *testing.B) {
	stats := generate(b, Options{Seed: 1, Patients: 50}, func(string, []byte) {})
	b.SetBytes(stats.Bytes)
	b.ReportAllocs()
	for b.Loop() {
		generate(b, Options{Seed: 1, Patients: 50}, func(string, []byte) {})
	}
}
