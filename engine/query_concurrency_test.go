package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
)

// TestPagesWhileWritersChangeTheStore: each page is read on a snapshot of its
// own while writers change, add and delete what is searched for, the head is
// flushed and runs are merged. Every match of the first page's snapshot comes
// once, in the version it had then.
func TestPagesWhileWritersChangeTheStore(t *testing.T) {
	opts := testOptions(vfs.NewMem(1), 1)
	opts.PrepareInline, opts.HeadBytes, opts.Now, opts.MergeFanIn = false, 24<<10, time.Now, 2
	s := mustOpen(t, opts)
	const resources = 200
	for i := range resources {
		mustCommit(t, s, patientNamed(fmt.Sprint("p", i), fmt.Sprint("Chalmers ", i%7)))
	}
	// Some writes for each page: as many as the writers could do would be more than
	// the pages of an older LSN can look up.
	writes := make(chan struct{}, 100)
	moreWrites := func() {
		for range 20 {
			select {
			case writes <- struct{}{}:
			default:
			}
		}
	}
	var writers sync.WaitGroup
	for w := range uint64(4) {
		writers.Go(func() { renamePatients(t, s, rand.New(rand.NewPCG(1, w)), resources, writes) })
	}
	table, err := search.Load()
	if err != nil {
		t.Fatal(err)
	}
	family := table.Param(patient, "family")
	walks, err := index.StringWalks(family.Sources, []byte("chal"))
	if err != nil {
		t.Fatal(err)
	}
	for round := range 12 {
		q := Query{Types: []fhir.TypeCode{patient}, Where: &Expr{Op: Terms, Walks: walks}}
		if round%2 == 1 {
			q.Sort = []SortKey{{Param: family, Desc: round%4 == 1}}
		}
		moreWrites()
		n := mustSnapshot(t, s)
		var want []string
		if _, err := n.Search(context.Background(), &q, func(v *Version) error {
			want = append(want, fmt.Sprintf("%v/%s/%d", v.Type, v.ID, v.VersionID))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if count, err := n.Count(context.Background(), &q); err != nil || count != uint64(len(want)) {
			t.Errorf("count %d (%v) of %d", count, err, len(want))
		}
		q.AsOf = n.LSN()
		got := pages(t, n, q, 9, func() *Snapshot { moreWrites(); return mustSnapshot(t, s) })
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("pages gave\n%v\nand the first snapshot\n%v", got, want)
		}
	}
	close(writes)
	writers.Wait()
	mustClose(t, s)
}

// renamePatients writes or deletes a patient for each of writes.
func renamePatients(t *testing.T, s *Store, rng *rand.Rand, resources int, writes <-chan struct{}) {
	for range writes {
		id := fmt.Sprint("p", rng.IntN(2*resources))
		c := patientNamed(id, fmt.Sprint([]string{"Chalmers ", "Windsor "}[rng.IntN(2)], rng.IntN(7)))
		if rng.IntN(5) == 0 {
			c = Change{Type: patient, ID: []byte(id), Delete: true}
		}
		if _, err := s.Commit(context.Background(), []Change{c}); err != nil {
			t.Errorf("Commit: %v", err)
			return
		}
	}
}
