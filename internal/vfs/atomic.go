package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// TempSuffix ends the name of every file that is still being written. Such a
// file was never published; whoever owns the directory may delete it at start.
const TempSuffix = ".tmp"

// WriteFileAtomic replaces the file name with data: after it returns nil the
// new content survives a power cut; when it fails, or the power goes, the name
// holds the old content or the new, whole, never a mix. One writer per name.
func WriteFileAtomic(fsys FS, name string, data []byte) error {
	return ReplaceFile(fsys, name, func(f File) error {
		_, err := f.WriteAt(data, 0)
		return err
	})
}

// ReplaceFile is WriteFileAtomic with the bytes that fill writes into an empty file.
// Where fill fails, the name keeps what it held.
func ReplaceFile(fsys FS, name string, fill func(File) error) error {
	temp := name + TempSuffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove stale %q: %w", temp, err)
	}
	if err := writeSynced(fsys, temp, fill); err != nil {
		// The first error is the one that matters; the leftover is harmless.
		_ = fsys.Remove(temp)
		return fmt.Errorf("cannot write %q: %w", temp, err)
	}
	if err := fsys.Rename(temp, name); err != nil {
		_ = fsys.Remove(temp)
		return fmt.Errorf("cannot rename %q to %q: %w", temp, name, err)
	}
	if err := fsys.SyncDir(path.Dir(name)); err != nil {
		return fmt.Errorf("cannot sync the directory of %q: %w", name, err)
	}
	return nil
}

func writeSynced(fsys FS, name string, fill func(File) error) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if err = fill(f); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ReadFile returns the whole content of a file of at most limit bytes, and
// ErrFileTooLarge without reading when it is longer.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot open %q: %w", name, err)
	}
	defer f.Close()
	size, err := f.Bytes()
	if err != nil {
		return nil, fmt.Errorf("cannot read the length of %q: %w", name, err)
	}
	if size > limit {
		return nil, fmt.Errorf("cannot read %q: %w: %d bytes, at most %d", name, ErrFileTooLarge, size, limit)
	}
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); err != nil && !(errors.Is(err, io.EOF) && int64(n) == size) {
		return nil, fmt.Errorf("cannot read %q: %w", name, err)
	}
	return data, nil
}
