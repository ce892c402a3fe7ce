package bulk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// testServer serves one file, more or less well.
type testServer struct {
	*httptest.Server
	data     []byte
	etag     string
	noRanges bool
	breakAt  int          // a response ends after so many bytes, when > 0
	broken   atomic.Int64 // responses that were broken
	requests atomic.Int64
	status   atomic.Int64 // when not 0: what every request gets
}

func newTestServer(t *testing.T, data []byte) *testServer {
	t.Helper()
	s := &testServer{data: data, etag: `"v1"`}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *testServer) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	if status := s.status.Load(); status != 0 {
		w.WriteHeader(int(status))
		return
	}
	if s.noRanges {
		r.Header.Del("Range")
	}
	w.Header().Set("Etag", s.etag)
	out := w
	if s.breakAt > 0 && s.broken.Add(1)%2 == 1 {
		out = &brokenWriter{w, s.breakAt}
	}
	http.ServeContent(out, r, "", time.Time{}, bytes.NewReader(s.data))
}

// brokenWriter cuts the connection after some bytes.
type brokenWriter struct {
	http.ResponseWriter
	left int
}

func (w *brokenWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		_, _ = w.ResponseWriter.Write(p[:w.left])
		w.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

func testClient(t *testing.T, origins ...string) *httpClient {
	t.Helper()
	allowed, err := newAddresses(nil, origins)
	if err != nil {
		t.Fatal(err)
	}
	return newHTTPClient(allowed, Options{RetryWait: time.Millisecond}.network())
}

func testText(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d\n", i)
	}
	return b.Bytes()[:n]
}

func TestHTTPSourceReadsEverything(t *testing.T) {
	f := func(what string, bytesN int, change func(*testServer)) {
		t.Helper()
		server := newTestServer(t, testText(bytesN))
		change(server)
		src, err := testClient(t, server.URL).open(context.Background(), server.URL+"/f")
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, from := range []int64{0, int64(bytesN) / 3} {
			stream, err := src.stream(context.Background(), from)
			if err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			got, err := io.ReadAll(stream)
			_ = stream.Close()
			if err != nil || !bytes.Equal(got, server.data[from:]) {
				t.Errorf("%s from %d: %d bytes of %d, %v", what, from, len(got), len(server.data), err)
			}
		}
		if src.etag() != `"v1"` {
			t.Errorf("%s: the ETag is %s", what, src.etag())
		}
	}
	ranges := func(*testServer) {}
	f("ranges", 3*pieceBytes+17, ranges)
	f("a small file", 10, ranges)
	f("an empty file", 0, ranges)
	f("broken ranges", pieceBytes+1000, func(s *testServer) { s.breakAt = 1_500_000 })
	f("no ranges", pieceBytes, func(s *testServer) { s.noRanges = true })
	f("no ranges, an empty file", 0, func(s *testServer) { s.noRanges = true })
	f("no ranges and broken", 2_000_000, func(s *testServer) { s.noRanges, s.breakAt = true, 1_500_000 })
}

func TestHTTPSourceRefuses(t *testing.T) {
	server := newTestServer(t, testText(100))
	elsewhere := newTestServer(t, testText(100))
	client := testClient(t, server.URL)
	f := func(what string, err error, status int, text string) {
		t.Helper()
		var refused *RequestError
		if !errors.As(err, &refused) || refused.Status != status || !strings.Contains(refused.Text, text) {
			t.Errorf("%s gives %v", what, err)
		}
	}
	_, err := client.open(context.Background(), elsewhere.URL+"/f")
	f("another origin", err, 400, textForeignOrigin)
	redirect := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/f", http.StatusFound))
	defer redirect.Close()
	_, err = testClient(t, redirect.URL).open(context.Background(), redirect.URL+"/f")
	f("a redirect to another origin", err, 400, "redirects")
	if elsewhere.requests.Load() != 0 {
		t.Error("the other origin was asked")
	}
	for _, status := range []int{401, 403, 404} {
		server.status.Store(int64(status))
		_, err = client.open(context.Background(), server.URL+"/f")
		f("a probe's status", err, status, fmt.Sprint(status))
	}
	server.status.Store(0)
	src, err := client.open(context.Background(), server.URL+"/f")
	if err != nil {
		t.Fatal(err)
	}
	read := func() error {
		stream, err := src.stream(context.Background(), 0)
		if err != nil {
			return err
		}
		defer stream.Close()
		_, err = io.ReadAll(stream)
		return err
	}
	server.etag = `"v2"`
	f("another ETag", read(), 400, "Input file Etag not match. "+server.URL+"/f")
	server.status.Store(404)
	f("a file that is gone", read(), 400, textGone)
	server.status.Store(403)
	f("access that is gone", read(), 400, textUnauthorized)
}

