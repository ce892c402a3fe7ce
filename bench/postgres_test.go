package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCopyTakesLinesAsTheyAre(t *testing.T) {
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) == 0 {
		t.Skip("no PostgreSQL here")
	}
	dir, err := os.MkdirTemp("", "kiln-bench-test-") // the database's user may go there
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lines := `{"resourceType":"Patient","id":"a","text":"quote \" slash \\ tab \t comma , é"}` + "\n" + patientLine + "\n"
	var files []string
	for _, name := range []string{"it's.ndjson", "b.ndjson", "c.ndjson"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(lines), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	p, err := startPostgres(t.Context(), dir, forBulk)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	for _, connections := range []int{1, 2} {
		r, err := p.copyFiles(t.Context(), files, connections, true)
		if err != nil {
			t.Fatal(err)
		}
		if r.rows != 6 || r.took <= 0 || r.cpuSeconds < 0 || r.tableBytes <= 0 || r.indexBytes <= 0 {
			t.Errorf("%d connections: %+v", connections, r)
		}
	}
	got, err := p.psql(t.Context(), "select doc->>'text' from resources where doc->>'text' is not null limit 1")
	if want := "quote \" slash \\ tab \t comma , é"; err != nil || got != want {
		t.Errorf("read back %q (%v), want %q", got, err, want)
	}
}

func TestBalanceDealsLargestFirst(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for name, size := range map[string]int{"a": 50, "b": 30, "c": 25, "d": 5} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	parts, err := balance(files, 2)
	if err != nil {
		t.Fatal(err)
	}
	f := func(part []string, want ...string) {
		t.Helper()
		if len(part) != len(want) {
			t.Fatalf("part %v, want %v", part, want)
		}
		for i := range want {
			if filepath.Base(part[i]) != want[i] {
				t.Errorf("part %v, want %v", part, want)
			}
		}
	}
	f(parts[0], "a", "d")
	f(parts[1], "b", "c")
}
