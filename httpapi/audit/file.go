package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"time"

	"kiln/internal/vfs"
)

// Names of files sort by the time when each was begun.
const (
	filePrefix = "audit-"
	fileSuffix = ".ndjson"
	fileLayout = "20060102T150405.000000000Z"
)

// files are the audit files of a directory. None is opened again: what an earlier
// process left stays as it is, the last line perhaps cut by a crash.
type files struct {
	fs       vfs.FS
	dir      string
	now      func() time.Time
	logger   *slog.Logger
	bytesMax int64
	ageMax   time.Duration
	// keepBytes bounds all files; the oldest go first. 0: none goes.
	keepBytes int64

	file  vfs.File // nil: the next append begins one
	name  string
	bytes int64 // durable
	began time.Time
}

// begin makes the next file.
func (f *files) begin() error {
	if err := f.fs.MkdirAll(f.dir); err != nil {
		return err
	}
	f.began = f.now()
	for at := f.began.UTC(); ; at = at.Add(time.Nanosecond) {
		f.name = path.Join(f.dir, filePrefix+at.Format(fileLayout)+fileSuffix)
		file, err := f.fs.Create(f.name)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		f.file, f.bytes = file, 0
		break
	}
	if err := f.fs.SyncDir(f.dir); err != nil {
		f.abandon()
		return err
	}
	return f.prune()
}

// append makes lines durable. After an error the next one goes to a new file.
func (f *files) append(lines []byte) error {
	if f.file != nil && f.bytes > 0 && (f.bytes+int64(len(lines)) > f.bytesMax || f.now().Sub(f.began) >= f.ageMax) {
		if err := f.close(); err != nil {
			return fmt.Errorf("cannot close %q: %w", f.name, err)
		}
	}
	if f.file == nil {
		if err := f.begin(); err != nil {
			return fmt.Errorf("cannot begin the next file: %w", err)
		}
	}
	_, err := f.file.WriteAt(lines, f.bytes)
	if err == nil {
		err = f.file.SyncData()
	}
	if err != nil {
		f.abandon()
		return fmt.Errorf("cannot write %q: %w", f.name, err)
	}
	f.bytes += int64(len(lines))
	return nil
}

// abandon leaves a file with what is durable in it. Its errors matter no more: a new
// file begins, and holds what is missing here.
func (f *files) abandon() {
	_ = f.file.Truncate(f.bytes)
	_ = f.file.Close()
	if f.bytes == 0 {
		_ = f.fs.Remove(f.name)
	}
	f.file = nil
}

func (f *files) close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return file.Close()
}

// prune removes the oldest files while all have more than keepBytes. The newest
// stays in any case.
func (f *files) prune() error {
	if f.keepBytes == 0 {
		return nil
	}
	names, err := f.fs.List(f.dir)
	if err != nil {
		return err
	}
	var total int64
	var old []string
	sizes := map[string]int64{}
	for _, name := range names {
		if !strings.HasPrefix(name, filePrefix) || !strings.HasSuffix(name, fileSuffix) {
			continue
		}
		info, err := f.fs.Stat(path.Join(f.dir, name))
		if err != nil {
			return err
		}
		old = append(old, name)
		sizes[name] = info.Bytes
		total += info.Bytes
	}
	for ; len(old) > 1 && total > f.keepBytes; old = old[1:] {
		if err := f.fs.Remove(path.Join(f.dir, old[0])); err != nil {
			return err
		}
		f.logger.Info("removed the oldest audit file, as all have more bytes than are to be kept", "file", old[0])
		total -= sizes[old[0]]
	}
	return nil
}
