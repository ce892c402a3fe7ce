package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// faultWriter updates resources of its own and knows of each what was acknowledged.
// A resource that a write of unknown outcome went to is not written again.
type faultWriter struct {
	t         *testing.T
	name      string
	client    *http.Client
	resources map[string]*resource
	acked     int
	refused   int
	unknown   int
}

// faultWriterIDs are the resources that a writer has at a time.
const faultWriterIDs = 5

// run writes until stop is set.
func (w *faultWriter) run(s *server, stop *atomic.Bool) {
	for n := 0; !stop.Load(); n++ {
		id := fmt.Sprintf("%s-%d-%d", w.name, n%faultWriterIDs, w.unknown)
		r := w.resources[id]
		if r == nil {
			r = &resource{}
			w.resources[id] = r
		}
		marker := w.name + " #" + strconv.Itoa(n)
		r.pending = r.next(marker, false)
		got, err := askWith(w.client, http.MethodPut, s.base+"/Basic/"+id, basic(id, marker))
		switch {
		case err != nil || got.status == http.StatusServiceUnavailable && strings.Contains(string(got.body), "unknown"):
			w.unknown++ // all of its resources are left as they are
		case got.status == http.StatusInsufficientStorage || got.status == http.StatusServiceUnavailable:
			w.refused++
			r.pending = nil
			time.Sleep(time.Millisecond)
		case got.status/100 == 2:
			w.acked++
			r.acked = append(r.acked, *r.pending)
			r.pending = nil
		default:
			w.t.Errorf("PUT Basic/%s: %d %s", id, got.status, got.body)
			return
		}
	}
}

// faultWriters are some of them at work.
type faultWriters struct {
	t       *testing.T
	all     []*faultWriter
	stop    atomic.Bool
	working sync.WaitGroup
}

func startFaultWriters(s *server, timeout time.Duration) *faultWriters {
	l := &faultWriters{t: s.t}
	for n := range 4 {
		w := &faultWriter{t: s.t, name: "w" + strconv.Itoa(n), client: &http.Client{Timeout: timeout}, resources: map[string]*resource{}}
		l.all = append(l.all, w)
		l.working.Go(func() { w.run(s, &l.stop) })
	}
	return l
}

func (l *faultWriters) end() (acked, refused, unknown int) {
	l.stop.Store(true)
	l.working.Wait()
	for _, w := range l.all {
		acked, refused, unknown = acked+w.acked, refused+w.refused, unknown+w.unknown
	}
	return acked, refused, unknown
}

// check compares what the server has with what the writers know.
func (l *faultWriters) check(s *server) {
	l.t.Helper()
	found := s.history("/Basic")
	for _, w := range l.all {
		for id, r := range w.resources {
			if err := r.settle(found[id]); err != nil {
				l.t.Errorf("Basic/%s: %v", id, err)
			}
			delete(found, id)
		}
	}
	for id, states := range found {
		l.t.Errorf("Basic/%s: %v was never written", id, tail(states))
	}
}

// TestAStoppedProcessLosesNothing stops the server for moments in which its clients
// run out of time, and lets it go on.
func TestAStoppedProcessLosesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dir)
	const patience = 400 * time.Millisecond
	writers := startFaultWriters(s, patience)
	for range envInt(t, "KILN_KILLS", 2) {
		time.Sleep(patience)
		if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * patience)
		if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(patience)
	acked, refused, unknown := writers.end()
	s.stop() // finishes what is under way, so that nothing changes behind the check
	s = serve(t, dir)
	writers.check(s)
	s.stop()
	mustKiln(t, 0, "fsck", "--data-dir", dir)
	t.Logf("%d writes acknowledged, %d refused, %d unknown", acked, refused, unknown)
	if acked == 0 || unknown == 0 {
		t.Errorf("%d writes were acknowledged and %d ran out of time: the test shows nothing", acked, unknown)
	}
}

