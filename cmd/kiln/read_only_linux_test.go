package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// contents are the files below dir with hashes of what is in them, but for the
// lock, whose bytes mean nothing.
func contents(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	files := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == "LOCK" {
			return err
		}
		text, err := os.ReadFile(path)
		files[path] = sha256.Sum256(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestServeReadOnly serves a directory as Close left it, one as kill -9 left it, and
// one on a mount for reading: what is stored is read, what jobs left too, nothing is changed.
func TestServeReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var jobs map[string]string
	f := func(name, where string) {
		t.Helper()
		before := contents(t, dir)
		s := serve(t, where, "--read-only")
		s.must(http.StatusOK, http.MethodGet, "/Patient/a", "")
		if found := s.history("/Patient")["a"]; len(found) != 1 {
			t.Errorf("%s: the history is %v", name, found)
		}
		s.must(http.StatusOK, http.MethodGet, "/Patient?_id=a", "")
		for _, try := range [][3]string{
			{http.MethodPut, "/Patient/b", `{"resourceType":"Patient","id":"b"}`},
			{http.MethodDelete, "/Patient/a", ""},
			{http.MethodDelete, "/Patient/a?_hardDelete=true", ""},
			{http.MethodGet, "/$export", ""},
		} {
			got := s.must(http.StatusForbidden, try[0], try[1], try[2], "Prefer", "respond-async", "Accept", "application/fhir+json")
			if !strings.Contains(string(got.body), "read-only") {
				t.Errorf("%s: %v: %s", name, try, got.body)
			}
		}
		s.checkJobs(name, jobs)
		for path, want := range map[string]string{"/healthz": `"writes":"read-only"`, "/readyz": "ok", "/metrics": "kiln_store_read_only 1"} {
			got, err := ask(http.MethodGet, s.root+path, "")
			if err != nil || got.status != http.StatusOK || !strings.Contains(string(got.body), want) {
				t.Errorf("%s: %s: %v %+v", name, path, err, got)
			}
		}
		s.stop()
		after := contents(t, dir)
		for path, hash := range after {
			if before[path] != hash {
				t.Errorf("%s: %s was changed", name, path)
			}
			delete(before, path)
		}
		if len(before) > 0 {
			t.Errorf("%s: files are gone: %v", name, before)
		}
	}
	root := t.TempDir()
	s := serve(t, dir, "--import-root", root, "--backup-root", root)
	s.must(http.StatusCreated, http.MethodPut, "/Patient/a", `{"resourceType":"Patient","id":"a"}`)
	jobs = s.runJobs(write(t, root, "p.ndjson", `{"resourceType":"Basic","id":"b"}`+"\nx\n"), filepath.Join(root, "backups"))
	s.kill()
	f("after kill -9", dir)
	mustKiln(t, 0, "fsck", "--data-dir", dir)
	serve(t, dir).stop()
	f("after an orderly end", dir)

	mounted := t.TempDir()
	if err := syscall.Mount(dir, mounted, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount the directory for reading: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mounted, 0); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mount("", mounted, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("cannot mount the directory for reading: %v", err)
	}
	f("on a mount for reading", mounted)
	if got := kiln(t, "serve", "--data-dir", mounted, "--listen", "127.0.0.1:0"); got.code != 1 || !strings.Contains(got.err, "read-only file system") {
		t.Errorf("serve on a mount for reading: exit %d, %s", got.code, got.err)
	}
}

// checkJobs reads what runJobs gave, and fails to change it.
func (s *server) checkJobs(name string, jobs map[string]string) {
	s.t.Helper()
	for path, want := range jobs {
		if got := s.must(http.StatusOK, http.MethodGet, path, ""); withoutHost(got.body) != want {
			s.t.Errorf("%s: %s was %s, and is %s", name, path, want, got.body)
		}
		if strings.Contains(path, "/backup/") {
			s.must(http.StatusConflict, http.MethodDelete, path, "")
		} else if strings.Contains(path, "/export/") && !strings.Contains(path, "ndjson") {
			s.must(http.StatusForbidden, http.MethodDelete, path, "")
		}
	}
}

// withoutHost takes the server's address out, whose port changes.
func withoutHost(text []byte) string {
	return regexp.MustCompile(`http://127\.0\.0\.1:\d+`).ReplaceAllString(string(text), "")
}

// runJobs does an import, an export and a backup, and gives the addresses of their
// statuses and files with the answers.
func (s *server) runJobs(input, target string) map[string]string {
	s.t.Helper()
	jobs := map[string]string{}
	for _, start := range [][3]string{
		{http.MethodPost, "/$import", fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueString":"application/fhir+ndjson"},`+
			`{"name":"mode","valueString":"IncrementalLoad"},{"name":"input","part":[{"name":"url","valueUri":%q}]}]}`, fileURL(input))},
		{http.MethodGet, "/$export", ""},
		{http.MethodPost, "/$backup", fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"target","valueString":%q}]}`, target)},
	} {
		kicked := s.must(http.StatusAccepted, start[0], start[1], start[2], "Prefer", "respond-async", "Accept", "application/fhir+json")
		status := strings.TrimPrefix(kicked.header.Get("Content-Location"), s.base)
		for jobs[status] == "" {
			got, err := ask(http.MethodGet, s.base+status, "")
			if err != nil || got.status != http.StatusAccepted && got.status != http.StatusOK {
				s.t.Fatalf("%s: %v %+v", status, err, got)
			}
			if got.status == http.StatusOK {
				jobs[status] = withoutHost(got.body)
			}
		}
		for _, file := range regexp.MustCompile(`"/fhir(/[^"]*ndjson)"`).FindAllStringSubmatch(jobs[status], -1) {
			jobs[file[1]] = string(s.must(http.StatusOK, http.MethodGet, file[1], "").body)
		}
	}
	if len(jobs) < 6 {
		s.t.Fatalf("the jobs left too little: %v", jobs)
	}
	return jobs
}
