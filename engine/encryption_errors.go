package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// resealBytes of an error file are read at once.
const resealBytes = 64 << 10

// ResealErrorFiles writes the error files of imports again that are plain, or under
// another key than the present one, and tells how many it wrote: nothing else ever
// replaces them. Each is whole under its name at any time. A file that cannot be read to
// its end stays as it is, and is logged. Nobody may import meanwhile.
func (s *Store) ResealErrorFiles(ctx context.Context) (files int, err error) {
	if sealed.KeysOf(s.opts.FS) == nil || s.opts.ReadOnly {
		return 0, nil
	}
	folders, err := s.opts.FS.List(s.path(jobErrorsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, folder := range folders {
		if err != nil {
			break
		}
		var done int
		done, err = s.resealFolder(ctx, path.Join(s.path(jobErrorsDir), folder))
		files += done
	}
	if err != nil {
		return files, fmt.Errorf("cannot encrypt the error files of imports anew: %w", err)
	}
	return files, nil
}

func (s *Store) resealFolder(ctx context.Context, dir string) (files int, err error) {
	names, err := s.opts.FS.List(dir)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return files, err
		}
		done, err := s.resealErrorFile(path.Join(dir, name))
		var damage *vfs.CorruptError
		switch {
		case errors.As(err, &damage):
			s.opts.Logger.Warn("an error file of an import stays under the key that it has: it cannot be read whole", "error", err)
		case err != nil:
			return files, noSpace(err)
		case done:
			files++
		}
	}
	return files, nil
}

func (s *Store) resealErrorFile(name string) (done bool, err error) {
	if strings.HasSuffix(name, vfs.TempSuffix) { // a crash left it here, in this very work
		return false, s.opts.FS.Remove(name)
	}
	is, err := sealed.Inspect(sealed.Inner(s.opts.FS), name)
	if err != nil || is.Bytes == 0 || !is.Plain && is.Key == sealed.KeysOf(s.opts.FS).Current() {
		return false, err
	}
	old, err := s.opts.FS.Open(name)
	if err != nil {
		return false, err
	}
	defer old.Close() // only read from
	bytes, err := old.Bytes()
	if err != nil {
		return false, err
	}
	if whole, err := sealed.EndsWhole(old); err != nil || !whole {
		return false, errors.Join(err, &vfs.CorruptError{File: name, Offset: bytes, What: "there is something behind the last part of the encrypted file"})
	}
	err = vfs.ReplaceFile(s.opts.FS, name, func(f vfs.File) error { return copyLines(f, io.NewSectionReader(old, 0, bytes)) })
	return err == nil, err
}

// copyLines makes a write of each line: an import that goes on cuts its file at the end
// of one, which has to be the end of a frame.
func copyLines(f vfs.File, from io.Reader) error {
	r, offset := bufio.NewReaderSize(from, resealBytes), int64(0)
	for {
		part, err := r.ReadSlice('\n')
		if len(part) > 0 {
			if _, err := f.WriteAt(part, offset); err != nil {
				return err
			}
			offset += int64(len(part))
		}
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) { // a long line is several writes
			return err
		}
	}
}