func TestDecompressionByContent(t *testing.T) {
	text := testText(300_000)
	var zipped, zstandard bytes.Buffer
	for _, part := range [][]byte{text[:1000], text[1000:]} { // two members, two frames
		g := gzip.NewWriter(&zipped)
		_, _ = g.Write(part)
		_ = g.Close()
		z, err := zstd.NewWriter(&zstandard)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = z.Write(part)
		_ = z.Close()
	}
	spare := make(spareDecoders, 1)
	f := func(what string, stored, want []byte) {
		t.Helper()
		d, err := newDecoded(io.NopCloser(bytes.NewReader(stored)), spare)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		defer d.Close()
		got, err := io.ReadAll(d)
		if err != nil || !bytes.Equal(got, want) || d.stored.count() != int64(len(stored)) {
			t.Errorf("%s: %d bytes of %d, %v; %d of %d read", what, len(got), len(want), err, d.stored.count(), len(stored))
		}
	}
	f("plain", text, text)
	f("gzip", zipped.Bytes(), text)
	f("zstd", zstandard.Bytes(), text)
	f("empty", nil, nil)
	f("short", []byte{0x1f}, []byte{0x1f})
	for what, stored := range map[string][]byte{"gzip": zipped.Bytes(), "zstd": zstandard.Bytes()} {
		d, err := newDecoded(io.NopCloser(bytes.NewReader(stored[:len(stored)-9])), spare)
		if err == nil {
			_, err = io.Copy(io.Discard, d)
		}
		if err == nil {
			t.Errorf("%s that is cut off reads to its end", what)
		}
		if d != nil {
			_ = d.Close()
		}
	}
	if len(spare) != 0 {
		t.Error("a decoder is kept whose input was cut off")
	}
	for range 3 {
		f("zstd, with the decoder of another", zstandard.Bytes(), text)
		if len(spare) != 1 {
			t.Error("the decoder is not kept")
		}
	}
}

func TestImportOverHTTP(t *testing.T) {
	var lines []string
	for i := range 3000 {
		lines = append(lines, patient(fmt.Sprintf("p%d", i), ""))
	}
	text := []byte(strings.Join(lines, "\n"))
	var zipped bytes.Buffer
	g := gzip.NewWriter(&zipped)
	_, _ = g.Write(text)
	_ = g.Close()
	server, packed := newTestServer(t, text), newTestServer(t, zipped.Bytes())
	s := newTestSite(t)
	s.origins = []string{server.URL, packed.URL}
	s.close()
	s.open()
	if got := s.imports(InitialLoad, 0, server.URL+"/a.ndjson"); got != "3000/0" {
		t.Errorf("over HTTP: %s", got)
	}
	if got := s.imports(InitialLoad, 0, packed.URL+"/a.ndjson.gz?sig=secret"); got != "0/3000" {
		t.Errorf("packed and again: %s", got)
	}
	id, err := s.jobs.StartImport(context.Background(), &ImportRequest{Inputs: []ImportInput{{URL: server.URL + "/b", Etag: "other"}, {URL: packed.URL + "/b"}}})
	if err != nil {
		t.Fatal(err)
	}
	status := s.wait(id)
	if status.State != Failed || status.Error.Status != 400 || status.Error.Text != "Input file Etag not match. "+server.URL+"/b" {
		t.Errorf("with a wrong ETag it ends as %+v %+v", status, status.Error)
	}
	if got := s.imports(InitialLoad, 0, server.URL+"/c"); got != "0/3000" {
		t.Errorf("once more: %s", got)
	}
}

func TestImportIsCancelledAndGoesOn(t *testing.T) {
	var lines []string
	for i := range 20000 {
		lines = append(lines, patient(fmt.Sprintf("p%d", i), ""))
	}
	gate := make(chan struct{})
	text := []byte(strings.Join(lines, "\n"))
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 1 {
			select {
			case <-gate:
			case <-r.Context().Done():
				return
			}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	}))
	defer server.Close()
	s := newTestSite(t)
	s.origins = []string{server.URL}
	s.close()
	s.open()
	r := &ImportRequest{Mode: InitialLoad, Inputs: []ImportInput{{URL: server.URL + "/x"}}}
	id, err := s.jobs.StartImport(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.jobs.CancelImport(id); err != nil {
		t.Fatal(err)
	}
	if status := s.wait(id); status.State != Cancelled {
		t.Errorf("it ends as %+v", status)
	}
	if err := s.jobs.CancelImport(id); err != nil {
		t.Errorf("cancelled again: %v", err)
	}
	close(gate)
	if again, err := s.jobs.StartImport(context.Background(), r); err != nil || again != id {
		t.Errorf("the same request is job %d after %d, %v", again, id, err)
	}
	if status := s.wait(id); status.State != Completed || testCounts(status) != "20000/0" {
		t.Errorf("it ends as %+v", status)
	}
	var refused *RequestError
	if err := s.jobs.CancelImport(id); !errors.As(err, &refused) || refused.Status != 409 || refused.Text != "Import operation has already completed" {
		t.Errorf("cancelling a completed import gives %v", err)
	}
	if err := s.jobs.CancelImport(77); !errors.As(err, &refused) || refused.Status != 404 || refused.Text != `The requested import job "77" was not found.` {
		t.Errorf("cancelling an unknown import gives %v", err)
	}
}

