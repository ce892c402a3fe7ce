package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// TestConcurrentWritersReadersImportsFlushesAndMerges is for the race detector, and
// counts: every acknowledged version is there exactly once at the end.
func TestConcurrentWritersReadersImportsFlushesAndMerges(t *testing.T) {
	opts := testOptions(vfs.NewMem(1), 1)
	opts.PrepareInline, opts.HeadBytes, opts.Now = false, 24<<10, time.Now
	opts.MergeFanIn = 2
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(1, 2))
	opts.NewID = func() uint64 { mu.Lock(); defer mu.Unlock(); return rng.Uint64() }
	s := mustOpen(t, opts)
	const writers, writes, ids = 4, 120, 7
	var group sync.WaitGroup
	versions := make([]map[string]int64, writers) // highest acknowledged, by id
	for w := range writers {
		versions[w] = map[string]int64{}
		group.Go(func() {
			for i := range writes {
				id := fmt.Sprint("r", (i*7+w)%ids)
				out, err := s.Commit(context.Background(), []Change{write(t, patient, id, fmt.Sprint(w, "-", i))})
				if err != nil {
					t.Errorf("Commit: %v", err)
					return
				}
				versions[w][id] = max(versions[w][id], out[0].VersionID)
				readSomething(t, s, id, out[0].VersionID)
			}
		})
	}
	group.Go(func() {
		for i := range 6 {
			importSome(t, s, i)
			if err := s.Flush(context.Background()); err != nil {
				t.Errorf("Flush: %v", err)
			}
			n, at, err := s.SnapshotAt(context.Background())
			if err != nil {
				t.Errorf("SnapshotAt: %v", err)
				return
			}
			if at.Milli == 0 {
				t.Error("SnapshotAt has no instant")
			}
			n.Release()
		}
	})
	group.Go(func() { purgeSome(t, s) })
	group.Wait()
	highest := map[string]int64{}
	for _, byID := range versions {
		for id, v := range byID {
			highest[id] = max(highest[id], v)
		}
	}
	n := mustSnapshot(t, s)
	for id, want := range highest {
		total, err := n.HistoryTotal(context.Background(), HistoryQuery{Type: patient, ID: []byte(id)})
		if v, getErr := n.Get(patient, []byte(id)); err != nil || getErr != nil || v.VersionID < want || total != v.VersionID {
			t.Errorf("%s: current %d, %d versions, %v %v; want %d", id, v.VersionID, total, err, getErr, want)
		}
	}
	n.Release()
	if st := s.Stats(); st.Merges == 0 || st.MergeFailures > 0 {
		t.Errorf("there were %d merges, %d failed", st.Merges, st.MergeFailures)
	}
	mustClose(t, s)
	if problems := fsckAll(t, opts.FS); len(problems) > 0 {
		t.Errorf("Fsck: %+v", problems)
	}
}

// purgeSome writes, reads and purges resources that nobody else touches.
func purgeSome(t *testing.T, s *Store) {
	for i := range 60 {
		id := fmt.Sprint("p", i%3)
		for range 1 + i%2 {
			mustCommit(t, s, write(t, patient, id, fmt.Sprint(i)), write(t, patient, "q", fmt.Sprint(i)))
		}
		before, err := s.Snapshot()
		if err != nil {
			t.Errorf("Snapshot: %v", err)
			return
		}
		_, err = s.Purge(context.Background(), patient, []byte(id), PurgeAll, Precondition{})
		if err == nil {
			_, err = s.Purge(context.Background(), patient, []byte("q"), PurgeHistory, Precondition{})
		}
		if err != nil {
			t.Errorf("Purge: %v", err)
		}
		if v, err := before.Get(patient, []byte(id)); err != nil || v.VersionID != 1 {
			t.Errorf("a snapshot from before the purge has version %d of %s, %v", v.VersionID, id, err)
		}
		before.Release()
		after, err := s.Snapshot()
		if err != nil {
			t.Errorf("Snapshot: %v", err)
			return
		}
		_, err = after.Get(patient, []byte(id))
		total, totalErr := after.HistoryTotal(context.Background(), HistoryQuery{Type: patient, ID: []byte("q")})
		if !errors.Is(err, ErrNotFound) || totalErr != nil || total != 1 {
			t.Errorf("after purges Get gives %v, q has %d versions, %v", err, total, totalErr)
		}
		after.Release()
	}
}

// readSomething reads a resource back: at least the version just acknowledged.
func readSomething(t *testing.T, s *Store, id string, atLeast int64) {
	n := mustSnapshot(t, s)
	defer n.Release()
	v, err := n.Get(patient, []byte(id))
	if err != nil || v.VersionID < atLeast {
		t.Errorf("Get %s: version %d, %v; want %d or later", id, v.VersionID, err, atLeast)
	}
	last := int64(1 << 62)
	_, _, err = n.History(context.Background(), HistoryQuery{Type: patient, ID: []byte(id), Count: 5}, func(v *Version) error {
		if v.VersionID >= last {
			return fmt.Errorf("version %d comes after %d", v.VersionID, last)
		}
		last = v.VersionID
		return nil
	})
	if err != nil {
		t.Errorf("History %s: %v", id, err)
	}
	if _, err := n.ScanParts(context.Background(), ScanQuery{}); err != nil {
		t.Errorf("ScanParts: %v", err)
	}
}

// importSome imports one new version of each resource, against whatever the
// writers do meanwhile.
func importSome(t *testing.T, s *Store, round int) {
	g, err := s.BeginIngest(context.Background())
	if err != nil {
		t.Errorf("BeginIngest: %v", err)
		return
	}
	b, err := s.NewRun()
	if err != nil {
		t.Errorf("NewRun: %v", err)
		return
	}
	lookup := g.Snapshot().KeyLookup()
	rows := map[index.Ordinal]index.Row{}
	for i := range 7 {
		c := write(t, patient, fmt.Sprint("r", i), fmt.Sprint("import ", round))
		o, err := b.Append(c.Type, c.ID, c.IDAt, c.Body, c.Splice)
		if err != nil {
			t.Errorf("Append: %v", err)
		}
		row := index.Row{Type: c.Type, VersionID: 1, LastUpdated: g.Instant()}
		key := index.AppendKey(nil, c.Type, c.ID)
		versions, err := lookup.Versions(key)
		if err != nil {
			t.Errorf("Versions: %v", err)
		}
		if len(versions) > 0 {
			row.VersionID = versions[0].VersionID + 1
			row.LastUpdated = fhir.Instant{Milli: max(g.Instant().Milli, versions[0].LastUpdated.Milli+1), OffsetMinutes: fhir.OffsetZ}
			g.Supersede(key, versions[0].Place)
		}
		rows[o] = row
	}
	b.SortKeys()
	for o, row := range rows {
		b.SetRow(o, row)
	}
	meta, err := b.Seal(context.Background())
	if err != nil {
		t.Errorf("Seal: %v", err)
		return
	}
	if err := g.Add(meta, nil); err != nil {
		t.Errorf("Add: %v", err)
	}
	if err := g.Publish(context.Background(), 1, takeNext, func() []byte { return []byte("x") }); err != nil {
		t.Errorf("Publish: %v", errors.Join(err, g.Abandon()))
	}
}

// takeNext gives each conflicting row the version after the current one.
func takeNext(conflicts []Conflict) error {
	for _, c := range conflicts {
		cur := c.Versions[0]
		c.Rows[0].VersionID = cur.VersionID + 1
		c.Rows[0].LastUpdated.Milli = max(c.Rows[0].LastUpdated.Milli, cur.LastUpdated.Milli+1)
	}
	return nil
}
