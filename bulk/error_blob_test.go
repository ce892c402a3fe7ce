package bulk

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kiln/internal/npmtest"
)

// blobText reads a blob by its address.
func (a *azurite) blobText(t *testing.T, address string) string {
	t.Helper()
	container, name, ok := strings.Cut(strings.TrimPrefix(address, a.url+"/"), "/")
	if !ok {
		t.Fatalf("%q is not a blob of %s", address, a.url)
	}
	got, err := a.client.NewContainerClient(container).NewBlobClient(name).DownloadStream(context.Background(), nil)
	if err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	if *got.ContentType != errorBlobType {
		t.Errorf("%s is %s", address, *got.ContentType)
	}
	return string(text)
}

// localText is the error file that this server keeps.
func (s *testSite) localText(status *ImportStatus, input int) string {
	s.t.Helper()
	d, err := s.jobs.ErrorFile(status.ID, status.Inputs[input].ErrorFile)
	if err != nil {
		s.t.Fatal(err)
	}
	defer d.Close()
	text, err := readDownload(d)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func testErrorBlobs(t *testing.T, a *azurite) {
	s := a.site(t, AzureOptions{ConnectionString: a.connectionString()})
	c := a.container("errors")
	bad := []byte(patient("a", "") + "\nnothing\n" + patient("#", "") + "\n")
	one, _ := c.put("one.ndjson", bad)
	two, _ := c.put("two.ndjson", bad)
	good, _ := c.put("good.ndjson", []byte(patient("b", "")))
	local := s.file("local.ndjson", "nothing")
	f := func(container, want string) {
		t.Helper()
		r := &ImportRequest{InputSource: container, ErrorContainer: container, Inputs: []ImportInput{{URL: one, Type: "Patient"}, {URL: good}, {URL: local}, {URL: two}}}
		id, err := s.jobs.StartImport(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		status := s.wait(id)
		if status.State != Completed || !strings.HasSuffix(testCounts(status), "1/2 1/0 0/1 1/2") {
			t.Fatalf("ended as %d with %s, %v", status.State, testCounts(status), status.Error)
		}
		for i, want := range map[int]string{0: want + `/Patient%d-[0-9a-f]{8}_1\.ndjson$`, 3: want + `/%d-[0-9a-f]{8}_4\.ndjson$`} {
			address := status.Inputs[i].ErrorBlob
			if !regexp.MustCompile("^" + regexp.QuoteMeta(a.url) + "/" + fmt.Sprintf(want, id)).MatchString(address) {
				t.Errorf("the error file of input %d is at %q", i, address)
				continue
			}
			text := a.blobText(t, address)
			if text != s.localText(status, i) || strings.Count(text, "\n") != 2 || !strings.Contains(text, "line: 2 with") || !strings.Contains(text, "line: 3 with") {
				t.Errorf("%s holds %s", address, text)
			}
		}
		if status.Inputs[1].ErrorBlob != "" || status.Inputs[2].ErrorBlob != "" || status.Inputs[2].ErrorFile == "" {
			t.Errorf("a good blob and a bad local file have %+v", status.Inputs[1:3])
		}
	}
	f("", "fhirlogs") // which is not there yet
	f("my-errors-1", "my-errors-1")
	f("errors", "errors")
	got := s.jobs.Metrics()
	if got.ErrorFilesStored != 6 || got.ErrorFilesKept != 0 {
		t.Errorf("%d error files are counted as stored, %d as kept", got.ErrorFilesStored, got.ErrorFilesKept)
	}
}

// badLines are n lines that are refused, with a good one between.
func badLines(n int) []byte {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{%d\n%s\n", i, patient(fmt.Sprint("p", i), ""))
	}
	return []byte(b.String())
}

// testErrorBlobsOfACancelledJob cancels after some rounds, then goes on: the
// blob is written anew and tells every line once.
func testErrorBlobsOfACancelledJob(t *testing.T, a *azurite) {
	const lines = 400
	s := a.site(t, AzureOptions{ConnectionString: a.connectionString()})
	s.close()
	s.rounds, s.workers = 1, 1 // a round is a few units, whoever is slow
	s.open()
	address, _ := a.container("cancelled").put("a.ndjson", badLines(lines))
	rounds := 0
	s.jobs.beforePublish = func() {
		if rounds++; rounds == 3 {
			if err := s.jobs.CancelImport(1); err != nil {
				t.Error(err)
			}
		}
	}
	var before string
	for _, want := range []State{Cancelled, Completed} {
		id, err := s.startFixed(InitialLoad, 1000, []string{address})
		if err != nil {
			t.Fatal(err)
		}
		status := s.wait(id)
		if status.State != want || status.Inputs[0].ErrorBlob == "" {
			t.Fatalf("ended as %+v", status)
		}
		text := a.blobText(t, status.Inputs[0].ErrorBlob)
		if text != s.localText(status, 0) || int64(strings.Count(text, "\n")) != status.Inputs[0].Refused || !strings.HasPrefix(text, before) {
			t.Errorf("in state %d the blob has %d lines of %d", want, strings.Count(text, "\n"), status.Inputs[0].Refused)
		}
		before = text
	}
	if strings.Count(before, "\n") != lines {
		t.Errorf("the blob has %d lines, want %d", strings.Count(before, "\n"), lines)
	}
}

// testErrorBlobsAfterARestart stops the server while storage takes no error
// file, once when all is loaded and once after a cancel: the next start stores
// it, and only then is the job completed.
func testErrorBlobsAfterARestart(t *testing.T, a *azurite) {
	const lines = 200
	a.container("restarted").put("a.ndjson", badLines(lines))
	for _, want := range []State{Completed, Cancelled} {
		var open atomic.Bool
		asked := make(chan struct{})
		once := sync.OnceFunc(func() { close(asked) })
		account := a.proxy(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			if r.Method == http.MethodPut && !open.Load() {
				once()
				_, _ = io.Copy(io.Discard, r.Body) // only then a closed connection is noticed
				<-r.Context().Done()
				return
			}
			forward.ServeHTTP(w, r)
		})
		s := a.site(t, AzureOptions{AccountURL: account, AccountKey: azuriteKey})
		s.close()
		s.rounds, s.workers = 1, 1
		s.open()
		rounds := 0
		s.jobs.beforePublish = func() {
			if rounds++; rounds == 2 && want == Cancelled {
				if err := s.jobs.CancelImport(1); err != nil {
					t.Error(err)
				}
			}
		}
		id, err := s.startFixed(InitialLoad, 1000, []string{account + "/restarted/a.ndjson"})
		if err != nil {
			t.Fatal(err)
		}
		<-asked
		status, err := s.jobs.ImportStatus(id)
		if err != nil || !status.Storing || want == Completed && status.State != Running {
			t.Errorf("while its error file is stored the job is %+v, %v", status, err)
		}
		if err := s.jobs.Close(); err != nil {
			t.Fatal(err)
		}
		open.Store(true)
		if s.jobs, err = NewManager(context.Background(), s.options(s.jobs.opts.NewID)); err != nil {
			t.Fatal(err)
		}
		status = s.wait(id)
		if status.State != want || status.Inputs[0].ErrorBlob == "" {
			t.Fatalf("after the restart: %+v %+v", status, status.Error)
		}
		stored, err := url.Parse(status.Inputs[0].ErrorBlob)
		if err != nil {
			t.Fatal(err)
		}
		address := strings.TrimSuffix(a.url, "/"+npmtest.AzuriteAccount) + stored.Path
		if text := a.blobText(t, address); text != s.localText(status, 0) || want == Completed && strings.Count(text, "\n") != lines {
			t.Errorf("the blob has %d lines of %d", strings.Count(text, "\n"), lines)
		}
	}
}

func testErrorBlobsRefused(t *testing.T, a *azurite) {
	a.container("untaken").put("a.ndjson", badLines(3))
	f := func(what string, stored bool, answer func(http.ResponseWriter, *http.Request) bool) {
		t.Helper()
		account := a.proxy(t, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			if r.Method != http.MethodPut || !answer(w, r) {
				forward.ServeHTTP(w, r)
			}
		})
		s := a.site(t, AzureOptions{AccountURL: account, AccountKey: azuriteKey})
		status := s.wait(s.start(InitialLoad, 0, account+"/untaken/a.ndjson"))
		if status.State != Completed || testCounts(status) != "3/3" || (status.Inputs[0].ErrorBlob != "") != stored {
			t.Errorf("%s: ended as %+v", what, status)
		}
		if got := s.errorTexts(status, 0); len(got) != 3 {
			t.Errorf("%s: this server tells of %d lines", what, len(got))
		}
		if kept := s.jobs.Metrics().ErrorFilesKept; (kept == 0) != stored {
			t.Errorf("%s: %d files are counted as kept", what, kept)
		}
	}
	var requests atomic.Int64
	f("busy, and cut", true, func(w http.ResponseWriter, r *http.Request) bool {
		switch requests.Add(1) % 3 {
		case 0:
			return false
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		default:
			panic(http.ErrAbortHandler)
		}
	})
	f("forbidden", false, func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	f("busy for ever", false, func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
}
