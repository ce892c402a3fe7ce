package bulk

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"kiln/internal/vfs"
)

// faults are what a call may fail with, and the status of a job that ends by it.
var faults = map[syscall.Errno]int{syscall.EIO: 500, syscall.ENOSPC: 507}

// failNth fails the n-th call, reads too, on files and folders whose path has a part;
// hit tells whether there was one.
func failNth(disk *vfs.Mem, part string, n int, errno syscall.Errno) (hit *bool) {
	hit = new(bool)
	count := 0
	disk.SetHook(func(op vfs.Op) error {
		if !strings.Contains(op.Name, part) {
			return nil
		}
		if count++; count != n {
			return nil
		}
		*hit = true
		return fmt.Errorf("%s %s: %w", op.Kind, op.Name, errno)
	})
	return hit
}

// Each call on error files fails once: the import fails by name, or went on without
// harm. When the fault is gone the same request ends as an undisturbed one.
func TestImportWhoseErrorFilesFail(t *testing.T) {
	lines := []string{patient("a", ""), "x", patient("b", ""), `{"resourceType":"Patient"}`, patient("#", ""), patient("c", ""), "y"}
	s := makeTestSite(t)
	s.rounds = 1
	urls := []string{s.file("0.ndjson", lines...), s.file("1.ndjson", lines[1:]...)}
	run := func() *ImportStatus {
		t.Helper()
		id, err := s.startFixed(IncrementalLoad, 100, urls)
		if err != nil {
			t.Fatal(err)
		}
		return s.wait(id)
	}
	s.fs = vfs.NewMem(1)
	s.open()
	want := s.testOutcome(run())
	s.close()
	for errno, code := range faults {
		n, failed, hit := 1, 0, new(bool)
		for *hit = true; *hit; n++ {
			disk := vfs.NewMem(1)
			s.fs = disk
			s.open()
			hit = failNth(disk, "/errors", n, errno)
			status := run()
			if status.State == Failed {
				failed++
				if status.Error.Status != code || status.Error.Text == "" {
					t.Errorf("%v at call %d: ended as %+v", errno, n, status.Error)
				}
				disk.SetHook(nil)
				status = run()
			}
			disk.SetHook(nil)
			if status.State != Completed {
				t.Fatalf("%v at call %d: without it the import ends as %+v", errno, n, status.Error)
			}
			if got := s.testOutcome(status); got != want {
				t.Fatalf("%v at call %d: %s", errno, n, firstDifference(got, want))
			}
			s.close()
		}
		t.Logf("%v: %d calls, %d ended the import", errno, n-2, failed)
		if failed < 10 {
			t.Errorf("%v: of %d calls only %d failed the import", errno, n-2, failed)
		}
	}
}

// Each call on exports' files (each third, but in make crash) fails once: the export fails by name and shows no
// file, or has every line. When the fault is gone another one has every line, and
// what failed has left nothing.
func TestExportWhoseFilesFail(t *testing.T) {
	clean := exportDisk(t)
	s := makeTestSite(t)
	s.sectionRows = 20
	step := 3
	if os.Getenv("SEEDS") != "" {
		step = 1
	}
	for errno, code := range faults {
		n, calls, failed, hit := 1, 0, 0, new(bool)
		for *hit = true; *hit; n += step {
			disk := clean.CrashClone(1)
			s.fs = disk
			s.open()
			want := s.lines()
			hit = failNth(disk, "/exports", n, errno)
			calls++
			status := s.runAll()
			disk.SetHook(nil)
			if status.State == Failed {
				failed++
				if status.Error.Status != code || status.Error.Text == "" || len(status.Files) > 0 {
					t.Errorf("%v at call %d: ended as %+v with %d files", errno, n, status.Error, len(status.Files))
				}
				s.checkLeft(status.ID)
				status = s.runAll()
			}
			if status.State != Completed {
				t.Fatalf("%v at call %d: without it an export ends as %+v", errno, n, status.Error)
			}
			if got := s.exported(status); !slices.Equal(got, want) {
				t.Fatalf("%v at call %d: %s", errno, n, firstDifference(strings.Join(got, "\n"), strings.Join(want, "\n")))
			}
			s.close()
		}
		t.Logf("%v: %d calls, %d ended the export", errno, calls-1, failed)
		if failed < 40 {
			t.Errorf("%v: of %d calls only %d failed the export", errno, calls-1, failed)
		}
	}
}

// checkLeft: what a failed export left goes at the next start at the latest.
func (s *testSite) checkLeft(id int64) {
	s.t.Helper()
	s.restartJobs()
	names, err := s.fs.List(s.jobs.exportDir(id))
	if err == nil && len(names) > 0 {
		s.t.Errorf("a failed export left %v", names)
	}
	if _, err := s.jobs.ExportStatus(id); err != nil {
		s.t.Errorf("a failed export is not known any more: %v", err)
	}
	for key := range s.catalog() {
		if strings.HasPrefix(key, keyExportSection) {
			s.t.Errorf("a failed export left %q", key)
		}
	}
}
