package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"testing"

	"kiln/internal/vfs"
)

// tree is every file below dir with its content.
func tree(t *testing.T, fsys vfs.FS, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	names, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		name = path.Join(dir, name)
		info, err := fsys.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir {
			for n, content := range tree(t, fsys, name) {
				files[n] = content
			}
			continue
		}
		data, err := vfs.ReadFile(fsys, name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(data)
	}
	return files
}

func TestOpenRefusesAndTouchesNothing(t *testing.T) {
	f := func(want error, spoil func(fsys *vfs.Mem)) {
		t.Helper()
		fsys := smallStore(t)
		spoil(fsys)
		before := tree(t, fsys, "/data")
		s, err := Open(context.Background(), testOptions(fsys, 9))
		if err == nil {
			_ = s.Close()
		}
		var corrupt *vfs.CorruptError
		if !errors.Is(err, want) && (want != nil || !errors.As(err, &corrupt)) {
			t.Fatalf("Open: %v, want %v (nil: damage)", err, want)
		}
		if err != nil && errors.As(err, &corrupt) && !strings.HasPrefix(corrupt.File, "/data") {
			t.Fatalf("the damage names file %q", corrupt.File)
		}
		if want == nil && !strings.Contains(err.Error(), "kiln repair") {
			t.Fatalf("the refusal does not say what to do: %v", err)
		}
		for name, content := range tree(t, fsys, "/data") {
			if before[name] != content {
				t.Fatalf("a refused Open changed %q", name)
			}
			delete(before, name)
		}
		if len(before) != 0 {
			t.Fatalf("a refused Open removed %d files", len(before))
		}
	}
	f(ErrForeign, func(fsys *vfs.Mem) { overwrite(t, fsys, "/data/FORMAT", "something else 1\n") })
	f(ErrForeign, func(fsys *vfs.Mem) { remove(t, fsys, "/data/FORMAT") })
	f(ErrNewerFormat, func(fsys *vfs.Mem) { overwrite(t, fsys, "/data/FORMAT", "kiln-data 3\nwhatever\n") })
	f(nil, func(fsys *vfs.Mem) { overwrite(t, fsys, "/data/FORMAT", "kiln-data 1\n0000000000000001\n00000000\n") })
	f(nil, func(fsys *vfs.Mem) { removeAllIn(t, fsys, "/data/log") })
	f(nil, func(fsys *vfs.Mem) { removeAllIn(t, fsys, "/data/checkpoint") })
	f(nil, func(fsys *vfs.Mem) { removeAllIn(t, fsys, "/data/runs") })
	f(ErrLocked, func(fsys *vfs.Mem) {
		if _, err := fsys.Lock("/data/LOCK"); err != nil {
			t.Fatal(err)
		}
	})
}

// smallStore has a run, a head and two checkpoints.
func smallStore(t *testing.T) *vfs.Mem {
	t.Helper()
	fsys := vfs.NewMem(1)
	opts := testOptions(fsys, 1)
	opts.SegmentBytes = 4 << 10
	s := mustOpen(t, opts)
	for i := range 6 {
		mustCommit(t, s, write(t, patient, "a", fmt.Sprint(i)), write(t, patient, fmt.Sprint("id-", i), "x"))
		if i == 1 || i == 3 {
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustCommit(t, s, Change{Type: patient, ID: []byte("id-1"), Delete: true})
	mustClose(t, s)
	return fsys
}

func overwrite(t *testing.T, fsys vfs.FS, name, content string) {
	t.Helper()
	if err := vfs.WriteFileAtomic(fsys, name, []byte(content)); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, fsys vfs.FS, name string) {
	t.Helper()
	if err := fsys.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func removeAllIn(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	names, err := fsys.List(dir)
	if err != nil || len(names) == 0 {
		t.Fatalf("List %q: %v, %v", dir, names, err)
	}
	for _, name := range names {
		remove(t, fsys, path.Join(dir, name))
	}
}

func TestOpenRefusesAForeignDirectory(t *testing.T) {
	fsys := vfs.NewMem(1)
	if err := fsys.MkdirAll("/data"); err != nil {
		t.Fatal(err)
	}
	overwrite(t, fsys, "/data/notes.txt", "mine")
	if _, err := Open(context.Background(), testOptions(fsys, 1)); !errors.Is(err, ErrForeign) {
		t.Fatalf("Open: %v", err)
	}
	if files := tree(t, fsys, "/data"); len(files) != 1 {
		t.Fatalf("the directory now has %v", files)
	}
}

func TestOpenRemovesWhatACrashLeft(t *testing.T) {
	fsys := smallStore(t)
	orphan, temp := "/data/runs/00000000000000ff.run", "/data/runs/0000000000000100.run.tmp"
	overwrite(t, fsys, orphan, "never published")
	overwrite(t, fsys, temp, "never finished")
	s := mustOpen(t, testOptions(fsys, 2))
	mustClose(t, s)
	files := tree(t, fsys, "/data")
	if _, ok := files[orphan]; ok {
		t.Error("the orphan is still there")
	}
	if _, ok := files[temp]; ok {
		t.Error("the unfinished file is still there")
	}
}

func flip(t *testing.T, fsys vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fsys.OpenWrite(name)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// Whoever made an empty data directory may not have synced it: a power cut
// would take it with the store in it.
func TestNewStoreSyncsWhatItIsIn(t *testing.T) {
	fsys, synced := newSyncWatch(t, "/srv/data")
	mustClose(t, mustOpen(t, dirOptions(fsys)))
	if !synced("/srv") || !synced("/srv/data") {
		t.Error("the data directory may be lost")
	}
}

func dirOptions(fsys vfs.FS) Options {
	opts := testOptions(fsys, 1)
	opts.Dir = "/srv/data/"
	return opts
}

// newSyncWatch is a file system with directories; synced tells which were
// synced since.
func newSyncWatch(t *testing.T, dirs ...string) (fsys *vfs.Mem, synced func(dir string) bool) {
	t.Helper()
	fsys = vfs.NewMem(1)
	for _, dir := range dirs {
		if err := fsys.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	return fsys, watchSyncs(fsys)
}

func watchSyncs(fsys *vfs.Mem) (synced func(dir string) bool) {
	var names []string
	fsys.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSyncDir {
			names = append(names, path.Clean(op.Name))
		}
		return nil
	})
	return func(dir string) bool { return slices.Contains(names, dir) }
}

// A parent that may not be opened is not in the way, nor is one that fails
// passed over.
func TestParentOfNewStoreThatCannotBeSynced(t *testing.T) {
	f := func(failure error, ok bool) {
		t.Helper()
		fsys := vfs.NewMem(1)
		fsys.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSyncDir && op.Name == "/" {
				return failure
			}
			return nil
		})
		opts := testOptions(fsys, 1)
		opts.Logger = slog.New(slog.DiscardHandler)
		s, err := Open(context.Background(), opts)
		if (err == nil) != ok {
			t.Errorf("%v: open says %v", failure, err)
		}
		if err == nil {
			mustClose(t, s)
		}
	}
	f(fs.ErrPermission, true)
	f(io.ErrUnexpectedEOF, false)
}
