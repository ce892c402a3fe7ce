package bulk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync/atomic"

	"kiln/internal/vfs"
)

// exportsDir is the folder of exports in the data directory: one folder a job.
const exportsDir = "exports"

// localOutput keeps an export's files in a directory of its own.
type localOutput struct {
	fs   vfs.FS
	dir  string
	room func() error // refuses when the disk is too full for more
	// left bytes may be written, by all files, before room is asked again.
	left atomic.Int64
	// written counts the bytes of the job's files, and quota refuses more of them or tells
	// how many may follow; it is asked after until more bytes. nil: nobody counts.
	written *atomic.Int64
	quota   func() (room int64, err error)
	until   atomic.Int64
}

// count is called before bytes are written.
func (o *localOutput) count(bytes int64) error {
	if o.quota == nil {
		return nil
	}
	o.written.Add(bytes)
	if o.until.Add(-bytes) >= 0 {
		return nil
	}
	return o.askQuota()
}

// askQuota asks again after an eighth of the room: so many exports may run at once.
func (o *localOutput) askQuota() error {
	if o.quota == nil {
		return nil
	}
	room, err := o.quota()
	if err != nil {
		return err
	}
	o.until.Store(max(room/8, exportRoomBytes/8))
	return nil
}

// checkRoom is called before bytes are written.
func (o *localOutput) checkRoom(bytes int) error {
	if o.left.Add(-int64(bytes)) >= 0 {
		return nil
	}
	if err := o.room(); err != nil {
		return err
	}
	o.left.Store(exportRoomBytes)
	return nil
}

// exportTempSuffix marks a file that is being written.
const exportTempSuffix = ".tmp"

func (o *localOutput) begin(context.Context) error {
	if err := o.fs.MkdirAll(o.dir); err != nil {
		return fmt.Errorf("cannot make %q: %w", o.dir, err)
	}
	return nil
}

func (o *localOutput) create(_ context.Context, name string) (exportWriter, error) {
	file, err := o.fs.Create(path.Join(o.dir, name+exportTempSuffix))
	if err != nil {
		return nil, fmt.Errorf("cannot create export file %q: %w", name, err)
	}
	return &localWriter{o: o, name: name, file: file, pieces: newPieceSummer()}, nil
}

func (o *localOutput) settle(context.Context) error {
	if err := o.askQuota(); err != nil {
		return err
	}
	if err := o.fs.SyncDir(o.dir); err != nil {
		return fmt.Errorf("cannot sync %q: %w", o.dir, err)
	}
	return nil
}

func (o *localOutput) whole(_ context.Context, files []ExportFile) (bool, error) {
	for _, f := range files {
		info, err := o.fs.Stat(path.Join(o.dir, f.Name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("cannot look for export file %q: %w", f.Name, err)
		case info.Bytes != f.Bytes:
			return false, nil
		}
	}
	return true, nil
}

func (o *localOutput) keep(_ context.Context, files []ExportFile) error {
	wanted := make(map[string]bool, len(files))
	for _, f := range files {
		wanted[f.Name] = true
		if o.written != nil {
			o.written.Add(f.Bytes)
		}
	}
	names, err := o.fs.List(o.dir)
	if err != nil {
		return fmt.Errorf("cannot list %q: %w", o.dir, err)
	}
	for _, name := range names {
		if wanted[name] {
			continue
		}
		if err := o.fs.RemoveAll(path.Join(o.dir, name)); err != nil {
			return fmt.Errorf("cannot remove %q of %q: %w", name, o.dir, err)
		}
	}
	return nil
}

func (o *localOutput) remove(context.Context) error {
	if err := o.fs.RemoveAll(o.dir); err != nil {
		return fmt.Errorf("cannot remove %q: %w", o.dir, err)
	}
	return nil
}

func (o *localOutput) full() bool                 { return false } // writes wait themselves
func (o *localOutput) wait(context.Context) error { return nil }

func (o *localOutput) address(string) string { return "" }

// localWriter writes one file.
type localWriter struct {
	o      *localOutput
	name   string
	file   vfs.File
	pieces *pieceSummer
	at     int64
	sent   int64 // so many bytes were handed to the disk
}

func (w *localWriter) Write(p []byte) (int, error) {
	if err := errors.Join(w.o.checkRoom(len(p)), w.o.count(int64(len(p)))); err != nil {
		return 0, fmt.Errorf("cannot write export file %q: %w", w.name, err)
	}
	w.pieces.write(p)
	n, err := w.file.WriteAt(p, w.at)
	w.at += int64(n)
	if err != nil {
		return n, fmt.Errorf("cannot write export file %q: %w", w.name, err)
	}
	if w.at-w.sent >= exportWriteBackBytes {
		w.file.WriteBack(w.sent, w.at-w.sent)
		w.sent = w.at
	}
	return n, nil
}

func (w *localWriter) sums() []byte { return w.pieces.end() }

// close syncs the file before it gets its name: a finished export must not
// lose lines to a power cut.
func (w *localWriter) close(context.Context) error {
	err := errors.Join(w.file.Sync(), w.file.Close())
	if err == nil {
		name := path.Join(w.o.dir, w.name)
		err = w.o.fs.Rename(name+exportTempSuffix, name)
	}
	if err != nil {
		return fmt.Errorf("cannot end export file %q: %w", w.name, err)
	}
	return nil
}

func (w *localWriter) abort() { _ = w.file.Close() } // the export is given up, or goes on without the file
