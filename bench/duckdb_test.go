package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// duckdbSkips tells why there is no DuckDB to test: only who asks for it by installing
// it before (bench import --compare-duckdb) has tests that take it.
func duckdbSkips(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil || !duckdbInstalled() {
		t.Skip("DuckDB is not installed here")
	}
}

func TestDuckDBTakesLinesAsTheyAre(t *testing.T) {
	duckdbSkips(t)
	const line = `{"resourceType":"Patient","id":"a","text":"quote \" slash \\ tab \t comma , é"}`
	dir := t.TempDir()
	for _, name := range []string{"it's.ndjson", "b.ndjson"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(line+"\n"+line+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set, err := openDataSet(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range duckdbLoads {
		d, err := startDuckDB(t.Context(), filepath.Join(t.TempDir(), "it's.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer d.stop()
		if _, err := d.load(set, &duckdbLoads[i]); err != nil {
			t.Fatal(err)
		}
		answer, err := d.run("select distinct doc from resources where doc like ?", "%Patient%")
		if err != nil || len(answer.Rows) != 1 || answer.Rows[0][0] != line {
			t.Errorf("%s: %+v, %v", duckdbLoads[i].name, answer, err)
		}
		if _, err := d.run("select nothing"); err == nil || !strings.Contains(err.Error(), "nothing") {
			t.Errorf("a statement that is wrong: %v", err)
		}
	}
}

func TestFilesAreQuotedInSQL(t *testing.T) {
	if got := sqlFiles([]string{"a", "it's"}); got != "['a', 'it''s']" {
		t.Errorf("quoted as %s", got)
	}
}
