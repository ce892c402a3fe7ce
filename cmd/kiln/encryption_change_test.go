package main

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// keyUses is what `kiln keys --json` prints.
type keyUses struct {
	Keys []struct {
		Key           string
		Current       bool
		Files, Runs   int
		LogRecords    int
		CatalogValues int
		Bytes         int64
	}
	Forgotten          []string
	ResealedErrorFiles int
}

// uses are what is under the store's keys; more are flags.
func (w *encryptedWorld) uses(letters string, more ...string) keyUses {
	w.t.Helper()
	args := append([]string{"keys", "--json", "--data-dir", w.data, "--encryption-key-file", keyFile(w.t, letters)}, more...)
	return decode[keyUses](w.t, []byte(mustKiln(w.t, 0, args...).out))
}

// runFiles are the names of the store's runs.
func (w *encryptedWorld) runFiles() []string {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(w.data, "runs", "*.run"))
	if err != nil {
		w.t.Fatal(err)
	}
	return names
}

// awaitMerges waits until none of these runs is left.
func (w *encryptedWorld) awaitMerges(s *server, old []string) {
	w.t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(startTimeout); ; <-ticker.C {
		now := w.runFiles()
		if !slices.ContainsFunc(old, func(name string) bool { return slices.Contains(now, name) }) {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("runs stay as they were: %v\n%s", now, s.log)
		}
	}
}

// places are the folders of the data directory in which a marker is.
func (w *encryptedWorld) places() (dirs []string) {
	w.t.Helper()
	for _, found := range markersIn(w.t, w.data) {
		rel, err := filepath.Rel(w.data, strings.Fields(found)[0])
		if err != nil {
			w.t.Fatal(err)
		}
		dirs = append(dirs, strings.Split(rel, string(filepath.Separator))[0])
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// TestAPlainStoreIsEncryptedLater gives keys to a store that was plain, and then other
// keys: by file, environment and command. What stays plain, and for how long, is shown.
func TestAPlainStoreIsEncryptedLater(t *testing.T) {
	t.Parallel()
	w := newEncryptedWorld(t)
	s := w.serve()
	w.fill(s)
	before := s.histories()
	s.stop()
	old := w.runFiles()
	flags := []string{"--import-root", w.input, "--backup-root", w.target}
	s = spawnWith(t, []string{"KILN_ENCRYPTION_KEY=" + strings.Repeat("61", 32)}, w.data, flags...)
	s.waitListening()
	s.must(http.StatusOK, http.MethodPut, "/Patient/markerid7", strings.Replace(fmt.Sprintf(markerPatient, 7), "Markername", "Markername-sealed", 1))
	w.awaitMerges(s, old)
	s.kill()
	s = w.serve("--encryption-key-command", "cat "+keyFile(t, "a"))
	if got := s.histories(); len(got) != len(before)+1 {
		t.Errorf("%d versions after a kill, %d before", len(got), len(before))
	}
	before = s.histories()
	exports, err := os.ReadDir(filepath.Join(w.data, "exports"))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range exports {
		s.must(http.StatusAccepted, http.MethodDelete, "/_operations/export/"+one.Name(), "")
	}
	s.stop()
	// Merges sealed the runs, the reopened catalog its values. The log goes on being
	// plain until it is trimmed, an error file until old keys are forgotten.
	if got := w.places(); !slices.Equal(got, []string{"errors", "log"}) {
		t.Errorf("markers are in %v", got)
	}
	if got := w.uses("a").Keys; len(got) != 2 || got[1].Key != "plain" || got[1].Runs+got[1].CatalogValues != 0 || got[1].LogRecords == 0 {
		t.Errorf("the keys: %+v", got)
	}
	w.changeKeys(before)
	w.moveToSealed(before)
}

// changeKeys has a running server write everything under a second key.
func (w *encryptedWorld) changeKeys(before map[string]string) {
	w.t.Helper()
	old := w.runFiles()
	s := w.serve("--encryption-key-file", keyFile(w.t, "ba"))
	w.awaitMerges(s, old)
	if got := s.histories(); !maps.Equal(got, before) {
		w.t.Errorf("%d versions with another key, %d before", len(got), len(before))
	}
	s.kill()
	got := w.uses("ba", "--forget")
	if len(got.Keys) != 3 || !got.Keys[0].Current || got.Keys[0].Runs == 0 || got.Keys[1].Runs != 0 || got.Keys[1].LogRecords == 0 {
		w.t.Errorf("the keys: %+v", got.Keys)
	}
	if dirs := w.places(); got.ResealedErrorFiles == 0 || !slices.Equal(dirs, []string{"log"}) {
		w.t.Errorf("markers are in %v", dirs)
	}
	if len(got.Forgotten) != 0 {
		w.t.Errorf("a key that the log needs is forgotten: %+v", got)
	}
	for _, letters := range []string{"a", "b", "c", "ca"} {
		if got := kiln(w.t, "serve", "--listen", "127.0.0.1:0", "--data-dir", w.data, "--encryption-key-file", keyFile(w.t, letters)); got.code != exitFailed || !strings.Contains(got.err, "needs key") {
			w.t.Errorf("with %q: exit %d, %s", letters, got.code, got.err)
		}
	}
	twice := spawnWith(w.t, []string{"KILN_ENCRYPTION_KEY=" + strings.Repeat("61", 32)}, w.data, "--encryption-key-file", keyFile(w.t, "ba"))
	<-twice.exited
	if code := twice.cmd.ProcessState.ExitCode(); code != exitUsage {
		w.t.Errorf("keys from two places: exit %d, %s", code, twice.log)
	}
}

// moveToSealed: a backup under a key, restored, has nothing plain, nor under older keys.
func (w *encryptedWorld) moveToSealed(before map[string]string) {
	w.t.Helper()
	target, restored := filepath.Join(w.t.TempDir(), "sealed"), filepath.Join(w.t.TempDir(), "restored")
	mustKiln(w.t, 0, "backup", "--data-dir", w.data, target, "--encryption-key-file", keyFile(w.t, "ba"))
	for _, flags := range [][]string{nil, {"--encryption-key-file", keyFile(w.t, "a")}} {
		if got := kiln(w.t, append([]string{"restore", target, "--data-dir", restored}, flags...)...); got.code == 0 {
			w.t.Errorf("restored with %v", flags)
		}
	}
	mustKiln(w.t, 0, "restore", target, "--data-dir", restored, "--encryption-key-file", keyFile(w.t, "b"))
	if found := markersIn(w.t, target, restored); len(found) > 0 {
		w.t.Errorf("%s", strings.Join(found, "\n"))
	}
	w.data = restored
	s := w.serve("--encryption-key-file", keyFile(w.t, "b"))
	if got := s.histories(); !maps.Equal(got, before) {
		w.t.Errorf("%d versions were restored, there were %d", len(got), len(before))
	}
	s.stop()
}
