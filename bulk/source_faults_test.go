package bulk

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// faultsMax of each file are fewer than what makes a job give up.
const faultsMax = attemptsMax - 1

// faultyServer refuses and cuts at random, until it has done so often enough
// with a file.
type faultyServer struct {
	files    map[string][]byte
	noRanges bool

	mu     sync.Mutex
	random *rand.Rand
	faults map[string]int
}

// fault is 0 (none), 1 (refuse) or 2 (cut at an offset).
func (s *faultyServer) fault(path string) (fault, at int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault, at = (s.random.IntN(5)+1)/2, s.random.IntN(len(s.files[path]))
	if fault == 0 || s.faults[path] == faultsMax {
		return 0, 0
	}
	s.faults[path]++
	return fault, at
}

func (s *faultyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Etag", `"v1"`)
	if s.noRanges {
		r.Header.Del("Range")
	}
	fault, at := s.fault(r.URL.Path)
	switch fault {
	case 1:
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case 2:
		w = &brokenWriter{w, at}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.files[r.URL.Path]))
}

// What comes over bad connections is what the file has, line by line, and
// nothing twice.
func TestImportOverBadConnectionsIsWhole(t *testing.T) {
	const files, linesN = 8, 700
	long := strings.Repeat("x", 1500)
	for seed := range uint64(4) {
		faulty := &faultyServer{files: make(map[string][]byte), faults: make(map[string]int), noRanges: seed%2 == 1, random: rand.New(rand.NewPCG(seed, 3))}
		server := httptest.NewServer(faulty)
		s := newTestSite(t)
		s.close()
		s.origins, s.rounds = []string{server.URL}, 1<<20
		s.open()
		var urls, want []string
		for f := range files {
			var lines []string
			for i := range linesN {
				id := fmt.Sprintf("p%d-%03d", f, i)
				lines = append(lines, patient(id, fmt.Sprintf(`,"language":"%s%d"`, long, i)))
				want = append(want, fmt.Sprintf("Patient/%s v000001 %s", id, lines[i]))
			}
			path := fmt.Sprintf("/%d.ndjson", f)
			faulty.files[path] = []byte(strings.Join(lines, "\n"))
			urls = append(urls, server.URL+path)
		}
		status := s.wait(s.start(IncrementalLoad, 1<<18, urls...))
		if counts := strings.Repeat(fmt.Sprint(" ", linesN, "/0"), files)[1:]; status.State != Completed || testCounts(status) != counts {
			t.Errorf("seed %d: ended as %d, %s, %+v", seed, status.State, testCounts(status), status.Error)
		}
		if got := s.versions(); !slices.Equal(got, want) {
			t.Errorf("seed %d: %.200s", seed, firstDifference(strings.Join(got, "\n"), strings.Join(want, "\n")))
		}
		s.close()
		server.Close()
		if len(faulty.faults) < files/2 {
			t.Errorf("seed %d: only %v faults were met", seed, faulty.faults)
		}
	}
}

// A server that hangs fails the job, which then names the input. Secrets in the
// address are not named.
func TestImportFromAServerThatHangs(t *testing.T) {
	data := []byte(strings.Repeat(patient("a", "")+"\n", 1000))
	f := func(what, want string, serve func(w http.ResponseWriter, r *http.Request)) {
		t.Helper()
		hang := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			serve(w, r)
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}))
		defer server.Close()
		defer close(hang)
		s := newTestSite(t)
		s.close()
		s.origins, s.silenceMax = []string{server.URL}, 30*time.Millisecond
		s.open()
		defer s.close()
		status := s.wait(s.start(IncrementalLoad, 0, server.URL+"/p.ndjson?sig=secret"))
		if status.State != Failed || status.Error.Status != 500 || status.Error.Input != server.URL+"/p.ndjson" ||
			status.Error.Text != strings.ReplaceAll(want, "%s", status.Error.Input) {
			t.Errorf("%s: ended as %d, %+v", what, status.State, status.Error)
		}
	}
	silent := fmt.Sprintf("%%s: the server sent nothing for too long, %d times in a row", attemptsMax)
	f("it never answers", silent, func(http.ResponseWriter, *http.Request) {})
	f("it stops in the middle", silent, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "bytes=0-0" {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(data)-1, len(data)))
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(data[:1000])
		w.(http.Flusher).Flush()
	})
	f("it has no ranges and stops in the middle", silent, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:1000])
		w.(http.Flusher).Flush()
	})
	f("it breaks every connection", fmt.Sprintf("%%s: the server cannot be reached, or breaks the connection, %d times in a row", attemptsMax),
		func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		})
}
