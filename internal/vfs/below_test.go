package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestOpenBelowStaysBelow(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, "d"), 0o700))
	must(os.WriteFile(filepath.Join(dir, "d", "f"), []byte("in"), 0o600))
	must(os.WriteFile(filepath.Join(outside, "f"), []byte("out"), 0o600))
	must(os.Symlink(filepath.Join(outside, "f"), filepath.Join(dir, "file")))
	must(os.Symlink(outside, filepath.Join(dir, "folder")))
	must(os.Symlink("../"+filepath.Base(outside), filepath.Join(dir, "relative")))
	must(os.Symlink("d/f", filepath.Join(dir, "inside")))
	f := func(name string, ok bool) {
		t.Helper()
		file, info, err := OpenBelow(dir, name)
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			return
		}
		if !info.Regular || info.Bytes != 2 || info.Modified == 0 {
			t.Errorf("%s: %+v", name, info)
		}
		must(file.Close())
	}
	f("d/f", true)
	f("inside", true)
	f("file", false)
	f("folder/f", false)
	f("relative/f", false)
	f("../"+filepath.Base(outside)+"/f", false)
	f(filepath.Join(outside, "f"), false)
	if _, _, err := OpenBelow(dir, "d"); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a directory: %v", err)
	}
	if _, _, err := OpenBelow(dir, "missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
