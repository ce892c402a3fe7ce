package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"kiln/internal/vfs"
)

// A process that is killed while Badger removes or makes a log leaves an empty
// one.
func TestOpenAfterCatalogLogWasCutToNothing(t *testing.T) {
	dir := t.TempDir()
	options := func() Options {
		return Options{FS: vfs.OS(), Dir: dir, Now: time.Now, NewID: rand.Uint64, Logger: discardLogger(), FreeBytesMin: -1}
	}
	s := mustOpen(t, options())
	if err := s.CatalogPut("job/1", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, catalogDir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, options())
		value, err := s.CatalogGet("job/1")
		if err != nil || string(value) != "kept" {
			t.Errorf("%s: CatalogGet: %q, %v", name, value, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f("00007.mem")
	f("000009.vlog")
}

// fullDisk tells that almost nothing is free.
type fullDisk struct{ vfs.FS }

func (fullDisk) FreeBytes(string) (int64, error) { return 8 << 10, nil }

func TestOpenWithoutRoomForTheCatalog(t *testing.T) {
	options := Options{FS: vfs.OS(), Dir: t.TempDir(), Now: time.Now, NewID: rand.Uint64, Logger: discardLogger(), FreeBytesMin: -1}
	if err := mustOpen(t, options).Close(); err != nil {
		t.Fatal(err)
	}
	options.FS = fullDisk{options.FS}
	if _, err := Open(context.Background(), options); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Open: %v, want %v", err, ErrNoSpace)
	}
}

func TestFsckFindsADamagedCatalog(t *testing.T) {
	dir := t.TempDir()
	options := Options{FS: vfs.OS(), Dir: dir, Now: time.Now, NewID: rand.Uint64, Logger: discardLogger(), FreeBytesMin: -1}
	s := mustOpen(t, options)
	if err := s.CatalogPut("job/1", make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f := func(name string, at int64, want int) {
		t.Helper()
		path := filepath.Join(dir, catalogDir, name)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := slices.Clone(before)
		if want > 0 {
			damaged[at] ^= 8
		}
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		var found []Problem
		if err := Fsck(context.Background(), vfs.OS(), dir, func(p Problem) { found = append(found, p) }); err != nil {
			t.Fatal(err)
		}
		if len(found) != want {
			t.Errorf("%s, offset %d: found %+v", name, at, found)
		}
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f("MANIFEST", 0, 0)
	f("MANIFEST", 0, 1)
	f("000001.sst", 100, 1)
}
