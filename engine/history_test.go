package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"kiln/index"
	"kiln/internal/vfs"
)

// TestPagingIsStableInsideOneGroup pages through versions of one date and one
// LSN that lie in two runs and, rewritten by a conflict, in the head, which is
// flushed between two pages.
func TestPagingIsStableInsideOneGroup(t *testing.T) {
	for i := range 18 {
		flushAt, oldestFirst := i/2, i%2 == 1
		s := groupedStore(t)
		q, seen := HistoryQuery{Count: 1, LSN: 3, OldestFirst: oldestFirst}, map[string]int{}
		for i, more := 0, true; more; i++ {
			if i == flushAt {
				if err := s.Flush(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			n := mustSnapshot(t, s)
			var err error
			q.After, more, err = n.History(context.Background(), q, func(v *Version) error {
				seen[fmt.Sprint(string(v.ID), "/", v.VersionID)]++
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			n.Release()
		}
		mustClose(t, s)
		if len(seen) != 8 {
			t.Fatalf("paging (oldest first: %v) with a flush before page %d gives %d of 8 versions: %v", oldestFirst, flushAt, len(seen), seen)
		}
		for name, times := range seen {
			if times != 1 {
				t.Fatalf("paging (oldest first: %v) with a flush before page %d gives %s %d times", oldestFirst, flushAt, name, times)
			}
		}
	}
}

// groupedStore has six versions of LSN 3 and one date: four in two runs, two
// in the head; and two commits.
func groupedStore(t *testing.T) *Store {
	t.Helper()
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	g, err := s.BeginIngest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for run := range 2 {
		b, err := s.NewRun()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			c := write(t, patient, fmt.Sprint("r", run, "-", i), "imported")
			if _, err := b.Append(c.Type, c.ID, c.IDAt, c.Body, c.Splice); err != nil {
				t.Fatal(err)
			}
		}
		b.SortKeys()
		for i := range 3 {
			b.SetRow(index.Ordinal(i), index.Row{Type: patient, VersionID: 1, LastUpdated: g.Instant()})
		}
		meta, err := b.Seal(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Add(meta, nil); err != nil {
			t.Fatal(err)
		}
	}
	mustCommit(t, s, write(t, patient, "r0-1", "raced"))
	mustCommit(t, s, write(t, patient, "r1-2", "raced"))
	resolve := func(conflicts []Conflict) error {
		for i := range conflicts {
			conflicts[i].Rows[0].VersionID = 2 // the date stays the round's
		}
		return nil
	}
	if err := g.Publish(context.Background(), 1, resolve, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestHistoriesAreTheWholeOneFiltered compares random histories of a store with
// runs of many and of few dates, a flushed one, purged versions and a head with
// the system's whole history, filtered here.
func TestHistoriesAreTheWholeOneFiltered(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(1), 1))
	rng := rand.New(rand.NewPCG(1, 2))
	addDatedRun(t, s, rng, "few", 2000, 20)
	addDatedRun(t, s, rng, "many", 2000, 10_000)
	for i := range 40 {
		mustCommit(t, s, write(t, patient, fmt.Sprint("p", i%7), fmt.Sprint("head", i)))
		if i == 20 {
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Purge(context.Background(), simTypes[1], fmt.Appendf(nil, "few%d", i), PurgeAll, Precondition{}); err != nil {
			t.Fatal(err)
		}
	}
	n := mustSnapshot(t, s)
	var whole []Version
	if _, _, err := n.History(context.Background(), HistoryQuery{}, func(v *Version) error {
		whole = append(whole, *v)
		return nil
	}); err != nil || len(whole) < 3900 {
		t.Fatalf("%d versions, %v", len(whole), err)
	}
	milli := func() int64 {
		return pick(rng, 0, datedFirst-1, datedFirst+rng.Int64N(20_000), datedFirst+rng.Int64N(10_000_000), whole[rng.IntN(40)].LastUpdated.Milli)
	}
	for range 300 {
		q := HistoryQuery{
			Type: pick(rng, 0, simTypes[0], simTypes[1]), SinceMilli: milli(), BeforeMilli: milli(),
			OldestFirst: rng.IntN(2) == 0, LSN: uint64(rng.IntN(2)) * (n.LSN() - uint64(rng.IntN(60))),
		}
		if err := compareFiltered(n, q, whole, 1+rng.IntN(1000)); err != nil {
			t.Fatal(err)
		}
	}
	n.Release()
	mustClose(t, s)
}

// compareFiltered pages through a history and compares it with the whole one.
func compareFiltered(n *Snapshot, q HistoryQuery, whole []Version, pageSize int) error {
	var want, got []string
	for i := range whole {
		v := &whole[i]
		if (q.Type == 0 || v.Type == q.Type) && q.wants(v.LastUpdated.Milli) && (q.LSN == 0 || v.LSN <= q.LSN) {
			want = append(want, historyLine(v))
		}
	}
	if q.OldestFirst {
		slices.Reverse(want)
	}
	total, err := n.HistoryTotal(context.Background(), q)
	if err != nil || total != int64(len(want)) {
		return fmt.Errorf("%+v: total %d, %w; want %d", q, total, err, len(want))
	}
	q.Count = pageSize
	for more := true; more; {
		q.After, more, err = n.History(context.Background(), q, func(v *Version) error {
			got = append(got, historyLine(v))
			return nil
		})
		if err != nil {
			return fmt.Errorf("%+v: %w", q, err)
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%+v: %d versions, not the %d that are wanted, or in another order", q, len(got), len(want))
	}
	return nil
}
