package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// oneFile writes the data set as one uncompressed file below dir.
func (d *dataSet) oneFile(dir string) (*dataSet, error) {
	path := filepath.Join(dir, "all.ndjson")
	out, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(out, 1<<20)
	err = d.eachLine(func(line []byte) error {
		_, err := w.Write(append(line[:len(line):len(line)], '\n'))
		return err
	})
	if err = errors.Join(err, w.Flush(), out.Close()); err != nil {
		return nil, fmt.Errorf("cannot write all data into one file: %w", err)
	}
	return &dataSet{dir: dir, files: []string{path}, resources: d.resources, bytes: d.bytes}, nil
}

// oneEach writes the first n lines, each into a file of its own.
func (d *dataSet) oneEach(dir string, n int) (*dataSet, error) {
	set := &dataSet{dir: dir}
	err := d.eachLine(func(line []byte) error {
		if len(set.files) == n {
			return io.EOF
		}
		path := filepath.Join(dir, fmt.Sprintf("%06d.ndjson", len(set.files)))
		set.files = append(set.files, path)
		set.resources, set.bytes = set.resources+1, set.bytes+int64(len(line))+1
		return os.WriteFile(path, append(line[:len(line):len(line)], '\n'), 0o644)
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot write a file for each resource: %w", err)
	}
	return set, nil
}
