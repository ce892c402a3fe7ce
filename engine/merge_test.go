package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
	"kiln/wal"
)

// mergeStore has a store whose flushes and imports leave many small runs.
func mergeStore(t *testing.T) (*vfs.Mem, *Store) {
	t.Helper()
	fsys := vfs.NewMem(1)
	opts := testOptions(fsys, 1)
	opts.MergeFanIn = 2
	s := mustOpen(t, opts)
	for i := range 4 {
		mustCommit(t, s, write(t, patient, "a", fmt.Sprint(i)), write(t, patient, fmt.Sprint("id-", i), "x"))
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		importSome(t, s, i)
	}
	return fsys, s
}

// merged does all merges there are and tells how many.
func merged(t *testing.T, s *Store) (count int) {
	t.Helper()
	for {
		more, err := s.mergeOnce(context.Background(), mergeSmall)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return count
		}
		count++
	}
}

// historyOf is the system's history, a version a line, in its order.
func historyOf(t *testing.T, n *Snapshot) (lines []string) {
	t.Helper()
	_, _, err := n.History(context.Background(), HistoryQuery{}, func(v *Version) error {
		lines = append(lines, historyLine(v))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func historyLine(v *Version) string {
	return fmt.Sprint(v.Type, string(v.ID), v.VersionID, v.LastUpdated, v.LSN, v.Deleted, string(v.Body))
}

func runFiles(t *testing.T, fsys vfs.FS) int {
	t.Helper()
	names, err := fsys.List("/data/runs")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestMergesLeaveTheHistoryAsItWas(t *testing.T) {
	fsys, s := mergeStore(t)
	held := mustSnapshot(t, s)
	before := historyOf(t, held)
	files := runFiles(t, fsys)
	if merged(t, s) == 0 {
		t.Fatal("nothing was merged")
	}
	check := func(when string) {
		t.Helper()
		n := mustSnapshot(t, s)
		defer n.Release()
		if got := historyOf(t, n); fmt.Sprint(got) != fmt.Sprint(before) {
			t.Fatalf("%s the history is\n%v\nit was\n%v", when, got, before)
		}
		if len(n.view.runs) != 2 { // one of imports, one of flushes
			t.Fatalf("%s there are %d runs", when, len(n.view.runs))
		}
	}
	check("after merges")
	if got := historyOf(t, held); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Fatalf("a snapshot from before the merges has the history\n%v\nit was\n%v", got, before)
	}
	if n := runFiles(t, fsys); n < files {
		t.Fatalf("%d run files, a snapshot reads %d", n, files)
	}
	held.Release()
	if n := runFiles(t, fsys); n != 2 {
		t.Fatalf("%d run files after the last snapshot that read them, want 2", n)
	}
	mustClose(t, s)
	s = mustOpen(t, testOptions(fsys, 2))
	check("after a replay of REPLACE")
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, write(t, patient, "a", "last"))
	if err := s.checkpointNow(); err != nil {
		t.Fatal(err)
	}
	n := mustSnapshot(t, s)
	before = historyOf(t, n)
	n.Release()
	mustClose(t, s)
	s = mustOpen(t, testOptions(fsys, 3))
	check("after a checkpoint with merged runs")
	mustClose(t, s)
	if problems := fsckAll(t, fsys); len(problems) > 0 {
		t.Fatalf("Fsck: %+v", problems)
	}
}

func (s *Store) checkpointNow() error {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	return s.checkpoint(context.Background())
}

// TestMarksMadeDuringAMergeAreKept: a commit and an import that supersede rows
// of the inputs while the result is written, and an import that looked its
// places up before and is published after.
func TestMarksMadeDuringAMergeAreKept(t *testing.T) {
	fsys, s := mergeStore(t)
	early, err := s.BeginIngest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	key := index.AppendKey(nil, patient, []byte("r3"))
	versions, err := early.Snapshot().KeyLookup().Versions(key)
	if err != nil || len(versions) != 4 || versions[0].Place.Run == 0 {
		t.Fatalf("versions of r3: %+v, %v", versions, err)
	}
	early.Supersede(key, versions[0].Place)
	var merges []*merge
	var metas []index.RunMeta
	for { // one merge of imports and one of flushes
		m, err := s.beginMerge(mergeSmall)
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			break
		}
		meta, err := s.buildMerge(context.Background(), m)
		if err != nil {
			t.Fatal(err)
		}
		merges, metas = append(merges, m), append(metas, meta)
	}
	mustCommit(t, s, write(t, patient, "a", "new"), Change{Type: patient, ID: []byte("r2"), Delete: true})
	importSome(t, s, 9)
	for i, m := range merges {
		if err := s.finishMerge(context.Background(), m, metas[i]); err != nil {
			t.Fatal(err)
		}
		s.endMerge(m)
	}
	merged(t, s)
	if err := early.Publish(context.Background(), 2, nil, nil); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	problems := fsckAll(t, fsys)
	if len(problems) > 0 {
		// The early import superseded r3 and put nothing in its place, but the
		// other one did.
		t.Fatalf("Fsck: %+v", problems)
	}
}

func TestReplaceOfWhatIsNotThereIsDamage(t *testing.T) {
	f := func(change func(*replaceRecord)) {
		t.Helper()
		fsys, s := mergeStore(t)
		m, err := s.beginMerge(mergeSmall)
		if err != nil || m == nil {
			t.Fatal(m, err)
		}
		meta, err := s.buildMerge(context.Background(), m)
		if err != nil {
			t.Fatal(err)
		}
		rec := replaceRecord{meta: meta}
		for _, r := range m.inputs {
			rec.inputs = append(rec.inputs, r.run.Meta().ID)
		}
		change(&rec)
		err = s.inSlot(context.Background(), func() error {
			_, err := s.append([]wal.Entry{{Type: wal.TypeReplace, Payload: rec.marshal()}})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		s.endMerge(m)
		mustClose(t, s)
		var damage *vfs.CorruptError
		if _, err := Open(context.Background(), testOptions(fsys, 2)); !errors.As(err, &damage) {
			t.Fatalf("Open: %v, want damage", err)
		}
		if problems := fsckAll(t, fsys); len(problems) == 0 {
			t.Fatal("Fsck finds nothing")
		}
	}
	f(func(r *replaceRecord) { r.inputs[0] = 99 })
	f(func(r *replaceRecord) { r.inputs[0], r.inputs[1] = r.inputs[1], r.inputs[0] })
	f(func(r *replaceRecord) { r.inputs = r.inputs[:1] })
	f(func(r *replaceRecord) { r.meta.Rows++ })
	f(func(r *replaceRecord) { r.meta.Hash++ })
	f(func(r *replaceRecord) { r.meta.ID = r.inputs[1] })
}

func TestDamagedRunsAreNotMergedAgain(t *testing.T) {
	fsys, s := mergeStore(t)
	n := mustSnapshot(t, s)
	name := "/data/runs/" + runFileName(uint64(n.view.byAge[0].run.Meta().ID))
	n.Release()
	flip(t, fsys, name, 40)
	_, err := s.mergeOnce(context.Background(), mergeSmall)
	var damage *vfs.CorruptError
	if !errors.As(err, &damage) || damage.File != name {
		t.Fatalf("the merge of a damaged run: %v", err)
	}
	merged(t, s) // the others
	n = mustSnapshot(t, s)
	if !n.view.byAge[0].unmergeable {
		t.Fatal("the damaged run would be merged again and again")
	}
	n.Release()
	mustClose(t, s)
}

func TestMergesWaitForSpace(t *testing.T) {
	fsys := vfs.NewMem(1)
	opts := testOptions(fsys, 1)
	opts.MergeFanIn, opts.FreeBytesMin = 2, 1<<20
	fsys.SetCapacity(1 << 30)
	s := mustOpen(t, opts)
	for i := range 3 {
		importSome(t, s, i)
	}
	free, err := fsys.FreeBytes("/data")
	if err != nil {
		t.Fatal(err)
	}
	fsys.SetCapacity(1<<30 - free + 1<<20 + 10)
	if merged(t, s) != 0 || s.Stats().MergeStalls == 0 {
		t.Fatalf("a merge took the last space: %+v", s.Stats())
	}
	fsys.SetCapacity(1 << 30)
	if merged(t, s) == 0 {
		t.Fatal("nothing is merged when there is space again")
	}
	mustClose(t, s)
}

// importRuns imports one round of several runs with one new resource each, all
// of one date.
func importRuns(t *testing.T, s *Store, round, runs int) {
	t.Helper()
	g, err := s.BeginIngest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i := range runs {
		b, err := s.NewRun()
		if err != nil {
			t.Fatal(err)
		}
		for j := range 3 {
			c := write(t, patient, fmt.Sprintf("m-%d-%d-%d", round, i, j), "x")
			if _, err := b.Append(c.Type, c.ID, c.IDAt, c.Body, c.Splice); err != nil {
				t.Fatal(err)
			}
		}
		b.SortKeys()
		for o := range index.Ordinal(3) {
			if o == 1 && i%2 == 1 {
				b.Drop(o)
				continue
			}
			b.SetRow(o, index.Row{Type: patient, VersionID: 1, LastUpdated: fhir.Instant{Milli: 5, OffsetMinutes: fhir.OffsetZ}})
		}
		meta, err := b.Seal(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Add(meta, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Publish(context.Background(), 1, nil, nil); err != nil {
		t.Fatal(err)
	}
}

// TestCursorsOutliveMerges pages through versions of one date, of records with
// several runs each, one version a page, while neighbours are merged at random.
func TestCursorsOutliveMerges(t *testing.T) {
	for seed := range uint64(30) {
		fsys := vfs.NewMem(1)
		s := mustOpen(t, testOptions(fsys, 1))
		rng := rand.New(rand.NewPCG(seed, 1))
		oldestFirst := seed%2 == 1
		for round := range 4 {
			importRuns(t, s, round, 1+rng.IntN(4))
		}
		n := mustSnapshot(t, s)
		before := historyOf(t, n)
		n.Release()
		var got []string
		var cursor HistoryCursor
		for more := true; more; {
			if rng.IntN(3) == 0 {
				mergeSome(t, s, rng)
			}
			n := mustSnapshot(t, s)
			var err error
			cursor, more, err = n.History(context.Background(), HistoryQuery{Count: 1, After: cursor, OldestFirst: oldestFirst}, func(v *Version) error {
				got = append(got, historyLine(v))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if now := historyOf(t, n); !slices.Equal(now, before) {
				t.Fatalf("seed %d: a merge changed the history from\n%q to\n%q", seed, before, now)
			}
			n.Release()
		}
		if oldestFirst {
			slices.Reverse(got)
		}
		if !slices.Equal(got, before) {
			t.Fatalf("seed %d: the pages have\n%q, the whole\n%q", seed, got, before)
		}
		mustClose(t, s)
	}
}

// mergeSome merges some neighbours, whatever a choice would say.
func mergeSome(t *testing.T, s *Store, rng *rand.Rand) {
	t.Helper()
	n := mustSnapshot(t, s)
	runs := n.view.byAge
	if len(runs) < 2 {
		n.Release()
		return
	}
	from := rng.IntN(len(runs) - 1)
	m := &merge{snap: n, inputs: runs[from : from+2+rng.IntN(min(3, len(runs)-from-1))]}
	meta, err := s.buildMerge(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.finishMerge(context.Background(), m, meta); err != nil {
		t.Fatal(err)
	}
	s.endMerge(m)
}