// smallDisk mounts a file system of a size, or skips.
func smallDisk(t *testing.T, bytes int64) string {
	t.Helper()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("skipped: a disk of a known size cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// fillUp takes all the space that is left, and gives the file that has it.
func fillUp(t *testing.T, disk string) string {
	t.Helper()
	name := filepath.Join(disk, "others")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for step := 1 << 20; step >= 4<<10; {
		_, err := file.Write(make([]byte, step))
		if errors.Is(err, syscall.ENOSPC) {
			step /= 4
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// takeAllBut takes all the space but so much, and gives the file that has it.
func takeAllBut(t *testing.T, disk string, left int64) string {
	t.Helper()
	var stat syscall.Statfs_t
	if err := syscall.Statfs(disk, &stat); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(disk, "others")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := syscall.Fallocate(int(file.Fd()), 0, 0, int64(stat.Bavail)*stat.Bsize-left); err != nil {
		t.Fatal(err)
	}
	return name
}

// await asks for a path until its answer has a text.
func (s *server) await(path, text string) {
	s.t.Helper()
	var got *answer
	for end := time.Now().Add(startTimeout); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var err error
		if got, err = ask(http.MethodGet, s.root+path, ""); err != nil {
			s.t.Fatalf("GET %s: %v\n%s", path, err, s.log)
		}
		if strings.Contains(string(got.body)+got.header.Get("X-Progress"), text) {
			return
		}
	}
	s.t.Fatalf("GET %s never gave %q, but %d %s", path, text, got.status, got.body)
}

// TestAFullDiskLosesNothing lets others take the whole data disk, to the last page,
// while clients write and an import waits, and give it back.
func TestAFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	disk, input := smallDisk(t, 224<<20), t.TempDir()
	dir := filepath.Join(disk, "data")
	flags := []string{"--min-free", "8MiB", "--ballast", "4MiB", "--import-root", input, "--base-url", killBaseURL}
	s := serve(t, dir, flags...)
	s.await("/healthz", `"ballastBytes":524288`)
	writers := startFaultWriters(s, startTimeout)
	time.Sleep(200 * time.Millisecond)
	others := fillUp(t, disk)
	s.await("/healthz", `"ballastBytes":0`)
	fillUpAgain := others + "-too"
	if err := os.Rename(others, fillUpAgain); err != nil {
		t.Fatal(err)
	}
	others = fillUp(t, disk) // the ballast's space too
	s.await("/healthz", `"writes":"disk full"`)
	var lines strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&lines, `{"resourceType":"Patient","id":"p%d"}`+"\n", i)
	}
	body := fmt.Sprintf(`{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueString":"application/fhir+ndjson"},{"name":"input","part":[{"name":"url","valueUri":"%s"}]}]}`,
		fileURL(write(t, input, "p.ndjson", lines.String())))
	s.must(http.StatusInsufficientStorage, http.MethodPost, "/$import", body, "Prefer", "respond-async")
	s.must(http.StatusInsufficientStorage, http.MethodPut, "/Basic/no", basic("no", "no"))
	s.must(http.StatusOK, http.MethodGet, "/Basic/w0-0-0", "")
	acked, refused, unknown := writers.end()
	s.stop() // on the full disk
	s = serve(t, dir, append([]string{"--read-only"}, flags...)...)
	writers.check(s)
	s.stop()
	if got := kiln(t, append([]string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0"}, flags...)...); got.code != exitFailed || !strings.Contains(got.err, "no space left") {
		t.Errorf("serve on a full disk: exit %d, %s", got.code, got.err)
	}
	for _, name := range []string{others, fillUpAgain} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	s = serve(t, dir, flags...)
	writers.check(s)
	s.await("/healthz", `"ballastBytes":524288`)
	s.must(http.StatusCreated, http.MethodPut, "/Basic/yes", basic("yes", "yes"))
	others = takeAllBut(t, disk, 12<<20) // low: the import waits, writes go on
	s.await("/healthz", `"level":"low"`)
	got := s.must(http.StatusAccepted, http.MethodPost, "/$import", body, "Prefer", "respond-async")
	status := strings.TrimPrefix(got.header.Get("Content-Location"), killBaseURL)
	s.await("/fhir"+status, "waiting for room on the data disk")
	s.must(http.StatusOK, http.MethodPut, "/Basic/yes", basic("yes", "again"))
	if err := os.Remove(others); err != nil {
		t.Fatal(err)
	}
	s.await("/fhir"+status, `"count":2000`)
	s.stop()
	mustKiln(t, 0, "fsck", "--data-dir", dir)
	t.Logf("%d writes acknowledged, %d refused, %d unknown", acked, refused, unknown)
	if acked == 0 || refused == 0 || unknown > 0 {
		t.Errorf("%d writes acknowledged, %d refused, %d unknown", acked, refused, unknown)
	}
}
