package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// quick is a client without the waits of real life.
func quick(t *testing.T, base string) *client {
	t.Helper()
	c, err := newClient(base)
	if err != nil {
		t.Fatal(err)
	}
	c.http.RetryWaitMin, c.http.RetryWaitMax = time.Millisecond, time.Millisecond
	return c
}

func TestServerAddressMeansItsFHIRBase(t *testing.T) {
	f := func(server, want string) {
		t.Helper()
		c, err := newClient(server)
		if err != nil || c.base != want {
			t.Errorf("%s: got %v %v instead of %s", server, c, err, want)
		}
	}
	f("http://127.0.0.1:8080", "http://127.0.0.1:8080/fhir")
	f("http://127.0.0.1:8080/", "http://127.0.0.1:8080/fhir")
	f("http://127.0.0.1:8080/fhir", "http://127.0.0.1:8080/fhir")
	f("https://example.org/r4/", "https://example.org/r4")
	for _, bad := range []string{"", "localhost:8080", "ftp://x", "/fhir", "http://"} {
		if _, err := newClient(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestFollowWaitsForTheResult(t *testing.T) {
	asked := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch asked {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable) // a restart is bridged
		case 2:
			w.Header().Set("X-Progress", "50% of it")
			w.WriteHeader(http.StatusAccepted)
		default:
			fmt.Fprint(w, `{"output":[]}`)
		}
	}))
	defer web.Close()
	got, err := quick(t, web.URL).follow(t.Context(), web.URL+"/job", &progress{})
	if err != nil || string(got) != `{"output":[]}` || asked != 3 {
		t.Errorf("got %s %v after %d requests", got, err, asked)
	}
}

func TestAFailedJobIsReportedWithItsTextAndNotAskedAgain(t *testing.T) {
	asked := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprint(w, `{"resourceType":"OperationOutcome","issue":[{"details":{"text":"it broke"},"diagnostics":"in the middle"}]}`)
	}))
	defer web.Close()
	_, err := quick(t, web.URL).follow(t.Context(), web.URL+"/job", &progress{})
	if err == nil || !strings.Contains(err.Error(), "it broke; in the middle") || asked != 1 {
		t.Errorf("got %v after %d requests", err, asked)
	}
}

func TestRetryAfterIsSecondsOrADateWithinBounds(t *testing.T) {
	f := func(text string, low, high time.Duration) {
		t.Helper()
		got := retryAfter(&http.Response{Header: http.Header{"Retry-After": {text}}})
		if got < low || got > high {
			t.Errorf("%q: wait %s, not between %s and %s", text, got, low, high)
		}
	}
	f("2", 2*time.Second, 2*time.Second)
	f("0", pollWaitMin, pollWaitMin)
	f("-3", pollWaitMin, pollWaitMin)
	f("86400", pollWaitMax, pollWaitMax)
	f("", pollWaitMin, pollWaitMin)
	f("soon", pollWaitMin, pollWaitMin)
	f(time.Now().Add(30*time.Second).UTC().Format(http.TimeFormat), 25*time.Second, 31*time.Second)
}

// flaky serves text and breaks every answer after a few bytes.
func flaky(t *testing.T, text string, ranges bool, piece int) *httptest.Server {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := 0
		if asked := r.Header.Get("Range"); asked != "" && ranges {
			if _, err := fmt.Sscanf(asked, "bytes=%d-", &from); err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(text)-1, len(text)))
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(text)-from))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = io.WriteString(w, text[from:min(from+piece, len(text))])
	}))
	t.Cleanup(web.Close)
	return web
}

func TestDownloadGoesOnWhereItBroke(t *testing.T) {
	text := strings.Repeat(`{"resourceType":"Patient"}`+"\n", 100)
	f := func(ranges bool, piece int, count int64, want string) {
		t.Helper()
		dir := t.TempDir()
		web := flaky(t, text, ranges, piece)
		got, err := quick(t, web.URL).download(t.Context(), manifestFile{URL: web.URL + "/f/Patient-1.ndjson", Count: &count}, dir, func(int64) {})
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v has no %q", err, want)
			}
			if _, err := os.Stat(filepath.Join(dir, "Patient-1.ndjson")); err == nil {
				t.Error("an incomplete file has its final name")
			}
			return
		}
		back, readErr := os.ReadFile(filepath.Join(dir, "Patient-1.ndjson"))
		if err != nil || readErr != nil || string(back) != text || got.lines != 100 || got.bytes != int64(len(text)) {
			t.Errorf("got %+v %v %v and %d bytes", got, err, readErr, len(back))
		}
	}
	f(true, len(text), 100, "")
	f(true, 700, 100, "")
	f(false, len(text), 100, "")
	f(false, 700, 100, "EOF")
	f(true, len(text), 99, "has 100 lines, but the manifest says 99")
}

func TestTheServerCannotChooseWhereFilesGo(t *testing.T) {
	f := func(address, want string) {
		t.Helper()
		got, err := localName(address)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q %v", address, got, err)
		}
	}
	f("http://x/fhir/_operations/export/1/Patient-1.ndjson", "Patient-1.ndjson")
	f("http://x/a/b.ndjson?sig=1", "b.ndjson")
	f("http://x/a/..%2f..%2fetc", "etc")
	f("http://x/a/..", "")
	f("http://x/", "")
	f(`http://x/a%5Cb`, "")
}

func TestAnInterruptedDownloadStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	web := flaky(t, "x\n", true, 1)
	if _, err := quick(t, web.URL).download(ctx, manifestFile{URL: web.URL + "/a.ndjson"}, t.TempDir(), func(int64) {}); err == nil {
		t.Error("no error")
	}
}

func TestADirectoryStandsForItsNDJSONFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.ndjson", "a.ndjson.gz", "c c.ndjson.zst", "d.json", "patients.tsv", "e.ndjson.bak"} {
		write(t, dir, name, "")
	}
	if err := os.Mkdir(filepath.Join(dir, "x.ndjson"), 0o777); err != nil {
		t.Fatal(err)
	}
	single := filepath.Join(dir, "d.json")
	got, err := expandInputs([]string{"https://example.org/p.ndjson?sig=1", dir, single})
	want := []string{
		"https://example.org/p.ndjson?sig=1",
		"file://" + dir + "/a.ndjson.gz", "file://" + dir + "/b.ndjson", "file://" + dir + "/c%20c.ndjson.zst",
		"file://" + single,
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q %v\nwant %q", got, err, want)
	}
}
