package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"kiln/internal/vfs"
)

// Imports wait while merges are behind, are counted, and go on when they are not,
// or when nothing can be merged.
func TestImportsWaitForMerges(t *testing.T) {
	fsys := vfs.NewMem(1)
	opts := testOptions(fsys, 1)
	opts.MergeFanIn, opts.FreeBytesMin = 2, 1<<20
	s := mustOpen(t, opts)
	for i := range 2*mergeHoldFanIns + 1 {
		importSome(t, s, i)
	}
	await := func(want error, stalls uint64) {
		t.Helper()
		over, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.AwaitMerges(over); !errors.Is(err, want) || s.Stats().ImportStalls != stalls {
			t.Errorf("waiting gives %v after %d stalls, want %v and %d", err, s.Stats().ImportStalls, want, stalls)
		}
	}
	await(nil, 0) // nothing happens in the background
	s.opts.PrepareInline = false
	await(context.Canceled, 1)
	fsys.SetCapacity(fsys.UsedBytes() + 1<<20 + 10)
	if merged(t, s) != 0 {
		t.Fatal("a merge took the last space")
	}
	await(nil, 1) // it would wait for ever
	fsys.SetCapacity(1 << 30)
	s.mergesStuck.Store(false) // as the worker does after a merge
	waiting := make(chan error)
	go func() { waiting <- s.AwaitMerges(context.Background()) }()
	merged(t, s)
	if err := <-waiting; err != nil {
		t.Errorf("a waiting import ends with %v", err)
	}
	stalls := s.Stats().ImportStalls
	await(nil, stalls)
	s.opts.PrepareInline = true
	mustClose(t, s)
}

// A run is written again, alone, when a quarter of its rows was purged, and not
// for one row less; what is left reads as before.
func TestPurgedRowsGiveTheirRoomBack(t *testing.T) {
	fsys := vfs.NewMem(1)
	s := mustOpen(t, mergingOptions(fsys, 1))
	for i := range 8 {
		mustCommit(t, s, patientNamed(fmt.Sprint("p", i), fmt.Sprintf("%0300d", i*7919)))
	}
	mustFlush(t, s)
	size := s.Stats().RunBytes
	purge := func(id string) {
		t.Helper()
		if n, err := s.Purge(context.Background(), patient, []byte(id), PurgeAll, Precondition{}); n != 1 || err != nil {
			t.Fatalf("the purge of %s took %d, %v", id, n, err)
		}
	}
	purge("p1")
	if merged(t, s) != 0 {
		t.Error("a run is written again for one row of eight")
	}
	purge("p5")
	n := mustSnapshot(t, s)
	before := historyOf(t, n)
	if merged(t, s) != 1 || merged(t, s) != 0 {
		t.Error("a run of which a quarter is void is not written again, or again and again")
	}
	n.Release()
	n = mustSnapshot(t, s)
	if after := historyOf(t, n); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the history is\n%v\nwant\n%v", after, before)
	}
	n.Release()
	if st := s.Stats(); st.RunBytes >= size || st.Runs != 1 || st.Versions != 6 {
		t.Errorf("%d bytes of %d are left, in %d runs with %d versions", st.RunBytes, size, st.Runs, st.Versions)
	}
	for i := range 8 {
		if i != 1 && i != 5 {
			purge(fmt.Sprint("p", i))
		}
	}
	merged(t, s)
	if st := s.Stats(); st.Versions != 0 {
		t.Errorf("%d versions are left of nothing", st.Versions)
	}
	mustClose(t, s)
	if problems := fsckAll(t, fsys); len(problems) > 0 {
		t.Fatalf("Fsck: %+v", problems)
	}
}

// Imports and flushes one after the other, the worst mix for merges of neighbours,
// leave few runs. KILN_MIX says how many of each.
func TestAlternatingImportsAndFlushesLeaveFewRuns(t *testing.T) {
	const fanIn = 4
	fsys := vfs.NewMem(1)
	opts := testOptions(fsys, 1)
	opts.MergeFanIn = fanIn
	s := mustOpen(t, opts)
	most, rounds := uint64(0), envNumber("KILN_MIX", 150)
	for i := range rounds {
		importSome(t, s, int(i))
		mustCommit(t, s, patientNamed(fmt.Sprint("w", i%50), fmt.Sprint("Windsor", i)))
		if i%3 > 0 {
			mustFlush(t, s)
		}
		merged(t, s)
		most = max(most, s.Stats().Runs)
	}
	st := s.Stats()
	t.Logf("%d imports and writes: at most %d runs, %d at the end, %d versions, %.1f times written again", rounds, most, st.Runs, st.Versions, float64(st.MergeWrittenBytes)/float64(st.RunBytes))
	if most > 2*6*fanIn {
		t.Errorf("there were %d runs", most)
	}
	mustClose(t, s)
}
