package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/bulk/backup"
)

// markers are what no file of an encrypted store may show: a resource's id, name and
// number, and the same where compressed text would hide them, in refused lines and
// parameters of requests.
var markers = []string{"markerid", "Markername", "4711-marker"}

const markerPatient = `{"resourceType":"Patient","id":"markerid%d","identifier":[{"system":"urn:x","value":"4711-marker"}],"name":[{"family":"Markername"}]}`

// markersIn counts the files below directories that have a marker.
func markersIn(t *testing.T, dirs ...string) (found []string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if os.IsNotExist(err) || err == nil && entry.IsDir() {
				return nil // gone meanwhile
			}
			text, err := os.ReadFile(path)
			for _, marker := range markers {
				if bytes.Contains(text, []byte(marker)) || strings.Contains(path, marker) {
					found = append(found, path+" has "+marker)
				}
			}
			if os.IsNotExist(err) {
				return nil
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// encryptedWorld is a data directory with all kinds of files, and a backup of it.
type encryptedWorld struct {
	t                        *testing.T
	input, data, target, out string
}

func newEncryptedWorld(t *testing.T) *encryptedWorld {
	dir := t.TempDir()
	w := &encryptedWorld{t: t, input: filepath.Join(dir, "in"), data: filepath.Join(dir, "data"), target: filepath.Join(dir, "target"), out: filepath.Join(dir, "out")}
	for _, made := range []string{w.input, w.target} {
		if err := os.Mkdir(made, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	var lines strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&lines, markerPatient+"\n", i)
	}
	lines.WriteString(`{"resourceType":"Patient","id":"markerid no id","name":[{"family":"Markername"}]}` + "\n")
	write(t, w.input, "p.ndjson", lines.String())
	return w
}

func (w *encryptedWorld) serve(flags ...string) *server {
	w.t.Helper()
	return serve(w.t, w.data, append([]string{"--import-root", w.input, "--backup-root", w.target}, flags...)...)
}

// fill writes and exports; looked is called while the server runs.
func (w *encryptedWorld) fill(s *server) (backupID string) {
	w.t.Helper()
	mustKiln(w.t, 3, "import", "--server", s.base, w.input)
	for i := range 20 {
		body := strings.Replace(fmt.Sprintf(markerPatient, i), "Patient", "Patient", 1)
		s.must(http.StatusOK, http.MethodPut, fmt.Sprintf("/Patient/markerid%d", i), strings.Replace(body, `"name"`, `"active":true,"name"`, 1))
	}
	mustKiln(w.t, 0, "export", "--server", s.base, "--type", "Patient", "--type-filter", "Patient?name=Markername", "--out", w.out)
	return decode[backup.Result](w.t, []byte(mustKiln(w.t, 0, "backup", "--server", s.base, "--json", w.target).out)).ID
}

// Without a key the markers are there: the test can fail.
func TestMarkersOfAPlainStoreAreFound(t *testing.T) {
	t.Parallel()
	w := newEncryptedWorld(t)
	s := w.serve()
	w.fill(s)
	found := markersIn(t, w.data, w.target)
	s.stop()
	places := map[string]bool{}
	for _, f := range found {
		rel, err := filepath.Rel(filepath.Dir(w.data), strings.Fields(f)[0])
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(rel, string(filepath.Separator))
		places[parts[0]+"/"+parts[1]] = true
	}
	for _, want := range []string{"data/log", "data/runs", "data/errors", "data/exports", "data/catalog", "target/runs"} {
		if !places[want] {
			t.Errorf("no marker in %s, only in %v", want, places)
		}
	}
}

func keyFile(t *testing.T, letters string) string {
	t.Helper()
	var text strings.Builder
	for _, letter := range letters {
		text.WriteString(strings.Repeat(fmt.Sprintf("%02x", letter), 32) + "\n")
	}
	return write(t, t.TempDir(), "keys", text.String())
}

// An encrypted store through import, reads, a kill, a restart, a merge of keys, backup and
// restore: all is there, and none of it to be read in any file.
func TestAnEncryptedStore(t *testing.T) {
	t.Parallel()
	w := newEncryptedWorld(t)
	flag := []string{"--encryption-key-file", keyFile(t, "a")}
	s := w.serve(flag...)
	id := w.fill(s)
	before := s.histories()
	w.mustHide("a running server")
	s.kill()
	w.mustHide("a killed server")
	s = w.serve(flag...)
	if got := s.histories(); !maps.Equal(got, before) || len(got) < 3020 {
		t.Fatalf("%d versions after a kill, %d before", len(got), len(before))
	}
	mustKiln(t, 0, "backup", "--server", s.base, w.target)
	s.stop()
	w.mustHide("a stopped server")
	w.mustRefuse()
	w.mustShow(flag)
	restored := filepath.Join(t.TempDir(), "restored")
	both := []string{"--encryption-key-file", keyFile(t, "ba")}
	mustKiln(t, 0, append([]string{"backup", "--verify", w.target}, flag...)...)
	mustKiln(t, 0, append([]string{"restore", w.target, "--data-dir", restored, "--backup", id}, both...)...)
	w.data = restored
	w.mustHide("a restored store")
	s = w.serve("--encryption-key-file", keyFile(t, "b")) // it is under the first key
	if got := s.histories(); !maps.Equal(got, before) {
		t.Errorf("%d versions were restored, there were %d", len(got), len(before))
	}
	s.stop()
	w.repair([]string{"--encryption-key-file", keyFile(t, "b")})
}

func (w *encryptedWorld) mustHide(when string) {
	w.t.Helper()
	if found := markersIn(w.t, w.data, w.target); len(found) > 0 {
		w.t.Fatalf("%s: %s", when, strings.Join(found, "\n"))
	}
}

// mustRefuse: without the key, and with another, nothing opens anything.
func (w *encryptedWorld) mustRefuse() {
	w.t.Helper()
	fresh := filepath.Join(w.t.TempDir(), "fresh")
	for _, flags := range [][]string{nil, {"--encryption-key-file", keyFile(w.t, "c")}, {"--encryption-key-command", "echo " + strings.Repeat("0d", 32)}} {
		for _, command := range [][]string{
			{"serve", "--listen", "127.0.0.1:0", "--data-dir", w.data}, {"fsck", "--data-dir", w.data}, {"repair", "--data-dir", w.data},
			{"dump", "--log", "--data-dir", w.data}, {"dump", "--key", "Patient/markerid1", "--data-dir", w.data},
			{"backup", "--data-dir", w.data, w.t.TempDir()}, {"load", "--data-dir", w.data, w.input}, {"restore", w.target, "--data-dir", fresh},
		} {
			got := kiln(w.t, append(command, flags...)...)
			if got.code == 0 || !strings.Contains(got.err, "encrypted") && !strings.Contains(got.err, "key") {
				w.t.Errorf("%v %v: exit %d, %q", command, flags, got.code, got.err)
			}
		}
	}
	if got := kiln(w.t, "backup", "--keep", "1", w.target); got.code == 0 {
		w.t.Errorf("a pruning without the key: %q", got.out)
	}
	if got := kiln(w.t, "fsck", "--data-dir", w.data, "--encryption-key-file", write(w.t, w.t.TempDir(), "bad", "hush")); got.code != exitUsage || strings.Contains(got.err, "hush") {
		w.t.Errorf("a key that is none: exit %d, %q", got.code, got.err)
	}
}

// mustShow: with the key everything can be looked at.
func (w *encryptedWorld) mustShow(flag []string) {
	w.t.Helper()
	mustKiln(w.t, 0, append([]string{"fsck", "--data-dir", w.data}, flag...)...)
	errorFiles, err := filepath.Glob(filepath.Join(w.data, "errors", "*", "*"))
	if err != nil || len(errorFiles) != 1 {
		w.t.Fatalf("error files: %v, %v", errorFiles, err)
	}
	flipByte(w.t, errorFiles[0], 300)
	if got := mustKiln(w.t, exitDamage, append([]string{"fsck", "--data-dir", w.data}, flag...)...); !strings.Contains(got.out, errorFiles[0]) {
		w.t.Errorf("a changed error file: %s", got.out)
	}
	flipByte(w.t, errorFiles[0], 300)
	name, err := filepath.Rel(w.data, errorFiles[0])
	if err != nil {
		w.t.Fatal(err)
	}
	shown := func(args ...string) string {
		return mustKiln(w.t, 0, append(append(args, "--data-dir", w.data), flag...)...).out
	}
	if out := shown("dump", "--file", name); !strings.Contains(out, "OperationOutcome") {
		w.t.Errorf("the error file shows %q", out)
	}
	if out := shown("dump", "--key", "Patient/markerid1"); !strings.Contains(out, "Markername") {
		w.t.Errorf("the resource shows %q", out)
	}
	if out := shown("dump", "--log"); !strings.Contains(out, "INGEST") {
		w.t.Errorf("the log shows %q", out)
	}
	mustKiln(w.t, 0, append([]string{"backup", "--data-dir", w.data, w.target}, flag...)...)
	w.mustHide("a backup of a directory")
	if out := shown("keys"); !strings.Contains(out, "for what is new") || !strings.Contains(out, "plain             0 files (0 runs), 0 bytes, 0 records of the log, 0 values") {
		w.t.Errorf("the keys show %q", out)
	}
}

// repair flips bytes of a run, which is found and mended around.
func (w *encryptedWorld) repair(flag []string) {
	w.t.Helper()
	runs, err := filepath.Glob(filepath.Join(w.data, "runs", "*.run"))
	if err != nil || len(runs) == 0 {
		w.t.Fatalf("runs: %v, %v", runs, err)
	}
	flipByte(w.t, runs[0], 9000)
	mustKiln(w.t, exitDamage, append([]string{"fsck", "--data-dir", w.data}, flag...)...)
	kiln(w.t, append([]string{"repair", "--data-dir", w.data}, flag...)...)
	mustKiln(w.t, 0, append([]string{"fsck", "--data-dir", w.data}, flag...)...)
	w.mustHide("a repaired store")
}

func TestNewKeysDiffer(t *testing.T) {
	first, second := mustKiln(t, 0, "keys", "--new").out, mustKiln(t, 0, "keys", "--new").out
	if len(strings.TrimSpace(first)) != 44 || first == second {
		t.Errorf("%q and %q", first, second)
	}
}
