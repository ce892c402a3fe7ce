package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What is due while an answer is late counts from when it was due, and nothing that
// is due is left out.
func TestPacedRequestsCountFromWhenTheyWereDue(t *testing.T) {
	const late = 20 * time.Millisecond
	var began []time.Time
	var answered time.Time // the first one
	k := paced{perSecond: 2000, clients: 1, newClient: func(int) func(*rand.Rand, time.Time, *loadResult) {
		return func(_ *rand.Rand, at time.Time, result *loadResult) {
			began = append(began, at)
			for len(began) == 1 && time.Since(at) < late {
			}
			if len(began) == 1 {
				answered = time.Now()
			}
			result.latencies = append(result.latencies, time.Since(at))
		}
	}}
	results, err := pace(t.Context(), []paced{k}, 2*late, 1)
	if err != nil || len(results[0].latencies) != len(began) {
		t.Fatalf("%d requests were counted of %d: %v", len(results[0].latencies), len(began), err)
	}
	waited := 0
	for _, at := range began[1:] {
		if at.Before(answered) {
			waited++
		}
	}
	if waited < 10 { // 40 in the mean
		t.Errorf("%d requests were due while the first was answered", waited)
	}
}

func TestWatchCountsWhatMergesWrite(t *testing.T) {
	dir := t.TempDir()
	w := newMergeWatch(dir)
	f := func(name string, bytes int, busy bool, written int64) {
		t.Helper()
		path := filepath.Join(w.dir, name)
		if err := os.MkdirAll(w.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, bytes), 0o644); err != nil {
			t.Fatal(err)
		}
		got := w.look(time.Second)
		if n, _ := w.counted(); got != busy || n != written {
			t.Errorf("%s: busy %v with %d bytes written, want %v and %d", name, got, n, busy, written)
		}
	}
	f("0000000000000001.run", 1000, false, 0)
	f("0000000000000002.run.tmp", 100, true, 100)
	f("0000000000000002.run.tmp", 300, true, 300)
	f("0000000000000003.run.tmp", 50, true, 350)
	if _, busy := w.counted(); busy != 3*time.Second {
		t.Errorf("busy for %v", busy)
	}
	w.reset()
	f("0000000000000003.run.tmp", 60, true, 10)
}

func TestCopiesOfAStoreShareItsRuns(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	for _, name := range []string{"runs/1.run", "log/1", "FORMAT"} {
		path := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyStore(from, to); err != nil {
		t.Fatal(err)
	}
	f := func(name string, shared bool) {
		t.Helper()
		a, errA := os.Stat(filepath.Join(from, name))
		b, errB := os.Stat(filepath.Join(to, name))
		text, err := os.ReadFile(filepath.Join(to, name))
		if errA != nil || errB != nil || err != nil || string(text) != name || os.SameFile(a, b) != shared {
			t.Errorf("%s: copied as %q, shared is not %v: %v %v %v", name, text, shared, errA, errB, err)
		}
	}
	f("runs/1.run", true)
	f("log/1", false)
	f("FORMAT", false)
}
