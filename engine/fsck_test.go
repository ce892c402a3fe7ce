package engine

import (
	"context"
	"path"
	"strings"
	"testing"

	"kiln/index"
	"kiln/internal/vfs"
)

func fsckAll(t *testing.T, fsys vfs.FS) []Problem {
	t.Helper()
	var problems []Problem
	if err := Fsck(context.Background(), FsckOptions{FS: fsys, Dir: "/data", Report: func(p Problem) { problems = append(problems, p) }}); err != nil {
		t.Fatalf("Fsck: %v", err)
	}
	return problems
}

func TestFsckFindsNothingInASoundStore(t *testing.T) {
	if problems := fsckAll(t, smallStore(t)); len(problems) != 0 {
		t.Fatalf("Fsck: %+v", problems)
	}
}

func TestFsckNamesTheDamagedFile(t *testing.T) {
	f := func(dir string, offset int64) {
		t.Helper()
		fsys := smallStore(t)
		names, err := fsys.List(path.Join("/data", dir))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		name := path.Join("/data", dir, names[len(names)-1])
		flip(t, fsys, name, offset)
		problems := fsckAll(t, fsys)
		if len(problems) == 0 || !strings.HasPrefix(problems[0].File, path.Join("/data", dir)) {
			t.Fatalf("Fsck after a flip in %q: %+v", name, problems)
		}
	}
	f(runsDir, 100)
	f(checkpointsDir, 100)
	f(logDir, 20)
}

func TestFsckFindsAMissingRun(t *testing.T) {
	fsys := smallStore(t)
	removeAllIn(t, fsys, "/data/runs")
	if problems := fsckAll(t, fsys); len(problems) == 0 {
		t.Fatal("Fsck finds nothing")
	}
}

// TestFsckFindsWrongCurrency imports a version without saying what it supersedes.
func TestFsckFindsWrongCurrency(t *testing.T) {
	fsys := vfs.NewMem(1)
	s := mustOpen(t, testOptions(fsys, 1))
	mustCommit(t, s, write(t, patient, "a", "one"))
	g, err := s.BeginIngest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.NewRun()
	if err != nil {
		t.Fatal(err)
	}
	c := write(t, patient, "a", "two")
	o, err := b.Append(c.Type, c.ID, c.IDAt, c.Body, c.Splice)
	if err != nil {
		t.Fatal(err)
	}
	b.SortKeys()
	b.SetRow(o, index.Row{Type: patient, VersionID: 2, LastUpdated: g.Instant()})
	meta, err := b.Seal(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Add(meta, nil); err != nil {
		t.Fatal(err)
	}
	if err := g.Publish(context.Background(), 1, nil, nil); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	problems := fsckAll(t, fsys)
	if len(problems) != 1 || !strings.Contains(problems[0].What, "Patient/a") {
		t.Fatalf("Fsck: %+v", problems)
	}
}
