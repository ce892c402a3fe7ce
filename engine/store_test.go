package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/internal/vfs"
)

var patient = fhir.TypeByName([]byte("Patient"))

// testOptions is a store on fsys whose clock moves by a millisecond a call.
func testOptions(fsys vfs.FS, seed uint64) Options {
	rng := rand.New(rand.NewPCG(seed, 1))
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var calls atomic.Int64
	return Options{
		FS: fsys, Dir: "/data", NewID: rng.Uint64, PrepareInline: true, CatalogInMem: true, FreeBytesMin: -1,
		SegmentBytes: 1 << 16, HeadBytes: 1 << 20,
		Now: func() time.Time { return start.Add(time.Duration(calls.Add(1)) * time.Millisecond) },
	}
}

func mustOpen(t testing.TB, opts Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), opts)
	if err != nil {
		t.Fatalf("cannot open: %v", err)
	}
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("cannot close: %v", err)
	}
}

// write is a change that sets a resource's content.
func write(t testing.TB, typ fhir.TypeCode, id, content string) Change {
	t.Helper()
	src := fmt.Sprintf(`{"resourceType":%q,"id":%q,"language":%q,"subject":{"reference":"Patient/x"}}`, typ.String(), id, content)
	r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(src), nil)
	if err != nil {
		t.Fatalf("cannot scan %s: %v", src, err)
	}
	return Change{Type: typ, ID: []byte(id), IDAt: r.IDAt, Body: r.Body, Splice: r.Splice}
}

func mustCommit(t testing.TB, s *Store, changes ...Change) []Committed {
	t.Helper()
	out, err := s.Commit(context.Background(), changes)
	if err != nil {
		t.Fatalf("cannot commit: %v", err)
	}
	return out
}

func mustSnapshot(t testing.TB, s *Store) *Snapshot {
	t.Helper()
	n, err := s.Snapshot()
	if err != nil {
		t.Fatalf("cannot take a snapshot: %v", err)
	}
	return n
}

func TestCommitGetHistoryOverFlushAndReopen(t *testing.T) {
	fsys := vfs.NewMem(1)
	s := mustOpen(t, testOptions(fsys, 1))
	mustCommit(t, s, write(t, patient, "a", "one"))
	mustCommit(t, s, write(t, patient, "a", "two"), write(t, patient, "b", "one"))
	if out := mustCommit(t, s, write(t, patient, "a", "two")); !out[0].Unchanged || out[0].VersionID != 2 {
		t.Fatalf("same content made %+v", out[0])
	}
	mustCommit(t, s, Change{Type: patient, ID: []byte("b"), Delete: true})
	check := func(when string) {
		t.Helper()
		n := mustSnapshot(t, s)
		defer n.Release()
		v, err := n.Get(patient, []byte("a"))
		if err != nil || v.VersionID != 2 || v.Deleted {
			t.Fatalf("%s: Get a: %+v, %v", when, v, err)
		}
		if v, err = n.Get(patient, []byte("b")); err != nil || !v.Deleted || v.VersionID != 2 {
			t.Fatalf("%s: Get b: %+v, %v", when, v, err)
		}
		if v, err = n.Vread(patient, []byte("a"), 1); err != nil || v.VersionID != 1 {
			t.Fatalf("%s: Vread a/1: %+v, %v", when, v, err)
		}
		if _, err = n.Get(patient, []byte("c")); !errors.Is(err, ErrNotFound) {
			t.Fatalf("%s: Get c: %v", when, err)
		}
		var got []string
		var cursor HistoryCursor
		for more := true; more; {
			cursor, more, err = n.History(context.Background(), HistoryQuery{Count: 1, After: cursor}, func(v *Version) error {
				got = append(got, fmt.Sprintf("%s/%d", v.ID, v.VersionID))
				return nil
			})
			if err != nil {
				t.Fatalf("%s: History: %v", when, err)
			}
		}
		if want := "[b/2 b/1 a/2 a/1]"; fmt.Sprint(got) != want {
			t.Fatalf("%s: history %v, want %s", when, got, want)
		}
		parts, err := n.ScanParts(context.Background(), ScanQuery{})
		if err != nil || len(parts) != 1 || parts[0].Rows() != 1 {
			t.Fatalf("%s: ScanParts: %v, %v", when, parts, err)
		}
		total, err := n.HistoryTotal(context.Background(), HistoryQuery{Type: patient})
		if err != nil || total != 4 {
			t.Fatalf("%s: HistoryTotal: %d, %v", when, total, err)
		}
	}
	check("in the head")
	mustClose(t, s)
	s = mustOpen(t, testOptions(fsys, 2))
	check("after a replay")
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Runs != 1 || st.HeadVersions != 0 || st.Versions != 4 {
		t.Fatalf("after a flush: %+v", st)
	}
	check("after a flush")
	mustClose(t, s)
	s = mustOpen(t, testOptions(fsys, 3))
	check("after a flush and a replay")
	mustClose(t, s)
	if err := Fsck(context.Background(), FsckOptions{FS: fsys, Dir: "/data", Report: func(p Problem) { t.Errorf("fsck: %+v", p) }}); err != nil {
		t.Fatal(err)
	}
}
