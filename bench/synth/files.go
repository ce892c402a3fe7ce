package synth

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
)

// fileBufferBytes is large enough that a write call costs nothing against the
// lines in it, and small enough for one buffer per type.
const fileBufferBytes = 256 << 10

// WriteFiles generates into one file per type, dir/Type.ndjson, each line
// ended by LF. Files of that name are overwritten; dir must exist.
func WriteFiles(opts Options, dir string) (Stats, error) {
	files := map[string]*typeFile{}
	stats, err := Generate(opts, func(name string, line []byte) error {
		file := files[name]
		if file == nil {
			var err error
			if file, err = createTypeFile(filepath.Join(dir, name+".ndjson")); err != nil {
				return err
			}
			files[name] = file
		}
		return file.writeLine(line)
	})
	for _, file := range files {
		if closeErr := file.close(); err == nil {
			err = closeErr
		}
	}
	if err != nil {
		return stats, fmt.Errorf("cannot write generated data to %q: %w", dir, err)
	}
	return stats, nil
}

type typeFile struct {
	file *os.File
	buf  *bufio.Writer
}

func createTypeFile(path string) (*typeFile, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &typeFile{file, bufio.NewWriterSize(file, fileBufferBytes)}, nil
}

func (f *typeFile) writeLine(line []byte) error {
	if _, err := f.buf.Write(line); err != nil {
		return err
	}
	return f.buf.WriteByte('\n')
}

func (f *typeFile) close() error {
	err := f.buf.Flush()
	if closeErr := f.file.Close(); err == nil {
		err = closeErr
	}
	return err
}
