package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// patients are n lines with different ids and one marker.
func patients(n int, marker string) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"resourceType":"Patient","id":"p%d","language":"%s"}`+"\n", i, marker)
	}
	return text.String()
}

func loadedAndRefused(t *testing.T, text string) (loaded, refused int64) {
	t.Helper()
	result := decode[importResult](t, []byte(text))
	for _, in := range result.Output {
		loaded += in.Count
	}
	for _, in := range result.Error {
		refused += in.Count
	}
	return loaded, refused
}

func TestASecondIncrementalImportChangesNothing(t *testing.T) {
	input := t.TempDir()
	file := write(t, input, "p.ndjson", patients(500, "first"))
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--import-root", input)
	f := func(versions int64) {
		t.Helper()
		done := mustKiln(t, 0, "import", "--server", s.base, "--json", input)
		if loaded, refused := loadedAndRefused(t, done.out); loaded != 500 || refused != 0 {
			t.Errorf("%d loaded, %d refused", loaded, refused)
		}
		if total := s.historyTotal("/Patient"); total != versions {
			t.Errorf("%d versions instead of %d", total, versions)
		}
	}
	f(500)
	f(500)
	// The same command is a new import when the file has changed.
	write(t, input, filepath.Base(file), patients(499, "second")+`{"resourceType":"Patient","id":"p499","language":"first"}`)
	f(999)
	f(999)
	// Under one name it is one import: finished, it is only reported.
	named := []string{"import", "--server", s.base, "--json", "--source", "urn:x", input}
	first := mustKiln(t, 0, named...)
	write(t, input, filepath.Base(file), patients(500, "third"))
	if second := mustKiln(t, 0, named...); second.out != first.out || s.historyTotal("/Patient") != 999 {
		t.Errorf("a finished import ran again: %s", second.out)
	}
	s.stop()
}

func TestRefusedLinesExit3AndSayWhere(t *testing.T) {
	input := t.TempDir()
	file := write(t, input, "p.ndjson", "{\"resourceType\":\"Patient\",\"id\":\"a\"}\n\n{\"resourceType\":\"Patient\"\n{\"resourceType\":\"Patient\",\"id\":\"b\"}")
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--import-root", input)
	got := mustKiln(t, exitRefused, "import", "--server", s.base, file)
	if !strings.Contains(got.out, "loaded 2 resources") || !strings.Contains(got.err, "refused 1 lines") || !strings.Contains(got.err, s.base) {
		t.Errorf("stdout %q, stderr %q", got.out, got.err)
	}
	s.stop()
}

func TestImportRefusesWhatTheServerMayNotRead(t *testing.T) {
	input := t.TempDir()
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--import-root", input)
	outside := write(t, t.TempDir(), "p.ndjson", patients(1, "x"))
	link := filepath.Join(input, "link.ndjson")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	f := func(arg string) {
		t.Helper()
		if got := mustKiln(t, exitFailed, "import", "--server", s.base, arg); !strings.Contains(got.err, "input.url") {
			t.Errorf("%s: %s", arg, got.err)
		}
	}
	f(outside)
	f(link)
	f("file://" + input + "/../" + filepath.Base(filepath.Dir(outside)) + "/p.ndjson")
	f("http://127.0.0.1:1/p.ndjson")
	if total := s.historyTotal("/Patient"); total != 0 {
		t.Errorf("%d versions", total)
	}
	s.stop()
}

func TestLoadNeedsNoServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	input := t.TempDir()
	good := write(t, input, "a.ndjson", patients(300, "x"))
	write(t, input, "b.ndjson", `{"resourceType":"Patient","id":"#"}`)
	done := mustKiln(t, 0, "load", "--data-dir", dir, "--mode", "initial", "--json", good)
	if loaded, refused := loadedAndRefused(t, done.out); loaded != 300 || refused != 0 {
		t.Errorf("%d loaded, %d refused", loaded, refused)
	}
	// As a server writes it.
	if !regexp.MustCompile(`"transactionTime":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"`).MatchString(done.out) {
		t.Errorf("transactionTime in %s", done.out)
	}
	again := mustKiln(t, exitRefused, "load", "--data-dir", dir, "--mode", "initial", "--json", good)
	if loaded, refused := loadedAndRefused(t, again.out); loaded != 0 || refused != 300 {
		t.Errorf("again: %d loaded, %d refused", loaded, refused)
	}
	both := mustKiln(t, exitRefused, "load", "--data-dir", dir, "--json", input)
	if loaded, refused := loadedAndRefused(t, both.out); loaded != 300 || refused != 1 {
		t.Errorf("both: %d loaded, %d refused", loaded, refused)
	}
	link := filepath.Join(t.TempDir(), "link.ndjson")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	mustKiln(t, 0, "load", "--data-dir", dir, link)
	file := decode[importResult](t, []byte(both.out)).Error[0].URL
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "Invalid resource id: '#'") {
		t.Errorf("the error file %s: %v %s", file, err, text)
	}
	s := serve(t, dir)
	s.must(http.StatusOK, http.MethodGet, "/Patient/p299", "")
	s.stop()
}

