// Package shareddata is for tests: it finds the real data and the definition
// tables that may lie beside the repository, in ../shared or where the
// environment's KILN_SHARED says, and reads them.
package shareddata

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Path is the absolute path of a file or folder of the data. The test is
// skipped when it is not there.
func Path(tb testing.TB, elements ...string) string {
	tb.Helper()
	root := os.Getenv("KILN_SHARED")
	if root == "" {
		root = filepath.Join(moduleRoot(tb), "..", "shared")
	}
	path, err := filepath.Abs(filepath.Join(append([]string{root}, elements...)...))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		tb.Skipf("shared test data is not there: %s", err)
	}
	return path
}

// moduleRoot is the folder with go.mod above the package that is tested.
func moduleRoot(tb testing.TB) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		above := filepath.Dir(dir)
		if above == dir {
			tb.Fatal("there is no go.mod above the test")
		}
		dir = above
	}
}

// Read reads a file; .gz and .zst are unpacked.
func Read(tb testing.TB, path string) []byte {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		text, err = unpack(filepath.Ext(path), text)
	}
	if err != nil {
		tb.Fatalf("cannot read %s: %s", path, err)
	}
	return text
}

func unpack(extension string, text []byte) ([]byte, error) {
	switch extension {
	case ".gz":
		r, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case ".zst":
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return d.DecodeAll(text, nil)
	}
	return text, nil
}

// Lines are the lines of all NDJSON files in a folder of the data, or of one
// file, without their ends and without empty ones.
func Lines(tb testing.TB, elements ...string) (lines [][]byte) {
	tb.Helper()
	err := filepath.WalkDir(Path(tb, elements...), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(path, ".ndjson") {
			return err
		}
		for line := range bytes.Lines(Read(tb, path)) {
			if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
				lines = append(lines, line)
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatalf("cannot list the shared test data: %s", err)
	}
	return lines
}
