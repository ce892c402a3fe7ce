package engine

import (
	"context"
	"fmt"
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
