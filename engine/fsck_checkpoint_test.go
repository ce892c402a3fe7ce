package engine

import (
	"path"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/internal/vfs"
)

// TestFsckComparesTheCheckpoints changes the newest checkpoint, under a hash that is right, so that all else
// agrees with it.
func TestFsckComparesTheCheckpoints(t *testing.T) {
	f := func(what string, change func(c *checkpointFile)) {
		t.Helper()
		fsys := smallStore(t)
		names, err := fsys.List("/data/checkpoint")
		if err != nil || len(names) != 2 {
			t.Fatal(names, err)
		}
		name := path.Join("/data/checkpoint", names[1])
		data, err := vfs.ReadFile(fsys, name, checkpointBytesMax)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseCheckpoint(name, data)
		if err != nil || len(c.runs) != 2 {
			t.Fatal(c, err)
		}
		change(c)
		if data, err = c.marshal(); err != nil {
			t.Fatal(err)
		}
		overwrite(t, fsys, name, string(data))
		problems := fsckAll(t, fsys)
		if len(problems) != 1 || problems[0].File != name || !strings.Contains(problems[0].What, what) {
			t.Errorf("%s: %+v", what, problems)
		}
	}
	f("rows are void", func(c *checkpointFile) { c.runs[0].void = roaring.BitmapOf(0) })
	f("was published at LSN", func(c *checkpointFile) { c.runs[1].publishLSN-- })
	f("kind", func(c *checkpointFile) { c.runs[0].kind = ingestMerged })
	f("the clock is at", func(c *checkpointFile) { c.clock -= 1_000_000 })
	f("the next run is", func(c *checkpointFile) { c.nextRun = 1 })
	f("the progress of 0 imports", func(c *checkpointFile) { c.progress[7] = []byte("{}") })
}

// TestFsckNeedsTheLogOfTheOlderCheckpoint: should the newest rot, the older one must lead to the same state.
func TestFsckNeedsTheLogOfTheOlderCheckpoint(t *testing.T) {
	fsys := smallStore(t)
	names, err := fsys.List("/data/checkpoint")
	if err != nil || len(names) != 2 {
		t.Fatal(names, err)
	}
	name := path.Join("/data/checkpoint", names[0])
	data, err := vfs.ReadFile(fsys, name, checkpointBytesMax)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseCheckpoint(name, data)
	if err != nil || len(c.runs) == 0 {
		t.Fatal(c, err)
	}
	c.runs[0].superseded = nil // what the log says later does not say this again
	if data, err = c.marshal(); err != nil {
		t.Fatal(err)
	}
	overwrite(t, fsys, name, string(data))
	problems := fsckAll(t, fsys)
	if len(problems) != 1 || !strings.Contains(problems[0].What, "rows are superseded") {
		t.Errorf("%+v", problems)
	}
}
