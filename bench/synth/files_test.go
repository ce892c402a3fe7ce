package synth

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFilesHoldsEveryLine(t *testing.T) {
	dir, want := t.TempDir(), map[string][]byte{}
	opts := Options{Seed: 6, Patients: 2}
	generate(t, opts, func(name string, line []byte) {
		want[name] = append(append(want[name], line...), '\n')
	})
	if _, err := WriteFiles(opts, dir); err != nil {
		t.Fatal(err)
	}
	for name, lines := range want {
		got, err := os.ReadFile(filepath.Join(dir, name+".ndjson"))
		if err != nil || !bytes.Equal(got, lines) {
			t.Errorf("%s: error %v, %d bytes, want %d", name, err, len(got), len(lines))
		}
	}
}

func TestWriteFilesNamesTheDirectoryItCannotUse(t *testing.T) {
	if _, err := WriteFiles(Options{Patients: 1}, filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("no error for a directory that is not there")
	}
}
