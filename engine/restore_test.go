package engine

import (
	"context"
	"errors"
	"testing"

	"kiln/fhir/search"
	"kiln/internal/vfs"
)

// restoreView makes a store of a view in another directory of the same disk.
func restoreView(t *testing.T, fsys vfs.FS, v *BackupView, opts Options) *Store {
	t.Helper()
	ctx := context.Background()
	plan, err := NewRestorePlan("the view", v.Checkpoint)
	if err == nil {
		err = v.Log(ctx, plan.Next(), func(r LogRecord) error { return plan.Apply(ctx, r) })
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := BeginRestore(fsys, opts.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range v.Runs {
		data, err := vfs.ReadFile(fsys, run.Path, 1<<20)
		if err == nil {
			err = vfs.WriteFileAtomic(fsys, r.RunPath(run.Meta), data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(ctx, opts); !errors.Is(err, ErrUnfinished) {
		t.Errorf("before the end of a restore the directory opens with: %v", err)
	}
	_, err = r.Finish(ctx, plan, func(from uint64, fn func(LogRecord) error) error { return v.Log(ctx, from, fn) }, RestoreOptions{
		NewID: opts.NewID, SegmentBytes: opts.SegmentBytes, Check: true, Versions: v.Versions,
		Report: func(p Problem) { t.Errorf("%+v", p) },
	})
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, opts)
}

// Added fields come along, with the terms that runs have of them; the progress of
// imports does not: it counts files that are not restored.
func TestRestoreKeepsFieldsAndNoProgress(t *testing.T) {
	fsys := vfs.NewMem(1)
	s := mustOpen(t, testOptions(fsys, 1))
	defer mustClose(t, s)
	f := define(t, s, search.String, "http://x")
	mustCommit(t, s, extended(t, "a", `{"url":"http://x","valueString":"v"}`))
	mustIngestProgress(t, s, 7)
	v, err := s.BeginBackup(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Release()
	mustCommit(t, s, extended(t, "b", `{"url":"http://x","valueString":"v"}`))
	opts := testOptions(fsys, 2)
	opts.Dir = "/other"
	r := restoreView(t, fsys, v, opts)
	defer mustClose(t, r)
	if got := having(t, r, r.Field(f)); got != "a" {
		t.Errorf("the restored store finds %q", got)
	}
	if s.Progress(7) == nil || r.Progress(7) != nil {
		t.Errorf("progress is %q, in the restored store %q", s.Progress(7), r.Progress(7))
	}
}

func mustIngestProgress(t *testing.T, s *Store, job uint64) {
	t.Helper()
	g, err := s.BeginIngest(context.Background())
	if err == nil {
		err = errors.Join(g.Publish(context.Background(), job, nil, func() []byte { return []byte("half") }), g.Abandon())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A backup holds what it needs on the disk while flushes trim the log, and lets go
// of it when it is released.
func TestBackupHoldsTheLog(t *testing.T) {
	fsys := vfs.NewMem(1)
	opts := testOptions(fsys, 1)
	opts.SegmentBytes = 4 << 10
	s := mustOpen(t, opts)
	defer mustClose(t, s)
	mustCommit(t, s, write(t, patient, "a", "x"))
	v, err := s.BeginBackup(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	fill := func() {
		for range 3 {
			for i := range 26 {
				mustCommit(t, s, write(t, patient, "b", string(rune('A'+i))))
			}
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill()
	if first := s.log.FirstLSN(); first != 1 {
		t.Errorf("the log begins at LSN %d while a backup holds it", first)
	}
	records := 0
	if err := v.Log(context.Background(), 1, func(LogRecord) error { records++; return nil }); err != nil || uint64(records) != v.LSN {
		t.Errorf("the view gives %d records of %d: %v", records, v.LSN, err)
	}
	v.Release()
	v.Release()
	fill()
	if first := s.log.FirstLSN(); first == 1 {
		t.Error("the log is held for ever")
	}
}
