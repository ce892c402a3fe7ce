package parquet

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"kiln/fhir"
	"kiln/internal/npmtest"
)

const readerDir = "testdata/reader"

// A reader that shares no code with the writer sees the same rows.
func TestAnotherReaderReadsTheFile(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not there")
	}
	npmtest.Install(t, readerDir)
	resources := oddResources()
	path := filepath.Join(t.TempDir(), "Observation.parquet")
	if err := os.WriteFile(path, file(t, fhir.TypeByName([]byte("Observation")), resources), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(node, filepath.Join(readerDir, "read.mjs"), path).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if len(lines) != len(resources) {
		t.Fatalf("%d rows of %d", len(lines), len(resources))
	}
	for i, line := range lines {
		if err := differ("", decode(t, resources[i]), decode(t, line)); err != nil {
			t.Errorf("%s: %s", resources[i], err)
		}
	}
}
