package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
		if err := Fsck(context.Background(), FsckOptions{FS: vfs.OS(), Dir: dir, Temp: t.TempDir(), Report: func(p Problem) { found = append(found, p) }}); err != nil {
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

// A catalog that is gone as a whole is no new one: the store does not open, fsck says
// why, and a repair makes an empty one.
func TestFsckFindsThatTheCatalogIsGone(t *testing.T) {
	for _, remove := range []func(dir string) error{
		os.RemoveAll,
		func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)) },
	} {
		dir, _ := catalogFiles(t, true)
		if err := remove(filepath.Join(dir, catalogDir)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(context.Background(), catalogOf(dir)); !isNamed(err) {
			t.Errorf("Open: %v", err)
		}
		if err := remove(filepath.Join(dir, catalogDir)); err != nil {
			t.Fatal(err)
		}
		var found []Problem
		if err := Fsck(context.Background(), FsckOptions{FS: vfs.OS(), Dir: dir, Temp: t.TempDir(), Report: func(p Problem) { found = append(found, p) }}); err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || !strings.Contains(found[0].What, "gone") {
			t.Errorf("found %+v", found)
		}
		mustRepairCatalog(t, dir)
	}
}

// catalogFiles are the files of a catalog with some values, closed or as a process
// leaves them that is killed.
func catalogFiles(t *testing.T, closed bool) (dir string, want map[string]string) {
	t.Helper()
	dir, want = t.TempDir(), map[string]string{}
	s := mustOpen(t, catalogOf(dir))
	for i := range 12 {
		key := fmt.Sprint("job/", i%8)
		want[key] = strings.Repeat(fmt.Sprint(i, " "), 1+i*20)
		if err := s.CatalogPut(key, []byte(want[key])); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CatalogDelete("job/3"); err != nil {
		t.Fatal(err)
	}
	delete(want, "job/3")
	if closed {
		mustClose(t, s)
		return dir, want
	}
	left := t.TempDir()
	copyStore(t, dir, left)
	mustClose(t, s)
	return left, want
}

func catalogOf(dir string) Options {
	return Options{FS: vfs.OS(), Dir: dir, Now: time.Now, NewID: rand.Uint64, Logger: discardLogger(), FreeBytesMin: -1, SegmentBytes: 1 << 16}
}

func copyStore(t *testing.T, from, to string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := os.MkdirAll(filepath.Join(to, entry.Name()), 0o755); err != nil {
				t.Fatal(err)
			}
			copyStore(t, filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name()))
		} else if err := copyFile(vfs.OS(), filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFlipsOfTheCatalog changes bytes of Badger's files and of CATALOG: every value is
// there as it was, or opening says that the catalog is damaged, and so does fsck; a
// repair sets the catalog aside.
func TestFlipsOfTheCatalog(t *testing.T) {
	for _, closed := range []bool{true, false} {
		dir, want := catalogFiles(t, closed)
		tried, right, named := 0, 0, 0
		for _, place := range catalogPlaces(t, dir) {
			damaged := t.TempDir()
			copyStore(t, dir, damaged)
			flipReal(t, filepath.Join(damaged, place.name), place.at)
			tried++
			problems := 0
			if err := Fsck(context.Background(), FsckOptions{FS: vfs.OS(), Dir: damaged, Temp: t.TempDir(), Report: func(Problem) { problems++ }}); err != nil {
				t.Errorf("%+v: fsck: %v", place, err)
			}
			wrong, err := readCatalog(damaged, want)
			switch {
			case err == nil && wrong == "":
				right++
			case err != nil && isNamed(err) && problems > 0:
				named++
				mustRepairCatalog(t, damaged)
			default:
				t.Errorf("%+v: %s %v; fsck found %d", place, wrong, err, problems)
			}
			if err := os.RemoveAll(damaged); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("catalog, closed %t: %d tried, %d right answers, %d named errors", closed, tried, right, named)
	}
}

type catalogPlace struct {
	name string
	at   int64
}

// catalogPlaces are offsets where something stands, and a few of zeros.
func catalogPlaces(t *testing.T, dir string) (places []catalogPlace) {
	t.Helper()
	each := 1
	if everyFlip() {
		each = 60
	}
	names, err := filepath.Glob(filepath.Join(dir, catalogDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, filepath.Join(dir, catalogMarkName)) {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		short, err := filepath.Rel(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		used := len(bytes.TrimRight(content, "\x00"))
		for i := range min(each, used) {
			at := used*i/min(each, used) + int(envNumber("SEED", 1))*13
			places = append(places, catalogPlace{short, int64(at % used)})
		}
		if used < len(content) && used > 0 && everyFlip() {
			places = append(places, catalogPlace{short, int64(used+len(content)) / 2})
		}
	}
	return places
}

func flipReal(t *testing.T, name string, at int64) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = file.ReadAt(b[:], at)
	b[0] ^= 1 << (at % 8)
	if err == nil {
		_, err = file.WriteAt(b[:], at)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

// readCatalog opens a store and compares its catalog.
func readCatalog(dir string, want map[string]string) (wrong string, err error) {
	s, err := Open(context.Background(), catalogOf(dir))
	if err != nil {
		return "", err
	}
	defer s.Close()
	have := map[string]string{}
	err = s.CatalogList("", func(key string, value []byte) error { have[key] = string(value); return nil })
	for key := range want {
		if value, getErr := s.CatalogGet(key); err == nil && (getErr != nil || string(value) != want[key]) {
			return fmt.Sprintf("%s is %d bytes, %v", key, len(value), getErr), nil
		}
	}
	if err == nil && !maps.Equal(have, want) {
		wrong = fmt.Sprintf("%d values, want %d", len(have), len(want))
	}
	return wrong, err
}

func mustRepairCatalog(t *testing.T, dir string) {
	t.Helper()
	_, err := Repair(context.Background(), RepairOptions{FS: vfs.OS(), Dir: dir, NewID: rand.Uint64, SegmentBytes: 1 << 16})
	if err != nil {
		t.Fatalf("repair: %v", err)
	}
	if wrong, err := readCatalog(dir, map[string]string{}); wrong != "" || err != nil {
		t.Fatalf("after a repair: %s, %v", wrong, err)
	}
}
