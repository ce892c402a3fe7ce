package vfs

import (
	"bytes"
	"path/filepath"
	"testing"
)

func TestWriteZerosTakesTheWholeRange(t *testing.T) {
	fsys, name := OS(), filepath.ToSlash(t.TempDir())+"/f"
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := append([]byte("abc"), make([]byte, 2*zeroChunkBytes+5)...)
	if _, err := f.WriteAt(want[:3], 0); err != nil {
		t.Fatal(err)
	}
	if err := writeZeros(f, 3, int64(len(want))); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile(fsys, name, int64(len(want)))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, error %v", len(got), err)
	}
}

func TestDirectoryUnderAFileIsRefused(t *testing.T) {
	dir := filepath.ToSlash(t.TempDir())
	for _, fsys := range []FS{OS(), NewMem(1)} {
		if err := fsys.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
		f, err := fsys.Create(dir + "/f")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if fsys.MkdirAll(dir+"/f") == nil || fsys.MkdirAll(dir+"/f/g") == nil {
			t.Fatal("a file became a directory")
		}
		if _, err := fsys.Create(dir + "/f/g"); err == nil {
			t.Fatal("a file holds a file")
		}
	}
}
