package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// addDatedRun imports so many versions, of random ones of so many dates, a second
// apart from datedFirst on; one in a hundred is a Patient, the others Observations.
func addDatedRun(t testing.TB, s *Store, rng *rand.Rand, prefix string, rows, dates int) {
	t.Helper()
	g, err := s.BeginIngest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.NewRun()
	if err != nil {
		t.Fatal(err)
	}
	types := make([]fhir.TypeCode, rows)
	scanner := fhir.NewScanner(fhir.ScannerOptions{})
	for i := range types {
		types[i] = simTypes[min(rng.IntN(100), 1)]
		r, err := scanner.Scan(fmt.Appendf(nil, `{"resourceType":%q,"id":"%s%d"}`, types[i], prefix, i), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Append(r.Type, r.ID, r.IDAt, r.Body, r.Splice); err != nil {
			t.Fatal(err)
		}
	}
	b.SortKeys()
	for i := range types {
		date := fhir.Instant{Milli: datedFirst + 1000*rng.Int64N(int64(dates))}
		b.SetRow(index.Ordinal(i), index.Row{Type: types[i], VersionID: 1, LastUpdated: date})
	}
	meta, err := b.Seal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Add(meta, nil); err != nil {
		t.Fatal(err)
	}
	if err := g.Publish(context.Background(), 1, nil, nil); err != nil {
		t.Fatal(err)
	}
}

const datedFirst = 1_600_000_000_000

// BenchmarkHistory reads pages of 50 versions, and counts, in a run of 500,000
// versions of as many dates.
func BenchmarkHistory(b *testing.B) {
	const rows = 500_000
	s := mustOpen(b, testOptions(vfs.NewMem(1), 1))
	addDatedRun(b, s, rand.New(rand.NewPCG(1, 1)), "r", rows, rows)
	n := mustSnapshot(b, s)
	f := func(name string, q HistoryQuery) {
		q.Count = 50
		b.Run("page/"+name, func(b *testing.B) {
			for range b.N {
				if _, _, err := n.History(context.Background(), q, func(*Version) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("total/"+name, func(b *testing.B) {
			for range b.N {
				if _, err := n.HistoryTotal(context.Background(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("system", HistoryQuery{})
	f("oldest first", HistoryQuery{OldestFirst: true})
	f("type", HistoryQuery{Type: simTypes[1]})
	f("rare type", HistoryQuery{Type: simTypes[0]})
	f("since the first percent", HistoryQuery{SinceMilli: datedFirst + rows*10})
	f("since the middle", HistoryQuery{SinceMilli: datedFirst + rows*500})
	f("since the last percent", HistoryQuery{SinceMilli: datedFirst + rows*990})
	for _, members := range []int{10, 1000} {
		q := HistoryQuery{Among: make([]HistoryMember, members)}
		for i := range q.Among {
			q.Among[i].Key = Key{Type: simTypes[1], ID: fmt.Appendf(nil, "r%d", i*rows/members)}
		}
		f(fmt.Sprint("list of ", members), q)
	}
}