func TestExportGivesWhatWasAskedFor(t *testing.T) {
	input := t.TempDir()
	write(t, input, "p.ndjson", patients(250, "x")+`{"resourceType":"Basic","id":"b"}`)
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--import-root", input)
	mustKiln(t, 0, "import", "--server", s.base, input)
	s.must(http.StatusNoContent, http.MethodDelete, "/Patient/p7", "")
	f := func(want int, args ...string) {
		t.Helper()
		out := filepath.Join(t.TempDir(), "out")
		mustKiln(t, 0, append([]string{"export", "--server", s.base, "--out", out}, args...)...)
		if got := exported(t, out); len(got) != want {
			t.Errorf("%v: %d resources instead of %d", args, len(got), want)
		}
		if want > 0 {
			mustKiln(t, exitUsage, append([]string{"export", "--server", s.base, "--out", out}, args...)...)
		}
	}
	f(250)
	f(249, "--type", "Patient")
	f(250, "--type", "Patient,Basic")
	f(0, "--type", "Observation")
	f(0, "--since", "2999-01-01")
	f(250, "--since", "2020-01-01T00:00:00Z", "--delete")
	mustKiln(t, exitFailed, "export", "--server", s.base, "--out", filepath.Join(t.TempDir(), "out"), "--since", "yesterday")
	s.stop()
}

// TestFsckFindsAFlippedByte flips one byte in every file of the log and the
// runs, one after the other: fsck finds each, and the untouched store is sound.
func TestFsckFindsAFlippedByte(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	input := write(t, t.TempDir(), "p.ndjson", patients(300, "x"))
	mustKiln(t, 0, "load", "--data-dir", dir, input)
	mustKiln(t, 0, "fsck", "--data-dir", dir)
	runs, err := filepath.Glob(filepath.Join(dir, "runs", "*.run"))
	if err != nil || len(runs) == 0 {
		t.Fatalf("no runs: %v", err)
	}
	for _, file := range runs {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text[len(text)/2] ^= 1
		if err := os.WriteFile(file, text, 0o666); err != nil {
			t.Fatal(err)
		}
		got := mustKiln(t, exitDamage, "fsck", "--data-dir", dir)
		if !strings.Contains(got.out, filepath.Base(file)) || !strings.Contains(got.out, "offset ") {
			t.Errorf("fsck does not say where: %s", got.out)
		}
		text[len(text)/2] ^= 1
		if err := os.WriteFile(file, text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	mustKiln(t, 0, "fsck", "--data-dir", dir)
}

func TestDumpShowsWhatIsOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dir)
	s.must(http.StatusCreated, http.MethodPut, "/Patient/a", `{"resourceType":"Patient","id":"a"}`)
	s.must(http.StatusNoContent, http.MethodDelete, "/Patient/a", "")
	s.stop()
	mustKiln(t, 0, "load", "--data-dir", dir, write(t, t.TempDir(), "p.ndjson", patients(5, "x")))
	runs, err := filepath.Glob(filepath.Join(dir, "runs", "*.run"))
	if err != nil || len(runs) == 0 {
		t.Fatalf("no runs: %v", err)
	}
	f := func(want string, flags ...string) {
		t.Helper()
		if got := mustKiln(t, 0, append([]string{"dump", "--data-dir", dir}, flags...)...); !strings.Contains(got.out, want) {
			t.Errorf("dump %v does not show %q:\n%s", flags, want, got.out)
		}
	}
	f("format  kiln-data 1")
	f("COMMIT", "--log")
	f("INGEST", "--log")
	f("Patient/p4", "--run", filepath.Base(runs[0]))
	f("version 2", "--key", "Patient/a")
	f("deleted", "--key", "Patient/a")
	mustKiln(t, exitFailed, "dump", "--data-dir", dir, "--key", "Patient/never")
	mustKiln(t, exitUsage, "dump", "--data-dir", dir, "--key", "Patient")
	mustKiln(t, exitUsage, "dump", "--data-dir", dir, "--run", "x")
	mustKiln(t, exitUsage, "dump", "--data-dir", dir, "--log", "--key", "Patient/a")
	foreign := t.TempDir()
	mustKiln(t, exitFailed, "dump", "--data-dir", foreign)
	if left, err := os.ReadDir(foreign); err != nil || len(left) != 0 {
		t.Errorf("a foreign directory was touched: %v %v", left, err)
	}
}

