package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"kiln/bench/synth"
)

// dataSet is the input of a benchmark: NDJSON files, compressed or not.
type dataSet struct {
	dir       string
	files     []string // absolute, sorted
	resources int64    // not empty lines
	bytes     int64    // uncompressed, with line ends
}

// lineBytesMax bounds a line that the harness reads; the server's own bound
// is not higher.
const lineBytesMax = 128 << 20

// prepareData finds or generates the data set and counts it.
func (b *bench) prepareData() (*dataSet, error) {
	dir, source := b.Data, b.Data
	if dir == "" {
		dir = b.generated()
		source = fmt.Sprintf("%d generated patients, seed %d", b.Patients, b.Seed)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		if _, err := synth.WriteFiles(synth.Options{Seed: b.Seed, Patients: b.Patients}, dir); err != nil {
			return nil, err
		}
	}
	set, err := openDataSet(dir)
	if err != nil {
		return nil, err
	}
	b.report.Data = dataReport{Source: source, Files: len(set.files), Resources: set.resources, Bytes: set.bytes}
	return set, nil
}

// generated is where generated data lies.
func (b *bench) generated() string { return filepath.Join(b.dir, "data") }

func openDataSet(dir string) (*dataSet, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return nil, err
	}
	set := &dataSet{dir: root}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		// A leading underscore marks later versions of resources in other files.
		if err == nil && isNDJSON(name) && !strings.HasPrefix(name, "_") {
			set.files = append(set.files, path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list data in %q: %w", dir, err)
	}
	if len(set.files) == 0 {
		return nil, fmt.Errorf("cannot use %q: it holds no NDJSON files", dir)
	}
	return set, set.eachLine(func(line []byte) error {
		set.bytes += int64(len(line)) + 1
		set.resources++
		return nil
	})
}

func isNDJSON(name string) bool {
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst")
	return strings.HasSuffix(name, ".ndjson")
}

// eachLine calls fn with every line that is not empty, without its end.
func (d *dataSet) eachLine(fn func(line []byte) error) error {
	for _, path := range d.files {
		if err := eachLineOf(path, fn); err != nil {
			return fmt.Errorf("cannot read data %q: %w", path, err)
		}
	}
	return nil
}

func eachLineOf(path string, fn func(line []byte) error) error {
	return withPlain(path, func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 1<<20), lineBytesMax)
		for lines.Scan() {
			if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
				if err := fn(line); err != nil {
					return err
				}
			}
		}
		return lines.Err()
	})
}

// withPlain calls fn with the uncompressed bytes of a file.
func withPlain(path string, fn func(io.Reader) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	switch filepath.Ext(path) {
	case ".gz":
		r, err := gzip.NewReader(file)
		if err != nil {
			return err
		}
		return errors.Join(fn(r), r.Close())
	case ".zst":
		r, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		defer r.Close()
		return fn(r)
	}
	return fn(file)
}

// unpack writes the data set uncompressed below dir, one file for each of
// its files, so that every store compared reads the same bytes.
func (d *dataSet) unpack(dir string) (*dataSet, error) {
	plain := &dataSet{dir: dir, resources: d.resources, bytes: d.bytes}
	for i, path := range d.files {
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".gz"), ".zst")
		target := filepath.Join(dir, fmt.Sprintf("%03d-%s", i, name))
		if err := unpackFile(path, target); err != nil {
			return nil, fmt.Errorf("cannot unpack %q: %w", path, err)
		}
		plain.files = append(plain.files, target)
	}
	return plain, nil
}

func unpackFile(path, target string) error {
	out, err := os.Create(target)
	if err != nil {
		return err
	}
	err = withPlain(path, func(r io.Reader) error {
		_, err := io.Copy(out, r)
		return err
	})
	return errors.Join(err, out.Close())
}
