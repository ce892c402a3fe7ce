package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"kiln/internal/vfs"
)

// lockName is of the file in the target that is locked or leased.
const lockName = "LOCK"

// dirTarget is a directory, maybe of another disk or machine.
type dirTarget struct {
	fs  vfs.FS
	dir string
}

// NewDirTarget is a directory of fsys; it is made when something is put there.
func NewDirTarget(fsys vfs.FS, dir string) Target { return &dirTarget{fs: fsys, dir: dir} }

func (t *dirTarget) String() string          { return t.dir }
func (t *dirTarget) path(name string) string { return path.Join(t.dir, name) }

func (t *dirTarget) List(_ context.Context, folder string) (map[string]int64, error) {
	names, err := t.fs.List(t.path(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list %q: %w", t.path(folder), err)
	}
	files := make(map[string]int64, len(names))
	for _, name := range names {
		info, err := t.fs.Stat(path.Join(t.path(folder), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list %q: %w", t.path(folder), err)
		}
		files[name] = info.Bytes
	}
	return files, nil
}

func (t *dirTarget) Open(_ context.Context, name string) (io.ReadCloser, error) {
	return openFile(t.fs, t.path(name))
}

func (t *dirTarget) Put(ctx context.Context, name string, from io.Reader) error {
	full := t.path(name)
	if err := t.fs.MkdirAll(path.Dir(full)); err != nil {
		return fmt.Errorf("cannot make a directory for %q: %w", full, err)
	}
	return putFile(ctx, t.fs, full, from)
}

func (t *dirTarget) Remove(_ context.Context, name string) error {
	full := t.path(name)
	err := t.fs.Remove(full)
	if err == nil {
		err = t.fs.SyncDir(path.Dir(full))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove %q: %w", full, err)
	}
	return nil
}

func (t *dirTarget) Lock(ctx context.Context) (context.Context, func() error, error) {
	if err := t.fs.MkdirAll(t.dir); err != nil {
		return nil, nil, fmt.Errorf("cannot make the directory %q: %w", t.dir, err)
	}
	lock, err := t.fs.Lock(t.path(lockName))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, nil, fmt.Errorf("cannot use %q: %w", t.dir, ErrBusy)
	}
	if err != nil {
		return nil, nil, err
	}
	return ctx, lock.Close, nil
}

// fileReader reads a file from its start.
type fileReader struct {
	*io.SectionReader
	file vfs.File
}

func (r *fileReader) Close() error { return r.file.Close() }

func openFile(fsys vfs.FS, name string) (*fileReader, error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot open %q: %w", name, err)
	}
	bytes, err := file.Bytes()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot read the length of %q: %w", name, err), file.Close())
	}
	return &fileReader{SectionReader: io.NewSectionReader(file, 0, bytes), file: file}, nil
}

// copyBytes are read and written at a time.
const copyBytes = 1 << 20

// putFile writes a file that is there whole and durable, or not at all. Its
// directory exists.
func putFile(ctx context.Context, fsys vfs.FS, name string, from io.Reader) error {
	return vfs.ReplaceFile(fsys, name, func(file vfs.File) error {
		buf := make([]byte, copyBytes)
		for at := int64(0); ; {
			n, readErr := io.ReadFull(from, buf)
			if _, err := file.WriteAt(buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
			if readErr == io.EOF || readErr == io.ErrUnexpectedEOF { // ReadFull's own; a checkedReader wraps others
				return nil
			}
			if err := errors.Join(readErr, ctx.Err()); err != nil {
				return err
			}
		}
	})
}

// isTemp tells what a crash may have left of a file being written.
func isTemp(name string) bool { return strings.HasSuffix(name, vfs.TempSuffix) }
