package engine

import (
	"context"
	"fmt"
	"testing"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// addRun publishes one run of keys "n-0" and on.
func addRun(b *testing.B, s *Store, n, keys int) {
	b.Helper()
	g, err := s.BeginIngest(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	builder, err := s.NewRun()
	if err != nil {
		b.Fatal(err)
	}
	patient := fhir.TypeByName([]byte("Patient"))
	for i := range keys {
		id := fmt.Appendf(nil, "%d-%d", n, i)
		body := fmt.Appendf(nil, `{"resourceType":"Patient","id":"%s"}`, id)
		at := uint32(len(body) - len(id) - len(`"}`))
		if _, err := builder.Append(patient, id, at, body, fhir.Splice{}); err != nil {
			b.Fatal(err)
		}
	}
	builder.SortKeys()
	for i := range keys {
		builder.SetRow(index.Ordinal(i), index.Row{Type: patient, VersionID: 1, LastUpdated: g.Instant()})
	}
	meta, err := builder.Seal(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	if err := g.Add(meta, nil); err != nil {
		b.Fatal(err)
	}
	if err := g.Publish(context.Background(), 1, nil, nil); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLookupOfNewKeys is what a key that the store does not have costs an
// import, one at a time and in batches, by the number of runs of 100,000 keys.
func BenchmarkLookupOfNewKeys(b *testing.B) {
	opts := testOptions(vfs.OS(), 1)
	opts.Dir, opts.SegmentBytes = b.TempDir(), 0
	s := mustOpen(b, opts)
	defer s.Close()
	const keys, batch = 100_000, 4096
	fresh := make([][]byte, batch)
	for i := range fresh {
		fresh[i] = index.AppendKey(nil, fhir.TypeByName([]byte("Patient")), fmt.Appendf(nil, "new-%06d", i))
	}
	for runs := 0; runs <= 40; runs += 10 {
		for i := 0; i < 10 && runs > 0; i++ {
			addRun(b, s, runs+i, keys)
		}
		snap, err := s.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		lookup := snap.KeyLookup()
		b.Run(fmt.Sprintf("runs=%d/single", runs), func(b *testing.B) {
			for i := range b.N {
				if _, err := lookup.Versions(fresh[i%batch]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("runs=%d/batch", runs), func(b *testing.B) {
			for n := range b.N {
				i := n % batch
				if i == 0 {
					lookup.Probe(fresh)

				}
				if _, err := lookup.Probed(i, fresh[i]); err != nil {
					b.Fatal(err)
				}
			}
		})
		snap.Release()
	}
}
