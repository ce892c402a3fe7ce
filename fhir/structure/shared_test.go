package structure

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

// sharedPath is a file of the shared test data, which need not be there.
func sharedPath(t testing.TB, elements ...string) string {
	t.Helper()
	root := os.Getenv("KILN_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	path := filepath.Join(append([]string{root}, elements...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("shared test data is not there: %s", err)
	}
	return path
}

// sharedLines are the lines of all NDJSON files in a folder, or of one file.
func sharedLines(t testing.TB, elements ...string) (lines [][]byte) {
	t.Helper()
	err := filepath.WalkDir(sharedPath(t, elements...), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(path, ".ndjson") {
			return err
		}
		text, err := readFile(path)
		for line := range bytes.Lines(text) {
			if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
				lines = append(lines, line)
			}
		}
		return err
	})
	if err != nil {
		t.Fatalf("cannot read shared lines: %s", err)
	}
	return lines
}

// readFile reads a file that may be compressed.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	switch filepath.Ext(path) {
	case ".gz":
		r, err := gzip.NewReader(file)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case ".zst":
		d, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return io.ReadAll(d)
	}
	return io.ReadAll(file)
}
