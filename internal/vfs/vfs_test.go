package vfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"kiln/internal/vfs"
)

// eachFS runs a test on every implementation, with a directory to work in.
func eachFS(t *testing.T, f func(t *testing.T, fsys vfs.FS, dir string)) {
	t.Run("OS", func(t *testing.T) { f(t, vfs.OS(), filepath.ToSlash(t.TempDir())) })
	t.Run("Mem", func(t *testing.T) {
		m := vfs.NewMem(1)
		must(t, m.MkdirAll("/data"))
		f(t, m, "/data")
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustFail(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func create(t *testing.T, fsys vfs.FS, name, content string) vfs.File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.WriteAt([]byte(content), 0)
	must(t, err)
	return f
}

func content(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name, 1<<20)
	must(t, err)
	return string(data)
}

func TestFilesReadWriteAndGrow(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		f := create(t, fsys, dir+"/a", "hello")
		_, err := f.WriteAt([]byte("x"), 9000)
		must(t, err)
		must(t, f.Sync())
		must(t, f.SyncData())
		must(t, f.Preallocate(10_000))
		must(t, f.Preallocate(100))
		size, err := f.Bytes()
		must(t, err)
		if size != 10_000 {
			t.Fatalf("the length is %d", size)
		}
		must(t, f.Truncate(9001))
		must(t, f.Close())
		want := append(append([]byte("hello"), make([]byte, 8995)...), 'x')
		if got := content(t, fsys, dir+"/a"); got != string(want) {
			t.Fatal("wrong content")
		}
	})
}

func TestShrinkThenGrowReadsZeros(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		f := create(t, fsys, dir+"/a", string(bytes.Repeat([]byte("x"), 20_000)))
		must(t, f.Sync())
		must(t, f.Truncate(10))
		must(t, f.Truncate(20_000))
		must(t, f.Sync())
		want := "xxxxxxxxxx" + string(make([]byte, 19_990))
		if content(t, fsys, dir+"/a") != want {
			t.Fatal("cut bytes came back")
		}
		m, ok := fsys.(*vfs.Mem)
		if !ok {
			return
		}
		must(t, m.SyncDir(dir))
		if content(t, m.CrashClone(1), dir+"/a") != want {
			t.Fatal("cut bytes came back after a crash")
		}
	})
}

func TestNamesAndErrors(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		must(t, fsys.MkdirAll(dir+"/x/y"))
		must(t, fsys.MkdirAll(dir+"/x/y"))
		must(t, create(t, fsys, dir+"/x/b", "1").Close())
		must(t, create(t, fsys, dir+"/x/a", "2").Close())
		_, err := fsys.Create(dir + "/x/a")
		mustFail(t, err, fs.ErrExist)
		_, err = fsys.Open(dir + "/nothing")
		mustFail(t, err, fs.ErrNotExist)
		_, err = fsys.OpenWrite(dir + "/nothing")
		mustFail(t, err, fs.ErrNotExist)
		_, err = fsys.Stat(dir + "/nothing")
		mustFail(t, err, fs.ErrNotExist)
		mustFail(t, fsys.Remove(dir+"/nothing"), fs.ErrNotExist)
		mustFail(t, fsys.Remove(dir+"/x"), syscall.ENOTEMPTY)
		names, err := fsys.List(dir + "/x")
		must(t, err)
		if !slices.Equal(names, []string{"a", "b", "y"}) {
			t.Fatalf("names are %q", names)
		}
		must(t, fsys.Rename(dir+"/x/a", dir+"/x/b"))
		must(t, fsys.SyncDir(dir+"/x"))
		if got := content(t, fsys, dir+"/x/b"); got != "2" {
			t.Fatalf("the renamed file holds %q", got)
		}
		info, err := fsys.Stat(dir + "/x")
		must(t, err)
		if !info.IsDir {
			t.Fatal("a directory is not one")
		}
		must(t, fsys.RemoveAll(dir+"/x"))
		must(t, fsys.RemoveAll(dir+"/x"))
		_, err = fsys.Stat(dir + "/x/b")
		mustFail(t, err, fs.ErrNotExist)
	})
}

func TestReadOnlyHandleRefusesWrites(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		must(t, create(t, fsys, dir+"/a", "1").Close())
		f, err := fsys.Open(dir + "/a")
		must(t, err)
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Fatal("a read-only file took a write")
		}
		must(t, f.Close())
		if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
			t.Fatalf("a closed file answers %v", err)
		}
	})
}

func TestLockExcludesAnotherHolder(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		lock, err := fsys.Lock(dir + "/LOCK")
		must(t, err)
		_, err = fsys.Lock(dir + "/LOCK")
		mustFail(t, err, vfs.ErrLocked)
		must(t, lock.Close())
		lock, err = fsys.Lock(dir + "/LOCK")
		must(t, err)
		must(t, lock.Close())
	})
}

func TestWriteFileAtomicReplaces(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		must(t, create(t, fsys, dir+"/f.tmp", "left by a crash, and longer").Close())
		must(t, vfs.WriteFileAtomic(fsys, dir+"/f", []byte("one")))
		must(t, vfs.WriteFileAtomic(fsys, dir+"/f", []byte("two")))
		if got := content(t, fsys, dir+"/f"); got != "two" {
			t.Fatalf("the file holds %q", got)
		}
		names, err := fsys.List(dir)
		must(t, err)
		if !slices.Equal(names, []string{"f"}) {
			t.Fatalf("names are %q", names)
		}
		_, err = vfs.ReadFile(fsys, dir+"/f", 2)
		mustFail(t, err, vfs.ErrFileTooLarge)
	})
}

func TestFreeBytesIsPositive(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys vfs.FS, dir string) {
		free, err := fsys.FreeBytes(dir)
		must(t, err)
		if free <= 0 {
			t.Fatalf("%d bytes free", free)
		}
	})
}
