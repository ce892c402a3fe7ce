package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/bulk/backup"
)

// histories gives every version that a server has, by type, id and version.
func (s *server) histories() map[string]string {
	s.t.Helper()
	texts := map[string]string{}
	for next := "/_history?_count=1000"; next != ""; {
		got := s.must(http.StatusOK, http.MethodGet, next, "")
		page := decode[struct {
			Link  []struct{ Relation, URL string }
			Entry []struct {
				Resource *struct {
					ResourceType, ID string
					Meta             struct{ VersionID string }
				}
				Request struct{ URL, Method string }
			}
		}](s.t, got.body)
		raw := decode[struct {
			Entry []struct{ Resource rawText }
		}](s.t, got.body)
		for i, e := range page.Entry {
			key := e.Request.Method + " " + e.Request.URL
			if e.Resource != nil {
				key = e.Resource.ResourceType + "/" + e.Resource.ID + "/" + e.Resource.Meta.VersionID
			}
			texts[key] += string(raw.Entry[i].Resource)
		}
		next = ""
		for _, link := range page.Link {
			if link.Relation == "next" {
				next = link.URL[len(s.base):]
			}
		}
	}
	return texts
}

// rawText is a JSON value as it came.
type rawText []byte

func (r *rawText) UnmarshalJSON(text []byte) error {
	*r = slices.Clone(text)
	return nil
}

// A server goes on while it is backed up: with an import and writers at work, what
// was acknowledged before is in the backup, all of the backup was sent, and each
// resource's versions are the first ones, byte for byte.
func TestBackupOfAServerAtWork(t *testing.T) {
	t.Parallel()
	input, target := t.TempDir(), t.TempDir()
	write(t, input, "p.ndjson", patients(20000, "x"))
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--import-root", input, "--backup-root", target)
	for i := range 50 {
		s.must(http.StatusCreated, http.MethodPut, fmt.Sprintf("/Patient/b%d", i), fmt.Sprintf(`{"resourceType":"Patient","id":"b%d"}`, i))
	}
	before := s.histories()
	var work sync.WaitGroup
	done := make(chan struct{})
	for n := range 4 {
		work.Go(func() { s.writeUntil(done, n) })
	}
	work.Go(func() { mustKiln(t, 0, "import", "--server", s.base, input) })
	first := decode[backup.Result](t, []byte(mustKiln(t, 0, "backup", "--server", s.base, "--json", filepath.Join(target, "a")).out))
	second := decode[backup.Result](t, []byte(mustKiln(t, 0, "backup", "--server", s.base, "--json", filepath.Join(target, "a")).out))
	close(done)
	work.Wait()
	if second.RunsCopied >= second.Runs && second.BytesMerged == 0 || second.LSN <= first.LSN {
		t.Errorf("the second backup copied %+v", second)
	}
	mustKiln(t, 0, "backup", "--verify", filepath.Join(target, "a"))
	after := s.histories()
	for _, result := range []backup.Result{first, second} {
		dir := filepath.Join(t.TempDir(), "restored")
		mustKiln(t, 0, "restore", filepath.Join(target, "a"), "--data-dir", dir, "--backup", result.ID)
		r := serve(t, dir)
		got := r.histories()
		for key, text := range before {
			if got[key] != text {
				t.Fatalf("%s is %q in the backup, and was %q before it", key, got[key], text)
			}
		}
		for key, text := range got {
			if after[key] != text {
				t.Fatalf("%s is %q in the backup, and %q in the store", key, text, after[key])
			}
			kind, version := key[:strings.LastIndexByte(key, '/')+1], 0
			if _, err := fmt.Sscan(key[len(kind):], &version); err == nil && version > 1 && got[kind+fmt.Sprint(version-1)] == "" {
				t.Fatalf("the backup has %s and not the version before it", key)
			}
		}
		if len(got) != int(result.Versions) {
			t.Errorf("%d versions were restored, the backup has %d", len(got), result.Versions)
		}
		r.stop()
		mustKiln(t, 0, "fsck", "--data-dir", dir)
	}
	s.stop()
}

// writeUntil updates resources of its own.
func (s *server) writeUntil(done chan struct{}, n int) {
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
		}
		id := fmt.Sprintf("w%d-%d", n, i%20)
		got, err := ask(http.MethodPut, s.base+"/Patient/"+id, fmt.Sprintf(`{"resourceType":"Patient","id":%q,"language":"l%d"}`, id, i))
		if err != nil || got.status >= 300 {
			s.t.Errorf("PUT %s: %v %v", id, got, err)
			return
		}
	}
}

