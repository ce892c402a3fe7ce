package bulk

import (
	"context"
	"errors"
	"path"
	"testing"

	"kiln/internal/vfs"
)

// A crash after the record of a deleted export is gone, and before its files
// are, leaves nothing for good.
func TestRemainsOfDeletedExportsAreSwept(t *testing.T) {
	s := newTestSite(t)
	s.wait(s.start(IncrementalLoad, 0, s.file("p", patient("a", ""))))
	kept, _ := s.exports(nil)
	deleted, _ := s.exports(nil)
	s.fs.(*vfs.Mem).SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpRemoveAll {
			return errors.New("stopped here")
		}
		return nil
	})
	if err := s.jobs.DeleteExport(context.Background(), deleted.ID); err == nil {
		t.Fatal("the files were removed")
	}
	s.fs.(*vfs.Mem).SetHook(nil)
	dir := s.jobs.exportDir(deleted.ID)
	if names, err := s.fs.List(dir); err != nil || len(names) != 1 {
		t.Fatalf("left are %v, %v", names, err)
	}
	s.restartJobs()
	if _, err := s.fs.Stat(dir); err == nil {
		t.Error("the files of a deleted export are still there")
	}
	if text := s.exportFile(kept.ID, kept.Files[0].Name); text == "" {
		t.Error("the other export has lost its file")
	}
}

// The directory may hold what is not the server's.
func TestSweepLeavesForeignFiles(t *testing.T) {
	s := newTestSite(t)
	status, _ := s.exports(nil)
	if err := s.jobs.DeleteExport(context.Background(), status.ID); err != nil {
		t.Fatal(err)
	}
	root := s.jobs.opts.ExportDir
	foreign := []string{"1/notes.txt", "01/Patient-1-1.ndjson", "2024/Patient-1-1.ndjson", "old/Patient-1-1.ndjson", "-1/Patient-1-1.ndjson"}
	for _, name := range foreign {
		s.write(root + "/" + name)
	}
	s.restartJobs()
	for _, name := range foreign {
		if _, err := s.fs.Stat(root + "/" + name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExportFileNames(t *testing.T) {
	f := func(name string, want bool) {
		t.Helper()
		if isExportFile(name) != want {
			t.Errorf("%q: %t", name, !want)
		}
	}
	f("Patient-1-1.ndjson", true)
	f("Observation-16-203.ndjson", true)
	f("Patient-1.ndjson", false)
	f("Patient-0-1.ndjson", false)
	f("Patient-1-1-1.ndjson", false)
	f("patient-1-1.ndjson", false)
	f("Patient-1-1.json", false)
	f("-1-1.ndjson", false)
}

// restartJobs starts the manager anew on the same store.
func (s *testSite) restartJobs() {
	s.t.Helper()
	options := s.jobs.opts
	if err := s.jobs.Close(); err != nil {
		s.t.Fatal(err)
	}
	var err error
	if s.jobs, err = NewManager(context.Background(), options); err != nil {
		s.t.Fatal(err)
	}
}

// write makes a file with one byte, and its directories, in the store's file system.
func (s *testSite) write(name string) {
	s.t.Helper()
	if err := s.fs.MkdirAll(path.Dir(name)); err != nil {
		s.t.Fatal(err)
	}
	if err := vfs.WriteFileAtomic(s.fs, name, []byte("x")); err != nil {
		s.t.Fatal(err)
	}
}
