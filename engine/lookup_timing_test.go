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

// addHistories publishes one run with so many versions of each key, from a number on.
func addHistories(b *testing.B, s *Store, ids [][]byte, from, versions int64) {
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
	for range versions {
		for _, id := range ids {
			body := fmt.Appendf(nil, `{"resourceType":"Patient","id":"%s"}`, id)
			if _, err := builder.Append(patient, id, uint32(len(body)-len(id)-len(`"}`)), body, fhir.Splice{}); err != nil {
				b.Fatal(err)
			}
		}
	}
	builder.SortKeys()
	for o := range int64(len(ids)) * versions {
		version := from + o/int64(len(ids))
		builder.SetRow(index.Ordinal(o), index.Row{Type: patient, VersionID: version, LastUpdated: fhir.Instant{Milli: version, OffsetMinutes: fhir.OffsetZ}})
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

// BenchmarkLookupOfHistories is what a key that the store has costs an import, by
// its versions, a tenth of them in each of ten runs (one: in one of them): lines
// with dates ask for all versions, lines without for the current one.
func BenchmarkLookupOfHistories(b *testing.B) {
	for _, versions := range []int64{1, 10, 1000} {
		opts := testOptions(vfs.OS(), 1)
		opts.Dir, opts.SegmentBytes = b.TempDir(), 0
		s := mustOpen(b, opts)
		var ids, keys [][]byte
		for i := range 2000 / min(versions, 10) {
			ids = append(ids, fmt.Appendf(nil, "old-%06d", i))
			keys = append(keys, index.AppendKey(nil, fhir.TypeByName([]byte("Patient")), ids[i]))
		}
		for run := range int64(10) {
			some := ids
			if versions < 10 {
				some = ids[run*int64(len(ids))/10 : (run+1)*int64(len(ids))/10]
			}
			addHistories(b, s, some, 1+run*max(1, versions/10), max(1, versions/10))
		}
		snap, err := s.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		f := func(name string, look func(*KeyLookup, int) ([]KeyVersion, error)) {
			b.Run(fmt.Sprintf("versions=%d/%s", versions, name), func(b *testing.B) {
				lookup := snap.KeyLookup()
				for n := range b.N {
					i := n % len(keys)
					if i == 0 {
						lookup.Probe(keys)
					}
					if found, err := look(lookup, i); err != nil || len(found) == 0 {
						b.Fatal(found, err)
					}
				}
			})
		}
		f("all", func(k *KeyLookup, i int) ([]KeyVersion, error) { return k.Probed(i, keys[i]) })
		f("current", func(k *KeyLookup, i int) ([]KeyVersion, error) { return k.Current(i, keys[i]) })
		snap.Release()
		mustClose(b, s)
	}
}
