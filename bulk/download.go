package bulk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"kiln/fhir"
	"kiln/internal/vfs"
)

// Download is an open file to serve; Close it.
type Download struct {
	io.Closer
	Bytes int64
	// Types are those of resources that an export's file may have; none: nobody's.
	Types  []fhir.TypeCode
	limits ExportLimits
	file   checkedFile
}

// Limits are the searches that those of a type were limited to: any of each; none: it
// has all of them.
func (d *Download) Limits(t fhir.TypeCode) [][]string { return d.limits.of(t) }

// Part reads a stretch of the file, which must be inside of it. Its first megabyte is
// checked by then. *vfs.CorruptError, from reads too: the file is not what was written.
// Files of older builds, which kept no sums, are read as they are.
func (d *Download) Part(from, bytes int64) (io.Reader, error) {
	return d.file.part(from, bytes)
}

func fileNotFound(name string) error {
	return &RequestError{Status: 404, Code: "not-found", Text: fmt.Sprintf("The requested file %q was not found.", name)}
}

// ErrorFile opens an error file of an import for reading. The name is looked
// up among the job's own; it never becomes a path as it came.
func (m *Manager) ErrorFile(id int64, name string) (*Download, error) {
	m.mu.Lock()
	record, err := m.getImport(id)
	if err != nil {
		m.mu.Unlock()
		return nil, err
	}
	result := record.Result
	if j := m.imports[id]; j != nil {
		if p, ok := j.status(new(ImportStatus)); ok {
			result = p
		}
	}
	m.mu.Unlock()
	for i, in := range record.Request.Inputs {
		if i < len(result.Inputs) && result.Inputs[i][progressErrorBytes] > 0 && errorFileName(id, i, in.Type) == name {
			files := newErrorFiles(m.opts.Store.FS(), m.opts.Store.Dir(), id)
			return openDownload(files.fs, path.Join(files.dir, name), result.Inputs[i][progressErrorBytes], result.Sums[i])
		}
	}
	return nil, fileNotFound(name)
}

// ExportFile opens a file of an export for reading: one that its status lists.
func (m *Manager) ExportFile(id int64, name string) (*Download, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	record, err := m.liveExport(id)
	if err != nil {
		return nil, err
	}
	if name == ExportIgnoredName && len(record.Request.Ignored) > 0 {
		text := ignoredLines(record.Request.Ignored)
		return newDownload(name, struct {
			io.ReaderAt
			io.Closer
		}{bytes.NewReader(text), io.NopCloser(nil)}, int64(len(text)), nil), nil
	}
	f, ok, err := m.exportFileOf(record, name)
	if err != nil {
		return nil, err
	}
	if !ok || record.State == Failed || record.Folder != "" {
		return nil, fileNotFound(name)
	}
	d, err := openDownload(m.opts.Store.FS(), path.Join(m.exportDir(id), name), f.Bytes, f.Sums)
	if err == nil {
		d.Types, d.limits = record.fileTypes(&f), record.Request.Limits
	}
	return d, err
}

// openDownload opens a file that a job of the catalog names: it must be there.
func openDownload(fsys vfs.FS, name string, bytes int64, sums []byte) (*Download, error) {
	file, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &vfs.CorruptError{File: name, What: "the file is gone"}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open %q: %w", name, err)
	}
	return newDownload(name, file, bytes, sums), nil
}

func newDownload(name string, file interface {
	io.ReaderAt
	io.Closer
}, bytes int64, sums []byte) *Download {
	return &Download{Closer: file, Bytes: bytes, file: checkedFile{name: name, from: file, bytes: bytes, sums: sums}}
}
