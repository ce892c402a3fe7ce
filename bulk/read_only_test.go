package bulk

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"kiln/engine"
	"kiln/internal/vfs"
)

// In a store that is opened for reading after a crash, jobs that ran are known and
// rest; those that ended are as they were; nothing about them can be changed.
func TestJobsOfAReadOnlyStore(t *testing.T) {
	opts := engine.Options{
		FS: vfs.OS(), Dir: t.TempDir() + "/data", Now: time.Now, NewID: rand.Uint64, Logger: slog.New(slog.DiscardHandler), MergeFanIn: -1,
	}
	store, err := engine.Open(context.Background(), opts)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{
		jobKey(keyImport, 1): `{"id":1,"state":0,"request":{"Inputs":[{"URL":"file:///a"}]}}`,
		jobKey(keyExport, 2): `{"id":2,"state":0,"request":{"Partial":true},"lsn":1,"sections":[{"last":1}]}`,
		jobKey(keyExport, 3): `{"id":3,"state":1,"request":{}}`,
	} {
		if err := store.CatalogPut(key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	// The process ends here: a copy of what it leaves is what is opened.
	crashed := opts
	crashed.Dir, crashed.ReadOnly, crashed.TempDir = t.TempDir()+"/data", true, t.TempDir()
	copyTree(t, opts.Dir, crashed.Dir)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if store, err = engine.Open(context.Background(), crashed); err != nil {
		t.Fatal(err)
	}
	jobs, err := NewManager(context.Background(), Options{Store: store, Now: time.Now, NewID: rand.Uint64, Logger: opts.Logger})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := jobs.ImportStatus(1); err != nil || s.State != Running || !s.Resting {
		t.Errorf("the import: %+v, %v", s, err)
	}
	if s, err := jobs.ShowExport(2, 10); err != nil || s.State != Running || !s.Resting {
		t.Errorf("the export: %+v, %v", s, err)
	}
	if s, err := jobs.PublishedExport(); err != nil || s.ID != 3 || s.State != Completed {
		t.Errorf("the published export: %+v, %v", s, err)
	}
	for _, err := range []error{jobs.CancelImport(1), jobs.DeleteExport(context.Background(), 2), jobs.DeleteExport(context.Background(), 3)} {
		if !errors.Is(err, engine.ErrOpenedReadOnly) {
			t.Errorf("a change is refused with %v", err)
		}
	}
	if names, err := vfs.OS().List(crashed.TempDir); err != nil || len(names) > 0 {
		t.Errorf("of the copy there is left %v, %v", names, err)
	}
	if err := errors.Join(jobs.Close(), store.Close()); err != nil {
		t.Fatal(err)
	}
}

// copyTree copies files as a crash of the process leaves them.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	fsys := vfs.OS()
	if err := fsys.MkdirAll(to); err != nil {
		t.Fatal(err)
	}
	names, err := fsys.List(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := fsys.Stat(from + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir {
			copyTree(t, from+"/"+name, to+"/"+name)
			continue
		}
		if name == "LOCK" || name == "BALLAST" {
			continue
		}
		text, err := vfs.ReadFile(fsys, from+"/"+name, 1<<30)
		if err == nil {
			err = vfs.WriteFileAtomic(fsys, to+"/"+name, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
