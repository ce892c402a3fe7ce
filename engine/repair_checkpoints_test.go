package engine

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/internal/vfs"
)

// checkpointsOf are the names of the two checkpoints of a small store, the newest last.
func checkpointsOf(t *testing.T, fsys vfs.FS) []string {
	t.Helper()
	names, err := fsys.List("/data/checkpoint")
	if err != nil || len(names) != 2 {
		t.Fatal(names, err)
	}
	return []string{path.Join("/data/checkpoint", names[0]), path.Join("/data/checkpoint", names[1])}
}

// changeCheckpoint changes a checkpoint, under a hash that is right.
func changeCheckpoint(t *testing.T, fsys vfs.FS, name string, change func(c *checkpointFile)) {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name, checkpointBytesMax)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseCheckpoint(name, data)
	if err != nil {
		t.Fatal(err)
	}
	change(c)
	if data, err = c.marshal(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, fsys, name, string(data))
}

// contents are all versions of a store, and which is current, as text.
func contents(t *testing.T, fsys *vfs.Mem) string {
	t.Helper()
	s := mustOpen(t, testOptions(fsys, 1))
	defer mustClose(t, s)
	n, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Release()
	var b strings.Builder
	for _, id := range []string{"a", "id-0", "id-1", "id-2", "id-3", "id-4", "id-5"} {
		v, err := n.Get(patient, []byte(id))
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s: current %d %v %s;", id, v.VersionID, v.Deleted, v.Body)
		for version := int64(1); version <= 7; version++ {
			if v, err := n.Vread(patient, []byte(id), version); err == nil {
				fmt.Fprintf(&b, " %d %s", version, v.Body)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestRepairOfCheckpointsThatDoNotAgree: the newest one is wrong under a hash that is
// right. The repaired store is what the older one and the log give, all that was
// otherwise is told by version, and fsck has nothing to say.
func TestRepairOfCheckpointsThatDoNotAgree(t *testing.T) {
	want := contents(t, smallStore(t))
	f := func(name string, told []string, change func(c *checkpointFile)) {
		t.Helper()
		fsys := smallStore(t)
		changeCheckpoint(t, fsys, checkpointsOf(t, fsys)[1], change)
		summary, doubts := repairOf(t, fsys)
		if summary.Lost != 0 || summary.LostRecords != 0 || summary.Doubts != len(told)+1 || !slices.Equal(doubts[1:], told) {
			t.Errorf("%s: %+v, told %q, want %q", name, summary, doubts, told)
		}
		if problems := fsckAll(t, fsys); len(problems) > 0 {
			t.Errorf("%s: fsck of the repaired store: %+v", name, problems)
		}
		if got := contents(t, fsys); got != want {
			t.Errorf("%s: got\n%s, want\n%s", name, got, want)
		}
	}
	f("rows are void", []string{"Patient/a/1 had it as purged", "Patient/id-1/1 had it as purged"}, func(c *checkpointFile) { c.runs[0].void = roaring.BitmapOf(0, 3) })
	f("rows are superseded", []string{"Patient/id-0/1 had it as superseded"}, func(c *checkpointFile) { c.runs[0].superseded.Add(1) })
	f("rows are not superseded", []string{"Patient/a/1 did not have it as superseded"}, func(c *checkpointFile) { c.runs[0].superseded.Remove(0) })
	f("a run is missing", nil, func(c *checkpointFile) { c.runs = c.runs[:1] })
	f("a run too many", []string{"//0 describes the run otherwise, and the file is not that one"}, func(c *checkpointFile) {
		more := c.runs[0]
		more.meta.ID = 900
		c.runs = append(c.runs, more)
	})
	f("the clock is behind", nil, func(c *checkpointFile) { c.clock -= 1_000_000 })
	f("the next run is known", nil, func(c *checkpointFile) { c.nextRun = 1 })
	f("an import that nobody knows", nil, func(c *checkpointFile) { c.progress[7] = []byte("{}") })
}

// TestRepairWhereTheOlderCheckpointIsWrong: nobody can tell, so nothing that the newest
// one shows is lost, and what may be wrong is told.
func TestRepairWhereTheOlderCheckpointIsWrong(t *testing.T) {
	want := contents(t, smallStore(t))
	f := func(name string, same bool, told []string, change func(c *checkpointFile)) {
		t.Helper()
		fsys := smallStore(t)
		changeCheckpoint(t, fsys, checkpointsOf(t, fsys)[0], change)
		summary, doubts := repairOf(t, fsys)
		if summary.Lost != 0 || summary.LostRecords != 0 || !slices.Equal(doubts[1:], told) {
			t.Errorf("%s: %+v, told %q, want %q", name, summary, doubts, told)
		}
		if problems := fsckAll(t, fsys); len(problems) > 0 {
			t.Errorf("%s: fsck of the repaired store: %+v", name, problems)
		}
		if got := contents(t, fsys); (got == want) != same {
			t.Errorf("%s: got\n%s, want\n%s", name, got, want)
		}
	}
	f("a version is void", false, []string{"Patient/id-0/1 had it; by the one before"}, func(c *checkpointFile) { c.runs[0].void = roaring.BitmapOf(1) })
	f("nothing is superseded", true, []string{"Patient/a/1 had it as superseded"}, func(c *checkpointFile) { c.runs[0].superseded = nil })
}

// repairOf repairs a store and gives the doubts that it told, shortened.
func repairOf(t *testing.T, fsys *vfs.Mem) (RepairSummary, []string) {
	t.Helper()
	var doubts []string
	summary, err := Repair(context.Background(), RepairOptions{
		FS: fsys, Dir: "/data", NewID: func() uint64 { return 815 }, SegmentBytes: 4 << 10,
		Report: func(f Finding) error {
			if f.Kind == FoundDoubt {
				text := strings.TrimPrefix(f.What, "the newest checkpoint ")
				text, _, _ = strings.Cut(text, " was purged, or")
				text, _, _ = strings.Cut(text, ", or as no")
				text, _, _ = strings.Cut(text, "; the resource's")
				text, _, _ = strings.Cut(text, " and the log it")
				doubts = append(doubts, fmt.Sprintf("%s/%s/%d %s", f.Type, f.ID, f.Version, text))
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return summary, doubts
}
