package bulk

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"kiln/internal/vfs"
)

// errorsDir is the folder of error files in the data directory: one folder a
// job, one file an input.
const errorsDir = "errors"

// errorFileFlushBytes are collected before they are written.
const errorFileFlushBytes = 1 << 20

// errorFileName is `{type}{job}_{number of the input}.ndjson`.
func errorFileName(job int64, input int, inputType string) string {
	return inputType + strconv.FormatInt(job, 10) + "_" + strconv.Itoa(input+1) + ".ndjson"
}

// errorFiles writes the error files of one job. Lengths are recorded in the
// job's progress; what lies behind a recorded length was never counted and is
// cut off before new lines are added.
type errorFiles struct {
	fs  vfs.FS
	dir string
}

func newErrorFiles(fsys vfs.FS, dataDir string, job int64) *errorFiles {
	return &errorFiles{fs: fsys, dir: path.Join(dataDir, errorsDir, strconv.FormatInt(job, 10))}
}

// append adds refusals behind the recorded length of a file and makes them
// durable. It returns the new length, and the sums of the file's pieces when there are
// those of what it had.
func (e *errorFiles) append(name string, from int64, sums []byte, refusals []refusal) (int64, []byte, error) {
	file, err := e.open(name, from)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot open error file %q: %w", name, err)
	}
	at, sums, err := e.write(name, file, from, sums, refusals)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return 0, nil, fmt.Errorf("cannot write error file %q: %w", name, err)
	}
	return at, sums, nil
}

// write writes behind what a file has. A file that has changed since is refused.
func (e *errorFiles) write(name string, file vfs.File, from int64, sums []byte, refusals []refusal) (int64, []byte, error) {
	if from > 0 && sums == nil { // of an older build
		at, err := writeRefusals(file, from, refusals, func([]byte) {})
		return at, nil, err
	}
	before := &checkedFile{name: path.Join(e.dir, name), from: file, bytes: from, sums: sums}
	if err := before.checkSums(); err != nil {
		return 0, nil, err
	}
	pieces, err := resumePieces(before)
	if err != nil {
		return 0, nil, err
	}
	at, err := writeRefusals(file, from, refusals, pieces.write)
	return at, pieces.end(), err
}

// open opens or makes a file and cuts it to a length. A new file's name is
// made durable here, so that only the content needs a sync later.
func (e *errorFiles) open(name string, bytes int64) (vfs.File, error) {
	full := path.Join(e.dir, name)
	file, err := e.fs.OpenWrite(full)
	if errors.Is(err, fs.ErrNotExist) {
		if bytes > 0 {
			return nil, fmt.Errorf("the file should hold %d bytes: %w", bytes, err)
		}
		return e.create(full)
	}
	if err != nil {
		return nil, err
	}
	return file, e.cut(file, bytes)
}

func (e *errorFiles) create(full string) (vfs.File, error) {
	if err := e.fs.MkdirAll(e.dir); err != nil {
		return nil, err
	}
	file, err := e.fs.Create(full)
	if err != nil {
		return nil, err
	}
	return file, e.fs.SyncDir(e.dir)
}

func (e *errorFiles) cut(file vfs.File, bytes int64) error {
	size, err := file.Bytes()
	if err != nil {
		return err
	}
	if size < bytes {
		return fmt.Errorf("the file has %d bytes, and %d were recorded", size, bytes)
	}
	return file.Truncate(bytes)
}

// writeRefusals writes lines at an offset, shows what it writes to each, and returns
// where they end.
func writeRefusals(file vfs.File, at int64, refusals []refusal, each func(p []byte)) (int64, error) {
	buf := make([]byte, 0, min(len(refusals)*400, errorFileFlushBytes))
	for i := range refusals {
		buf = refusals[i].appendLine(buf)
		if len(buf) < errorFileFlushBytes && i+1 < len(refusals) {
			continue
		}
		if _, err := file.WriteAt(buf, at); err != nil {
			return 0, err
		}
		each(buf)
		at += int64(len(buf))
		buf = buf[:0]
	}
	return at, nil
}

// cutTo cuts a file that is longer than was recorded; a missing file is fine
// when nothing was.
func (e *errorFiles) cutTo(name string, bytes int64) error {
	file, err := e.fs.OpenWrite(path.Join(e.dir, name))
	if errors.Is(err, fs.ErrNotExist) && bytes == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot open error file %q: %w", name, err)
	}
	if err := errors.Join(e.cut(file, bytes), file.Close()); err != nil {
		return fmt.Errorf("cannot cut error file %q: %w", name, err)
	}
	return nil
}
