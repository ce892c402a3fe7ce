package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
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
	name  string   // base name of the newest, or what names have to come behind
	bytes int64    // durable
	began time.Time

	mu sync.Mutex // guards what follows, which the Keeper's goroutine has too
	// newest and durable are name and bytes, for who reads; kept is the file that the
	// Keeper is at: those before it may go. "": there is no Keeper.
	newest  string
	durable int64
	kept    string
}

func (f *files) path(name string) string { return path.Join(f.dir, name) }

// fileName is the name of a file that is begun at a time.
func fileName(at time.Time) string { return filePrefix + at.UTC().Format(fileLayout) + fileSuffix }

// fileTime is the time in a name. false: it is no audit file's.
func fileTime(name string) (time.Time, bool) {
	text, isOurs := strings.CutPrefix(name, filePrefix)
	text, hasEnd := strings.CutSuffix(text, fileSuffix)
	at, err := time.Parse(fileLayout, text)
	return at, isOurs && hasEnd && err == nil
}

// list are the names of all files, oldest first.
func (f *files) list() ([]string, error) {
	names, err := f.fs.List(f.dir)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(name string) bool {
		_, isFile := fileTime(name)
		return !isFile
	}), nil
}

// goBehind has the next file come behind all that are there, and after, also when the
// clock was set back.
func (f *files) goBehind(after string) error {
	names, err := f.list()
	if err != nil {
		return err
	}
	if f.name = after; len(names) > 0 {
		f.name = max(after, names[len(names)-1])
	}
	return nil
}

func (f *files) tell() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newest, f.durable = f.name, f.bytes
}

// begin makes the next file.
func (f *files) begin() error {
	if err := f.fs.MkdirAll(f.dir); err != nil {
		return err
	}
	f.began = f.now()
	at := f.began
	if last, ok := fileTime(f.name); ok && !at.After(last) {
		at = last.Add(time.Nanosecond)
	}
	for ; ; at = at.Add(time.Nanosecond) {
		file, err := f.fs.Create(f.path(fileName(at)))
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		f.file, f.name, f.bytes = file, fileName(at), 0
		break
	}
	f.tell()
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
	if err == nil {
		err = f.isThere(f.bytes + int64(len(lines)))
	}
	if err != nil {
		f.abandon()
		return fmt.Errorf("cannot write %q: %w", f.name, err)
	}
	f.bytes += int64(len(lines))
	f.tell()
	return nil
}

// isThere fails when the file that was written has lost its name: somebody has removed
// it, or the directory, and nobody would find in it what was written.
func (f *files) isThere(bytes int64) error {
	info, err := f.fs.Stat(f.path(f.name))
	if err == nil && info.Bytes < bytes {
		err = fmt.Errorf("it has %d bytes instead of %d", info.Bytes, bytes)
	}
	return err
}

// abandon leaves a file with what is durable in it. Its errors matter no more: a new
// file begins, and holds what is missing here.
func (f *files) abandon() {
	_ = f.file.Truncate(f.bytes)
	_ = f.file.Close()
	if f.bytes == 0 {
		_ = f.fs.Remove(f.path(f.name))
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

// prune removes the oldest files while all have more than keepBytes. The newest stays
// in any case, and so do those that the Keeper does not have yet.
func (f *files) prune() error {
	if f.keepBytes == 0 {
		return nil
	}
	names, err := f.list()
	if err != nil {
		return err
	}
	var total int64
	sizes := map[string]int64{}
	for _, name := range names {
		info, err := f.fs.Stat(f.path(name))
		if err != nil {
			return err
		}
		sizes[name] = info.Bytes
		total += info.Bytes
	}
	f.mu.Lock()
	kept := f.kept
	f.mu.Unlock()
	for ; len(names) > 1 && total > f.keepBytes && (kept == "" || names[0] < kept); names = names[1:] {
		if err := f.fs.Remove(f.path(names[0])); err != nil {
			return err
		}
		f.logger.Info("removed the oldest audit file, as all have more bytes than are to be kept", "file", names[0])
		total -= sizes[names[0]]
	}
	return nil
}
