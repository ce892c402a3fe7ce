package vfs

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// FS is a tree of files. Names are slash-separated paths. Every method is safe
// for concurrent use. Errors satisfy errors.Is with fs.ErrNotExist and
// fs.ErrExist where those apply; IsNoSpace reports a full disk.
type FS interface {
	// Create makes a new, empty file open for reading and writing; it fails
	// with fs.ErrExist when the name is taken. The name is durable only after
	// SyncDir of its directory.
	Create(name string) (File, error)
	// Open opens a file for reading only.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing.
	OpenWrite(name string) (File, error)
	// Remove deletes one file or one empty directory.
	Remove(name string) error
	// RemoveAll deletes a tree; a missing tree is no error.
	RemoveAll(name string) error
	// Rename replaces the file newName atomically; durable after SyncDir. It is
	// for files, not directories.
	Rename(oldName, newName string) error
	// MkdirAll makes a directory and its parents, and syncs each parent it changed.
	MkdirAll(name string) error
	// List returns the base names in a directory, sorted.
	List(dir string) ([]string, error)
	Stat(name string) (Info, error)
	// SyncDir makes the directory's entries (creations, renames, removals) durable.
	SyncDir(dir string) error
	// Lock takes an exclusive advisory lock on name, which it creates if needed.
	// It fails at once with ErrLocked when another holder has it.
	Lock(name string) (io.Closer, error)
	// FreeBytes is the space an unprivileged writer has left on dir's file system.
	FreeBytes(dir string) (int64, error)
}

// File is one open file. ReadAt and WriteAt follow io.ReaderAt and io.WriterAt.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the file's bytes and length durable (fsync). A failed Sync
	// must not be retried: the kernel may have dropped the dirty pages.
	Sync() error
	// SyncData makes the bytes durable and the length where it matters
	// (fdatasync). A failed SyncData must not be retried either.
	SyncData() error
	// WriteBack asks the system to begin writing from <= offset < from+bytes to the
	// disk, so that a later Sync has less to wait for. It promises nothing, and
	// tells of no error: that is what Sync is for.
	WriteBack(from, bytes int64)
	// Preallocate reserves space and extends the file with zeros up to bytes.
	// It never shortens. On an error the file may be extended in part.
	Preallocate(bytes int64) error
	Truncate(bytes int64) error
	// Bytes is the file's current length.
	Bytes() (int64, error)
}

// Info is what Stat tells.
type Info struct {
	Bytes int64
	IsDir bool
	// Regular is false for what opens but is no file of bytes at rest: a pipe,
	// a device, a socket.
	Regular bool
	// Modified tells two states of a file apart: the time of its last change in
	// nanoseconds, or 0 where the file system keeps none (Mem).
	Modified int64
}

// ErrLocked is what Lock returns when another process or handle holds the lock.
var ErrLocked = errors.New("already locked")

// ErrFileTooLarge is what ReadFile returns for a file over its limit.
var ErrFileTooLarge = errors.New("the file is too large")

// CorruptError says that bytes on disk are not what was written: which file,
// where, and what was found. Readers never guess past it.
type CorruptError struct {
	File   string
	Offset int64
	What   string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("file %q is damaged at offset %d: %s", e.File, e.Offset, e.What)
}

// IsNoSpace reports whether err is a full disk or an exhausted quota.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
