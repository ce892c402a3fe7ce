package bulk

import (
	"errors"
	"fmt"
	"path"

	"kiln/engine"
	"kiln/fhir"
	"kiln/internal/vfs"
)

// exportSink is one worker's files: one open file for each type it has met.
type exportSink struct {
	fs     vfs.FS
	dir    string
	worker int
	room   func() error // refuses when the disk is too full for more
	open   [fhir.TypeMax + 1]*exportFile
	done   []ExportFile
}

// exportFile is a file being written.
type exportFile struct {
	file vfs.File
	seq  int
	ExportFile
	buf []byte // not yet written; the file has Bytes bytes
}

// write appends one resource to its type's file.
func (s *exportSink) write(v *engine.Version) error {
	f := s.open[v.Type]
	if f == nil || f.Count == exportLinesMax {
		var err error
		if f, err = s.next(v.Type); err != nil {
			return err
		}
	}
	f.buf = append(v.AppendJSON(f.buf), '\n')
	f.Count++
	if len(f.buf) < exportBufferBytes {
		return nil
	}
	if err := s.room(); err != nil {
		return fmt.Errorf("cannot write export file %q: %w", f.Name, err)
	}
	return f.flush()
}

// next ends a type's file, if there is one, and begins another.
func (s *exportSink) next(t fhir.TypeCode) (*exportFile, error) {
	seq, buf := 1, []byte(nil)
	if old := s.open[t]; old != nil {
		if err := s.end(old); err != nil {
			return nil, err
		}
		seq, buf = old.seq+1, old.buf[:0]
	}
	name := fmt.Sprintf("%s-%d-%d.ndjson", t, s.worker+1, seq)
	file, err := s.fs.Create(path.Join(s.dir, name))
	if err != nil {
		return nil, fmt.Errorf("cannot create export file %q: %w", name, err)
	}
	f := &exportFile{file: file, seq: seq, buf: buf, ExportFile: ExportFile{Type: t.String(), Name: name}}
	s.open[t] = f
	return f, nil
}

func (f *exportFile) flush() error {
	if _, err := f.file.WriteAt(f.buf, f.Bytes); err != nil {
		return fmt.Errorf("cannot write export file %q: %w", f.Name, err)
	}
	f.Bytes += int64(len(f.buf))
	f.buf = f.buf[:0]
	return nil
}

// end makes a file durable: a finished export must not lose lines to a power cut.
func (s *exportSink) end(f *exportFile) error {
	err := f.flush()
	if err == nil {
		if err = f.file.Sync(); err != nil {
			err = fmt.Errorf("cannot sync export file %q: %w", f.Name, err)
		}
	}
	if err = errors.Join(err, f.file.Close()); err != nil {
		return err
	}
	s.done = append(s.done, f.ExportFile)
	return nil
}

// close ends all files. After an error they are only closed.
func (s *exportSink) close(failed bool) error {
	var err error
	for t, f := range s.open {
		switch {
		case f == nil:
		case failed:
			_ = f.file.Close() // the export is given up already
		default:
			endErr := s.end(f)
			err = errors.Join(err, endErr)
			failed = failed || endErr != nil
		}
		s.open[t] = nil
	}
	return err
}
