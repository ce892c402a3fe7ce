package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"kiln/internal/vfs"
)

// markDisk is the real disk on which one call on the catalog's mark fails.
type markDisk struct {
	vfs.FS
	on          bool
	calls, fail int
	errno       syscall.Errno
}

func (d *markDisk) check(name string) error {
	if !d.on || !strings.Contains(name, catalogMarkName) {
		return nil
	}
	if d.calls++; d.calls == d.fail {
		return fmt.Errorf("%s: %w", name, d.errno)
	}
	return nil
}

func (d *markDisk) open(name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	if err := d.check(name); err != nil {
		return nil, err
	}
	file, err := open(name)
	if err != nil || !strings.Contains(name, catalogMarkName) {
		return file, err
	}
	return &markFile{file, d}, nil
}

func (d *markDisk) Create(name string) (vfs.File, error)    { return d.open(name, d.FS.Create) }
func (d *markDisk) OpenWrite(name string) (vfs.File, error) { return d.open(name, d.FS.OpenWrite) }
func (d *markDisk) Remove(name string) error                { return errors.Join(d.check(name), d.FS.Remove(name)) }

func (d *markDisk) Rename(from, to string) error {
	if err := d.check(from); err != nil {
		return err
	}
	return d.FS.Rename(from, to)
}

func (d *markDisk) SyncDir(dir string) error {
	if err := d.check(dir + "/" + catalogMarkName); err != nil {
		return err
	}
	return d.FS.SyncDir(dir)
}

type markFile struct {
	vfs.File
	disk *markDisk
}

func (f *markFile) WriteAt(p []byte, at int64) (int, error) {
	if err := f.disk.check(catalogMarkName); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, at)
}

func (f *markFile) Sync() error {
	return errors.Join(f.disk.check(catalogMarkName), f.File.Sync())
}

func (f *markFile) SyncData() error {
	return errors.Join(f.disk.check(catalogMarkName), f.File.SyncData())
}

func (f *markFile) Close() error {
	return errors.Join(f.File.Close(), f.disk.check(catalogMarkName))
}

// Each call on the mark fails once: the change is refused, or was made; what follows
// is made, and the catalog opens with all of it, and is sound.
func TestFaultsOfTheCatalogsMark(t *testing.T) {
	f := func(n int, errno syscall.Errno) bool {
		t.Helper()
		disk := &markDisk{FS: vfs.OS(), fail: n, errno: errno}
		options := Options{FS: disk, Dir: t.TempDir(), Now: time.Now, NewID: rand.Uint64, Logger: discardLogger(), FreeBytesMin: -1, MergeFanIn: -1,
			SegmentBytes: 1 << 15, BallastBytes: -1}
		s := mustOpen(t, options)
		disk.on = true
		refused := map[string]bool{}
		for _, key := range []string{"a", "b", "c"} {
			err := s.CatalogPut(key, []byte(key))
			if refused[key] = err != nil; err != nil && !errors.Is(err, errno) && !errors.Is(err, ErrNoSpace) {
				t.Errorf("%v at call %d: refused with %v", errno, n, err)
			}
		}
		deleted := s.CatalogDelete("c")
		disk.on = false
		if err := s.CatalogPut("d", []byte("d")); err != nil {
			t.Fatalf("%v at call %d: the next change: %v", errno, n, err)
		}
		check := func() {
			t.Helper()
			for _, key := range []string{"a", "b", "c", "d"} {
				value, err := s.CatalogGet(key)
				switch {
				case errors.Is(err, ErrNotFound) && (refused[key] || key == "c"):
				case err == nil && string(value) == key && (key != "c" || deleted != nil):
				default:
					t.Errorf("%v at call %d: %s is %q, %v", errno, n, key, value, err)
				}
			}
		}
		check()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, options)
		check()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n%5 != 1 { // it copies the catalog
			return disk.calls >= n
		}
		err := Fsck(context.Background(), FsckOptions{FS: vfs.OS(), Dir: options.Dir, Temp: t.TempDir(), Report: func(p Problem) { t.Errorf("%v at call %d: %+v", errno, n, p) }})
		if err != nil {
			t.Fatal(err)
		}
		return disk.calls >= n
	}
	n := 1
	for f(n, syscall.EIO) {
		n++
	}
	if n < 12 {
		t.Errorf("%d calls failed; want one of each kind", n-1)
	}
	for n := 1; f(n, syscall.ENOSPC); n += 3 {
	}
}