func TestDemoEndsWith0(t *testing.T) {
	demoEndsWith0(t)
}

func TestDemoOfAnEncryptedStore(t *testing.T) {
	demoEndsWith0(t, "--encryption-key-file", keyFile(t, "a"))
}

func demoEndsWith0(t *testing.T, flags ...string) {
	t.Helper()
	got := mustKiln(t, 0, append([]string{"demo", "--exit", "--patients", "3"}, flags...)...)
	for _, want := range []string{"imported ", "read ", "searched ", "updated ", "history ", "exported ", "compared "} {
		if !strings.Contains(got.out, want) {
			t.Errorf("the demo does not say %q:\n%s", want, got.out)
		}
	}
}

// TestFsckChecksFilesOfJobs changes what a server wrote for clients, and adds a file.
func TestFsckChecksFilesOfJobs(t *testing.T) {
	dir, exports := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "exports")
	input := write(t, t.TempDir(), "p.ndjson", `{"resourceType":"Patient","id":"a"}`+"\nnothing\n")
	s := serve(t, dir, "--import-root", filepath.Dir(input), "--export-dir", exports)
	mustKiln(t, exitRefused, "import", "--server", s.base, input)
	mustKiln(t, 0, "export", "--server", s.base, "--out", filepath.Join(t.TempDir(), "out"))
	s.stop()
	fsck := []string{"fsck", "--data-dir", dir, "--export-dir", exports}
	f := func(pattern string) {
		t.Helper()
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		flipByte(t, files[0], 3)
		if got := mustKiln(t, exitDamage, fsck...); !strings.Contains(got.out, files[0]+": offset 0: ") {
			t.Errorf("fsck does not say where: %s", got.out)
		}
		flipByte(t, files[0], 3)
	}
	f(filepath.Join(exports, "*", "*.ndjson"))
	f(filepath.Join(dir, "errors", "*", "*.ndjson"))
	stranger := write(t, exports, "notes.txt", "mine")
	if got := mustKiln(t, 0, fsck...); !strings.Contains(got.out, "note: "+stranger+": ") || !strings.Contains(got.out, "sound") {
		t.Errorf("fsck: %s", got.out)
	}
	if got := mustKiln(t, 0, append(fsck, "--json")...); !strings.Contains(got.out, `"note":true`) {
		t.Errorf("fsck --json: %s", got.out)
	}
	if got := mustKiln(t, exitDamage, "fsck", "--data-dir", dir); !strings.Contains(got.out, "--export-dir") {
		t.Errorf("fsck without the directory of exports: %s", got.out)
	}
}
