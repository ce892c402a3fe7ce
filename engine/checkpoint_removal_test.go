package engine

import (
	"fmt"
	"path"
	"slices"
	"syscall"
	"testing"

	"kiln/internal/vfs"
)

// A checkpoint that is removed stays so after a power cut: its log is trimmed, and
// it would count as the spare of the newest.
func TestRemovedCheckpointsDoNotComeBack(t *testing.T) {
	fsys := vfs.NewMem(1)
	s := mustOpen(t, testOptions(fsys, 1))
	for i := range 4 {
		mustCommit(t, s, patientNamed("a", fmt.Sprint("Chalmers", i)))
		mustFlush(t, s)
		for seed := range uint64(8) {
			names, err := fsys.CrashClone(seed).List("/data/" + checkpointsDir)
			if err != nil || len(names) > checkpointsKept {
				t.Fatalf("after a power cut there are %v, %v", names, err)
			}
		}
	}
	mustClose(t, s)
}

// A checkpoint whose write fails at the very end is not counted by the store that
// wrote it, but it is there, and one that is damaged is not counted either: neither
// may be taken for a spare once the log that it needs is trimmed.
func TestUncountedCheckpointsAreRemoved(t *testing.T) {
	fsys := vfs.NewMem(1)
	opts := testOptions(fsys, 1)
	s := mustOpen(t, opts)
	commitAndFlush := func(name string) error {
		mustCommit(t, s, patientNamed("a", name))
		return s.Flush(t.Context())
	}
	if err := commitAndFlush("Chalmers"); err != nil {
		t.Fatal(err)
	}
	dir := "/data/" + checkpointsDir
	fsys.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSyncDir && op.Name == dir {
			return syscall.EIO
		}
		return nil
	})
	if err := commitAndFlush("Windsor"); err == nil {
		t.Fatal("the checkpoint was written although its directory cannot be synced")
	}
	fsys.SetHook(nil)
	for i := range checkpointsKept {
		if err := commitAndFlush(fmt.Sprint("Levin", i)); err != nil {
			t.Fatal(err)
		}
	}
	mustHaveCheckpoints(t, fsys, dir, s)
	newest := path.Join(dir, checkpointFileName(s.checkpoints[checkpointsKept-1].lsn))
	mustClose(t, s)
	if !fsys.FlipBit(newest, 40, 3) {
		t.Fatalf("cannot damage %s", newest)
	}
	s = mustOpen(t, opts)
	if err := commitAndFlush("Notsowell"); err != nil {
		t.Fatal(err)
	}
	mustHaveCheckpoints(t, fsys, dir, s)
	mustClose(t, s)
}

// mustHaveCheckpoints wants two files, those that the store counts.
func mustHaveCheckpoints(t *testing.T, fsys vfs.FS, dir string, s *Store) {
	t.Helper()
	names, err := fsys.List(dir)
	var want []string
	for _, c := range s.checkpoints {
		want = append(want, checkpointFileName(c.lsn))
	}
	if err != nil || !slices.Equal(names, want) || len(want) != checkpointsKept {
		t.Fatalf("the files are %v, %v; the store counts %v", names, err, want)
	}
}