// lastUpdated is that of the resource in the answer.
func (a *answer) lastUpdated(t *testing.T) time.Time {
	t.Helper()
	return decode[struct {
		Meta struct{ LastUpdated time.Time }
	}](t, a.body).Meta.LastUpdated
}

// The commands say what they do, refuse what they must, and leave the exit codes.
func TestBackupCommands(t *testing.T) {
	t.Parallel()
	dir, target := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "backups")
	input := t.TempDir()
	mustKiln(t, exitFailed, "backup", "--data-dir", input, target) // no store
	s := serve(t, dir)
	s.must(http.StatusCreated, http.MethodPut, "/Patient/a", `{"resourceType":"Patient","id":"a"}`)
	if got := mustKiln(t, exitFailed, "backup", "--data-dir", dir, target); !strings.Contains(got.err, "in use") {
		t.Errorf("of a directory that a server has: %s", got.err)
	}
	if got := mustKiln(t, exitFailed, "backup", "--server", s.base, target); !strings.Contains(got.err, "--backup-root") {
		t.Errorf("of a server that allows none: %s", got.err)
	}
	s.stop()
	first := decode[backup.Result](t, []byte(mustKiln(t, 0, "backup", "--data-dir", dir, "--json", target).out))
	s = serve(t, dir)
	at := s.must(http.StatusCreated, http.MethodPut, "/Patient/b", `{"resourceType":"Patient","id":"b"}`).lastUpdated(t)
	for n, later := 0, at; !later.After(at); n++ { // two writes may be of one millisecond
		later = s.must(http.StatusCreated, http.MethodPut, fmt.Sprintf("/Patient/c%d", n), fmt.Sprintf(`{"resourceType":"Patient","id":"c%d"}`, n)).lastUpdated(t)
	}
	s.must(http.StatusNoContent, http.MethodDelete, "/Patient/a", "")
	s.stop()
	if got := mustKiln(t, 0, "backup", "--data-dir", dir, target); !strings.Contains(got.out, "every moment since "+first.ID) {
		t.Errorf("the second backup says %s", got.out)
	}
	if got := mustKiln(t, 0, "backup", "--list", target); strings.Count(got.out, "\n") != 2 || !strings.HasPrefix(got.out, first.ID) {
		t.Errorf("--list: %s", got.out)
	}
	for args, want := range map[string][2]int{
		"":                                      {404 + 6, 200}, // a is deleted
		"--backup " + first.ID:                  {200, 404},
		"--lsn " + fmt.Sprint(first.LSN):        {200, 404},
		"--time " + at.Format(time.RFC3339Nano): {200, 200},
	} {
		to := filepath.Join(t.TempDir(), "restored")
		mustKiln(t, 0, append([]string{"restore", target, "--data-dir", to}, strings.Fields(args)...)...)
		r := serve(t, to)
		r.must(want[0], http.MethodGet, "/Patient/a", "")
		r.must(want[1], http.MethodGet, "/Patient/b", "")
		r.stop()
		mustKiln(t, exitFailed, "restore", target, "--data-dir", to)
	}
	if got := mustKiln(t, exitFailed, "restore", target, "--data-dir", filepath.Join(t.TempDir(), "x"), "--lsn", "100000"); !strings.Contains(got.err, "in reach: LSN") {
		t.Errorf("a moment out of reach: %s", got.err)
	}
	if got := mustKiln(t, 0, "backup", "--keep", "1", target); !strings.HasPrefix(got.out, "removed 1 old backups") {
		t.Errorf("--keep: %s", got.out)
	}
	damage(t, target)
	mustKiln(t, exitDamage, "backup", "--verify", target)
	to := filepath.Join(t.TempDir(), "restored")
	mustKiln(t, exitDamage, "restore", target, "--data-dir", to)
	mustKiln(t, exitFailed, "fsck", "--data-dir", to)
}

// damage changes a byte of a run in a target.
func damage(t *testing.T, target string) {
	t.Helper()
	runs, err := filepath.Glob(filepath.Join(target, "runs", "*.run"))
	if err != nil || len(runs) == 0 {
		t.Fatalf("no runs: %v", err)
	}
	text, err := os.ReadFile(runs[0])
	if err == nil {
		text[len(text)/2]++
		err = os.WriteFile(runs[0], text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
