package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// Everything below a data directory is patient data: readable by its owner only.
const (
	filePerm = 0o600
	dirPerm  = 0o700
)

// OS is the real file system.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) Create(name string) (File, error) {
	return openFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (osFS) Open(name string) (File, error) { return openFile(name, os.O_RDONLY) }

func (osFS) OpenWrite(name string) (File, error) { return openFile(name, os.O_RDWR) }

func openFile(name string, flags int) (File, error) {
	f, err := os.OpenFile(filepath.FromSlash(name), flags, filePerm)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f}, nil
}

func (osFS) Remove(name string) error { return os.Remove(filepath.FromSlash(name)) }

func (osFS) RemoveAll(name string) error { return os.RemoveAll(filepath.FromSlash(name)) }

func (osFS) Rename(oldName, newName string) error {
	return os.Rename(filepath.FromSlash(oldName), filepath.FromSlash(newName))
}

func (o osFS) MkdirAll(name string) error {
	name = filepath.Clean(filepath.FromSlash(name))
	info, err := os.Stat(name)
	if err == nil {
		if !info.IsDir() {
			return fmt.Errorf("cannot make directory %q: a file has that name", name)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(name)
	if parent != name {
		if err := o.MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(name, dirPerm); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return o.SyncDir(parent)
}

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.FromSlash(dir))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) Stat(name string) (Info, error) {
	info, err := os.Stat(filepath.FromSlash(name))
	if err != nil {
		return Info{}, err
	}
	return infoOf(info), nil
}

func infoOf(info os.FileInfo) Info {
	return Info{
		Bytes: info.Size(), IsDir: info.IsDir(),
		Regular: info.Mode().IsRegular(), Modified: info.ModTime().UnixNano(),
	}
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(filepath.FromSlash(dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) Lock(name string) (io.Closer, error) {
	l := flock.New(filepath.FromSlash(name), flock.SetPermissions(filePerm))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("cannot lock %q: %w", name, err)
	}
	if !ok {
		return nil, fmt.Errorf("cannot lock %q: %w", name, ErrLocked)
	}
	return l, nil
}

func (osFS) FreeBytes(dir string) (int64, error) { return freeBytes(filepath.FromSlash(dir)) }

// osFile embeds *os.File for ReadAt, WriteAt, Close and Truncate.
type osFile struct {
	*os.File
}

func (f *osFile) Bytes() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Sync is as the interface says.
func (f *osFile) Sync() error {
	lookOut()
	return f.File.Sync()
}

func (f *osFile) SyncData() error {
	lookOut()
	return syncData(f.File)
}

// lookOut is called before a system call that waits for the disk. Go's scheduler lets
// one thread wait for the network; it goes on with the first goroutine that became
// ready there, and until that one parks nobody else looks. When it waits in a system
// call instead, whoever asks next is noticed by the runtime's monitor only, up to
// 10 ms later, though processors are idle (findRunnable and sysmon in runtime/proc.go
// of Go 1.26). A goroutine that is begun wakes a thread, which finds nothing else to
// do and waits for the network.
func lookOut() { go func() {}() }

func (f *osFile) WriteBack(from, bytes int64) { writeBack(f.File, from, bytes) }

func (f *osFile) Preallocate(bytes int64) error {
	size, err := f.Bytes()
	if err != nil || size >= bytes {
		return err
	}
	err = fallocate(f.File, size, bytes-size)
	if errors.Is(err, errors.ErrUnsupported) {
		return writeZeros(f, size, bytes)
	}
	return err
}

// zeroChunkBytes bounds the buffer of writeZeros; 1 MiB is past the point where
// larger writes go faster.
const zeroChunkBytes = 1 << 20

// writeZeros is what preallocation means where the file system cannot reserve
// space: the blocks are taken by writing them.
func writeZeros(w io.WriterAt, from, to int64) error {
	zeros := make([]byte, min(zeroChunkBytes, to-from))
	for from < to {
		n, err := w.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}
