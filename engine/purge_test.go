package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
	"kiln/internal/vfs"
	"kiln/wal"
)

func mustPurge(t *testing.T, s *Store, id string, scope PurgeScope) int {
	t.Helper()
	n, err := s.Purge(context.Background(), patient, []byte(id), scope, Precondition{})
	if err != nil {
		t.Fatalf("cannot purge %s: %v", id, err)
	}
	return n
}

// versionsOf is the versions that every way of reading has of a patient.
func versionsOf(t *testing.T, n *Snapshot, id string) (ids []int64) {
	t.Helper()
	_, _, err := n.History(context.Background(), HistoryQuery{Type: patient, ID: []byte(id)}, func(v *Version) error {
		ids = append(ids, v.VersionID)
		return nil
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	got, err := n.Get(patient, []byte(id))
	if (len(ids) == 0) != errors.Is(err, ErrNotFound) || len(ids) > 0 && got.VersionID != ids[0] {
		t.Fatalf("the history of %s has %d, Get gives %d, %v", id, ids, got.VersionID, err)
	}
	system := 0
	for _, line := range historyOf(t, n) {
		if strings.HasPrefix(line, fmt.Sprint(patient, id)) && strings.Contains(line, `"id":"`+id+`"`) {
			system++
		}
	}
	if system != len(ids) {
		t.Fatalf("the system's history has %d versions of %s, its own %d", system, id, len(ids))
	}
	return ids
}

// wantVersions checks a patient's versions now.
func wantVersions(t *testing.T, s *Store, when, id string, want ...int64) {
	t.Helper()
	n := mustSnapshot(t, s)
	defer n.Release()
	if got := versionsOf(t, n, id); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s %s has the versions %d, want %d", when, id, got, want)
	}
}

// TestPurgeOutlastsEverything purges what lies in runs of flushes and imports and in the
// head, and looks after a flush, merges, reopening and checkpoints.
func TestPurgeOutlastsEverything(t *testing.T) {
	fsys, s := mergeStore(t)
	mustCommit(t, s, write(t, patient, "a", "head"), write(t, patient, "r0", "head"), write(t, patient, "b", "1"))
	mustCommit(t, s, write(t, patient, "b", "2"), write(t, patient, "c", "1"))
	before := s.Stats().Versions
	held := mustSnapshot(t, s)
	if n := mustPurge(t, s, "a", PurgeAll); n != 5 {
		t.Fatalf("%d versions of a were purged, want 5", n)
	}
	if n := mustPurge(t, s, "r0", PurgeHistory) + mustPurge(t, s, "b", PurgeHistory) + mustPurge(t, s, "c", PurgeAll); n != 4+1+1 {
		t.Fatalf("%d versions of r0, b and c were purged, want 6", n)
	}
	if n := mustPurge(t, s, "a", PurgeAll) + mustPurge(t, s, "r0", PurgeHistory) + mustPurge(t, s, "none", PurgeAll); n != 0 {
		t.Fatalf("%d versions were purged twice", n)
	}
	if got := s.Stats(); got.Versions != before-11 || got.Purges != 4 || got.PurgedVersions != 11 {
		t.Errorf("Stats say %+v, there were %d versions and 11 were purged", got, before)
	}
	check := func(when string) {
		t.Helper()
		wantVersions(t, s, when, "a")
		wantVersions(t, s, when, "c")
		wantVersions(t, s, when, "r0", 5)
		wantVersions(t, s, when, "b", 2)
		wantVersions(t, s, when, "id-0", 1)
	}
	reopen := func(seed uint64) {
		t.Helper()
		mustClose(t, s)
		if problems := fsckAll(t, fsys); len(problems) > 0 {
			t.Fatalf("Fsck: %+v", problems)
		}
		opts := testOptions(fsys, seed)
		opts.MergeFanIn = 2
		s = mustOpen(t, opts)
	}
	check("at once")
	if got := versionsOf(t, held, "a"); len(got) != 5 {
		t.Fatalf("a snapshot from before has the versions %d", got)
	}
	held.Release()
	reopen(2)
	check("after a replay of the log")
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	check("after a flush")
	reopen(3)
	check("after a checkpoint")
	if merged(t, s) == 0 {
		t.Fatal("nothing was merged")
	}
	check("after merges")
	reopen(4)
	check("after all")
	if out := mustCommit(t, s, write(t, patient, "a", "new")); out[0].VersionID != 1 || !out[0].Created {
		t.Fatalf("the first write after a purge makes %+v", out[0])
	}
	wantVersions(t, s, "anew", "a", 1)
	mustClose(t, s)
}

// TestPurgesDuringAMergeAndAFlush: what is purged while a run is written is not in it.
func TestPurgesDuringAMergeAndAFlush(t *testing.T) {
	fsys, s := mergeStore(t)
	m, err := s.beginMerge(mergeSmall)
	if m == nil || err != nil {
		t.Fatalf("no merge: %v", err)
	}
	meta, err := s.buildMerge(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	mustPurge(t, s, "r1", PurgeAll)
	mustPurge(t, s, "r2", PurgeHistory)
	if err := s.finishMerge(context.Background(), m, meta); err != nil {
		t.Fatal(err)
	}
	s.endMerge(m)
	mustCommit(t, s, write(t, patient, "early", "1"), write(t, patient, "late", "1"), write(t, patient, "stays", "1"))
	mustPurge(t, s, "early", PurgeAll)
	flushWith(t, s, func() {
		mustPurge(t, s, "late", PurgeAll)
		mustCommit(t, s, write(t, patient, "late", "2"))
	})
	// The log from before the PURGE is in this checkpoint, the PURGE itself is replayed.
	if err := s.checkpointNow(); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		wantVersions(t, s, when, "r1")
		wantVersions(t, s, when, "r2", 4)
		wantVersions(t, s, when, "early")
		wantVersions(t, s, when, "late", 1)
		wantVersions(t, s, when, "stays", 1)
	}
	check("after the merge and the flush")
	for seed := range uint64(2) {
		mustClose(t, s)
		s = mustOpen(t, testOptions(fsys, 2+seed))
		check("opened again")
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
	if problems := fsckAll(t, fsys); len(problems) > 0 {
		t.Fatalf("Fsck: %+v", problems)
	}
}

// flushWith flushes, and calls fn when the run is written and not yet published.
func flushWith(t *testing.T, s *Store, fn func()) {
	t.Helper()
	if err := s.inSlot(context.Background(), func() error { s.turnOver(); return nil }); err != nil {
		t.Fatal(err)
	}
	snap := mustSnapshot(t, s)
	defer snap.Release()
	g := snap.view.gens[0]
	meta, dropped, err := s.buildFlushRun(context.Background(), g)
	if err != nil {
		t.Fatal(err)
	}
	run, err := index.OpenRun(s.opts.FS, s.path(runsDir), meta, 0, s.cache)
	if err != nil {
		t.Fatal(err)
	}
	fn()
	err = s.inSlot(context.Background(), func() error {
		_, err := s.publishFlush(g, run, dropped)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPurgedBodiesAreNotFlushed: a run that is written after a purge has nothing of it.
func TestPurgedBodiesAreNotFlushed(t *testing.T) {
	fsys := vfs.NewMem(1)
	s := mustOpen(t, testOptions(fsys, 1))
	mustCommit(t, s, write(t, patient, "secret-id", strings.Repeat("secret", 1000)), write(t, patient, "other", "public"))
	mustPurge(t, s, "secret-id", PurgeAll)
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	n := mustSnapshot(t, s)
	defer n.Release()
	meta := n.view.runs[0].run.Meta()
	if meta.Rows != 2 || meta.Live != 1 || meta.BodyBytesRaw > 1000 {
		t.Fatalf("the run is %+v", meta)
	}
	mustClose(t, s)
}

func TestPurgeWaitsForImportRounds(t *testing.T) {
	_, s := mergeStore(t)
	g, err := s.BeginIngest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Purge(ctx, patient, []byte("r1"), PurgeAll, Precondition{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("a purge beside an import round ends with %v", err)
	}
	wantVersions(t, s, "after a purge that gave up", "r1", 4, 3, 2, 1)
	if err := g.Abandon(); err != nil {
		t.Fatal(err)
	}
	mustPurge(t, s, "r1", PurgeAll)
	importSome(t, s, 9)
	wantVersions(t, s, "after a purge and an import", "r1", 1)
	mustClose(t, s)
}

// TestWritesPlannedBeforeAPurge are judged by what is left.
func TestWritesPlannedBeforeAPurge(t *testing.T) {
	_, s := mergeStore(t)
	f := func(c Change, purge string, want string) {
		t.Helper()
		r, err := newRequest([]Change{c})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.plan(r); err != nil {
			t.Fatal(err)
		}
		mustPurge(t, s, purge, PurgeAll)
		err = s.inSlot(context.Background(), func() error {
			s.commitGroup([]*request{r})
			return nil
		})
		if got := fmt.Sprint(r.results[0].VersionID, r.results[0].Unchanged, errors.Is(r.err, ErrPrecondition)); err != nil || got != want {
			t.Errorf("%s: %s (version, unchanged, refused), %v, %v; want %s", purge, got, r.err, err, want)
		}
	}
	f(write(t, patient, "r1", "import 3"), "r1", "1 false false") // the same content as before
	f(Change{Type: patient, ID: []byte("r2"), Delete: true}, "r2", "0 true false")
	last := write(t, patient, "r3", "x")
	last.If = Precondition{HasVersion: true, Version: 4}
	f(last, "r3", "0 false true")
	mustCommit(t, s, write(t, patient, "h", "1"))
	f(write(t, patient, "h", "2"), "h", "1 false false") // in the head
	mustClose(t, s)
}

func TestPurgePreconditions(t *testing.T) {
	_, s := mergeStore(t)
	f := func(id string, cond Precondition, want error) {
		t.Helper()
		if _, err := s.Purge(context.Background(), patient, []byte(id), PurgeHistory, cond); !errors.Is(err, want) {
			t.Errorf("purge of %s under %+v: %v, want %v", id, cond, err, want)
		}
	}
	f("r1", Precondition{HasVersion: true, Version: 3}, ErrPrecondition)
	f("none", Precondition{HasVersion: true, Version: 1}, ErrPrecondition)
	f("none", Precondition{Present: true}, ErrPrecondition)
	wantVersions(t, s, "after refusals", "r1", 4, 3, 2, 1)
	f("r1", Precondition{HasVersion: true, Version: 4}, nil)
	wantVersions(t, s, "after the purge", "r1", 4)
	if _, err := s.Purge(context.Background(), patient, []byte("a_b"), PurgeAll, Precondition{}); err == nil {
		t.Error("an id that is none is purged")
	}
	mustCommit(t, s, Change{Type: patient, ID: []byte("r1"), Delete: true})
	mustPurge(t, s, "r1", PurgeHistory)
	wantVersions(t, s, "deleted, and its history purged,", "r1", 5)
	if out := mustCommit(t, s, write(t, patient, "r1", "again")); out[0].VersionID != 6 {
		t.Errorf("the next version is %+v", out[0])
	}
	mustClose(t, s)
}

// TestPurgesOfNothingAreDamage: replay takes no PURGE that does not fit.
func TestPurgesOfNothingAreDamage(t *testing.T) {
	f := func(rec purgeRecord) {
		t.Helper()
		payload, err := rec.marshal()
		if err != nil {
			t.Fatal(err)
		}
		r := &recovery{flushed: 5, runs: map[index.RunID]*runState{3: newRunState(nil, 1, ingestFlush, 3, nil, nil, 1)}, metas: map[index.RunID]index.RunMeta{3: {ID: 3, Rows: 10}}}
		if err := r.apply(wal.Record{Type: wal.TypePurge, LSN: 9, Payload: payload}); err == nil {
			t.Errorf("the PURGE %+v is applied", rec)
		}
	}
	f(purgeRecord{runs: []ingestMarks{{run: 4, ordinals: roaring.BitmapOf(1)}}})
	f(purgeRecord{runs: []ingestMarks{{run: 3, ordinals: roaring.BitmapOf(10)}}})
	f(purgeRecord{heads: []headPlace{{lsn: 4}}})
	f(purgeRecord{heads: []headPlace{{lsn: 6}}})
	f(purgeRecord{})
}

// TestVoidRowsByTime: snapshots between purges see what was there.
func TestVoidRowsByTime(t *testing.T) {
	var v *voidRows
	v = v.with(10, roaring.BitmapOf(1)).with(20, roaring.BitmapOf(2, 3)).with(30, roaring.BitmapOf(4))
	f := func(v *voidRows, lsn uint64, want ...uint32) {
		t.Helper()
		got := v.at(lsn)
		if got == nil {
			got = roaring.New()
		}
		if !got.Equals(roaring.BitmapOf(want...)) {
			t.Errorf("at %d the rows %v are void, want %v", lsn, got, want)
		}
		for o := range uint32(6) {
			if v.contains(index.Ordinal(o), lsn) != got.Contains(o) {
				t.Errorf("row %d at %d", o, lsn)
			}
		}
	}
	f(nil, 99)
	f(v, 9)
	f(v, 10, 1)
	f(v, 29, 1, 2, 3)
	f(v, 30, 1, 2, 3, 4)
	f(v.folded(20), 20, 1, 2, 3)
	f(v.folded(20), 30, 1, 2, 3, 4)
	f(v.folded(30).with(40, roaring.BitmapOf(5)), 39, 1, 2, 3, 4)
	f(v.folded(5), 9)
}
