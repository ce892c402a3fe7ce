package engine

import (
	"fmt"
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
