//go:build unix

package bulk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Opening a pipe waits for its writer, and with it cancel and shutdown would.
func TestImportRefusesAPipe(t *testing.T) {
	s := newTestSite(t)
	pipe := filepath.Join(s.dir, "p.ndjson")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Skipf("cannot make a pipe here: %v", err)
	}
	status := s.wait(s.start(IncrementalLoad, 0, pipe))
	if status.State != Failed || status.Error.Status != 400 || !strings.Contains(status.Error.Text, "not a regular file") {
		t.Errorf("the import of a pipe ends as %+v %+v", status, status.Error)
	}
}

// An import that goes on in the middle of a file must find the same file.
func TestResumedImportRefusesAReplacedFile(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		s := newTestSite(t)
		s.close()
		s.rounds = 1 // every unit is a round
		s.open()
		var lines []string
		for i := range 200 {
			lines = append(lines, patient(fmt.Sprintf("a%03d", i), ""))
		}
		urls := []string{s.file("1", lines...)}
		rounds := 0
		s.jobs.beforePublish = func() {
			if rounds++; rounds == 2 {
				if err := s.jobs.CancelImport(1); err != nil {
					t.Error(err)
				}
			}
		}
		id, err := s.startFixed(InitialLoad, 1000, urls)
		if err != nil {
			t.Fatal(err)
		}
		if status := s.wait(id); status.State != Cancelled || status.Inputs[0].Loaded == 0 {
			t.Fatalf("the import ends as %+v", status)
		}
		if replaced { // by as many bytes, a second later
			s.file("1", strings.Split(strings.ReplaceAll(strings.Join(lines, "\n"), `"a`, `"b`), "\n")...)
			later := time.Now().Add(time.Second)
			if err := os.Chtimes(urls[0], later, later); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.startFixed(InitialLoad, 1000, urls); err != nil {
			t.Fatal(err)
		}
		status := s.wait(id)
		if replaced && (status.State != Failed || !strings.Contains(status.Error.Text, "Etag not match")) ||
			!replaced && (status.State != Completed || testCounts(status) != "200/0") {
			t.Errorf("replaced %v: it ends as %d %s %+v", replaced, status.State, testCounts(status), status.Error)
		}
		s.close()
	}
}
