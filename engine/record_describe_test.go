package engine

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"kiln/internal/vfs"
	"kiln/wal"
)

// What each record of a store does is told in words.
func TestRecordsAreDescribed(t *testing.T) {
	fsys := vfs.NewMem(1)
	s := mustOpen(t, mergingOptions(fsys, 1))
	for i := range 3 {
		mustCommit(t, s, patientNamed("a", fmt.Sprint("Chalmers", i)), patientNamed(fmt.Sprint("b", i), "Windsor"))
		mustFlush(t, s)
	}
	if merged, err := s.mergeOnce(context.Background(), mergeSmall); !merged || err != nil {
		t.Fatalf("merged %t, %v", merged, err)
	}
	if _, err := s.Purge(context.Background(), patient, []byte("a"), PurgeHistory, Precondition{}); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, patientNamed("c", "Windsor"))
	if _, err := s.Purge(context.Background(), patient, []byte("c"), PurgeAll, Precondition{}); err != nil {
		t.Fatal(err)
	}
	fields, err := newFields(&simDefinitions[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DefineFields(context.Background(), fields); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	all := ""
	if _, err := wal.Dump(context.Background(), fsys, "/data/"+logDir, func(r wal.Record) error {
		all += DescribeRecord(r) + "\n"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 versions\n", "flushes up to LSN 1, run 0000000000000001 of 2 rows (0 superseded, 0 void)\n",
		"of LSN 2, runs have all up to LSN", "run 0000000000000004 of 4 rows, 4 live, ", " bytes, for 0000000000000002 0000000000000003\n",
		"takes out 1 rows of run 0000000000000001, 1 rows of run 0000000000000004\n", "takes out 1 of the head\n", "32768 Patient.extension.where(url='e').value.as(code)\n",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the records are not told as %q:\n%s", want, all)
		}
	}
	if got := DescribeRecord(wal.Record{Type: wal.TypeReplace, Payload: []byte("x")}); !strings.HasPrefix(got, "cannot be read: ") {
		t.Errorf("a damaged record is told as %q", got)
	}
}