// A job that is started anew while its cancelled former self still ends goes on
// from what that one published; only the last one's end is recorded.
func TestImportIsStartedAnewWhileItStops(t *testing.T) {
	for range 8 { // whether the former one still publishes is a matter of chance
		s := newTestSite(t)
		held, gate := make(chan struct{}), make(chan struct{})
		var rounds atomic.Int64
		s.jobs.beforePublish = func() {
			if rounds.Add(1) == 1 {
				close(held)
				<-gate
			}
		}
		urls := []string{s.file("1", patient("a", ""), patient("b", ""))}
		id, err := s.startFixed(InitialLoad, 0, urls)
		if err != nil {
			t.Fatal(err)
		}
		<-held
		if err := s.jobs.CancelImport(id); err != nil {
			t.Fatal(err)
		}
		if again, err := s.startFixed(InitialLoad, 0, urls); err != nil || again != id {
			t.Fatalf("the same request is job %d after %d, %v", again, id, err)
		}
		close(gate)
		if status := s.wait(id); status.State != Completed || status.Error != nil || testCounts(status) != "2/0" {
			t.Errorf("it ends as %d, %s, %+v", status.State, testCounts(status), status.Error)
		}
		s.close()
	}
}

// A response of unknown length that ends too soon is not the end of the input.
func TestHTTPSourceShorterThanWhatWasRead(t *testing.T) {
	data := testText(10_000)
	var served atomic.Int64 // bytes; a handler may outlive the request it answers
	served.Store(10_000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush() // no Content-Length
		_, _ = w.Write(data[:served.Load()])
	}))
	defer server.Close()
	src, err := testClient(t, server.URL).open(context.Background(), server.URL+"/f")
	if err != nil || src.bytes() != -1 {
		t.Fatalf("%d bytes, %v", src.bytes(), err)
	}
	f := func(from int64, want string, wantErr bool) {
		t.Helper()
		stream, err := src.stream(context.Background(), from)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(stream)
		_ = stream.Close()
		if string(got) != want || (err != nil) != wantErr {
			t.Errorf("from %d: %d bytes, %v", from, len(got), err)
		}
	}
	f(9_000, string(data[9_000:]), false)
	f(10_000, "", false)
	f(10_001, "", true)
	served.Store(5_000)
	f(9_000, "", true)
}

// Only a server that says nothing of a length, or 0, can mean an empty file.
func TestHTTPSourceWithoutFirstByte(t *testing.T) {
	f := func(contentRange string, want bool) {
		t.Helper()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if contentRange != "" {
				w.Header().Set("Content-Range", contentRange)
			}
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}))
		defer server.Close()
		src, err := testClient(t, server.URL).open(context.Background(), server.URL+"/f")
		if (err == nil) != want || err == nil && src.bytes() != 0 {
			t.Errorf("with Content-Range %q: %v", contentRange, err)
		}
	}
	f("", true)
	f("bytes */0", true)
	f("bytes */10", false)
}

// A cancelled read-ahead ends with an error: its data is not whole.
func TestReadaheadCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	fetched := make(chan struct{})
	r := newReadahead(ctx, 1000, 0, 10, 2, func(ctx context.Context, p []byte, off int64) error {
		if off == 10 {
			close(fetched) // nobody reads: the schedule waits
		}
		return nil
	})
	<-fetched
	cancel()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) || n == 1000 {
		t.Errorf("%d bytes and %v", n, err)
	}
}

// Retry-After is heeded within bounds.
func TestHTTPSourceIsNotSentAwayForHours(t *testing.T) {
	data := testText(100)
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "86400")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	src, err := testClient(t, server.URL).open(ctx, server.URL+"/f")
	if err != nil || src.bytes() != 100 || asked.Load() != 2 {
		t.Errorf("after %d requests: %v", asked.Load(), err)
	}
}
