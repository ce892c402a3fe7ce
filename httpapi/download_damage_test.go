package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kiln/bulk"
	"kiln/engine"
)

// fetch gets a file, or what there is of it until the connection ends.
func fetch(t *testing.T, url string, headers ...string) (status int, body []byte, err error) {
	t.Helper()
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", "identity")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
	}
	response, err := (&http.Transport{DisableKeepAlives: true, DisableCompression: true}).RoundTrip(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

// A byte that has changed on disk is never sent: the answer is an OperationOutcome, or ends before the piece
// that the byte is in.
func TestChangedExportsAreNotSent(t *testing.T) {
	const piece = 1 << 20
	s, job, url := exportedFile(t, 300, "")
	_, whole, err := fetch(t, url)
	if err != nil || len(whole) < 2*piece {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
	file := s.opts.Store.Dir() + "/exports" + url[strings.LastIndex(job, "/"):]
	spoil := func(at int64, bit byte) {
		t.Helper()
		if err := changeFile(file, at, whole[at]^bit); err != nil {
			t.Fatal(err)
		}
	}
	// sent: so many bytes of it are; none: a whole OperationOutcome.
	f := func(what string, sent int, headers ...string) {
		t.Helper()
		status, body, err := fetch(t, url, headers...)
		switch {
		case sent == 0 && (status != 500 || err != nil || !bytes.Contains(body, []byte("Run the job again"))):
			t.Errorf("%s: %d %.200s, %v", what, status, body, err)
		case sent > 0 && (!errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(whole[:sent], body)):
			t.Errorf("%s: %d, %d bytes, %v", what, status, len(body), err)
		}
	}
	spoil(piece+10, 1)
	f("all", piece)
	f("a range over the edge", piece, "Range: bytes=0-1048999")
	f("a range", 0, "Range: bytes=1048576-1048577")
	f("behind the byte, in its piece", 0, "Range: bytes=1148576-1148577")
	if status, body, err := fetch(t, url, "Range: bytes=1048000-1048575"); status != 206 || err != nil || !bytes.Equal(body, whole[1048000:1048576]) {
		t.Errorf("a range before: %d, %d bytes, %v", status, len(body), err)
	}
	for _, coding := range []string{"gzip", "zstd", "deflate"} {
		if status, _, err := fetch(t, url, "Accept-Encoding: "+coding); status == 200 && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %d, %v", coding, status, err)
		}
	}
	if body := s.health(t); strings.Count(body, `"offset":1048576,`) != 1 {
		t.Errorf("/healthz: %s", body)
	}
	spoil(piece+10, 0)
	spoil(0, 1)
	f("the first byte", 0)
	f("the first byte, coded", 0, "Accept-Encoding: gzip")
	if text := s.do(t, "GET", "/metrics", "").body; !strings.Contains(text, "kiln_damages 2\n") || !strings.Contains(text, "kiln_damaged_reads_total 9\n") {
		t.Error("/metrics does not tell")
	}
	if len(s.codedFiles) != 0 {
		t.Errorf("%d files are counted as being compressed", len(s.codedFiles))
	}
	s.do(t, "DELETE", job, "").expect(t, "DELETE", 202, "-")
	if body := s.health(t); !strings.Contains(body, `"damages":[]`) {
		t.Errorf("/healthz after it was deleted: %s", body)
	}
}

// changeFile sets a byte.
func changeFile(name string, at int64, to byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt([]byte{to}, at)
	return errors.Join(err, file.Close())
}

func TestChangedErrorFilesAreNotSent(t *testing.T) {
	var dir string
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "p.ndjson"), []byte("nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newAPI(t, func(store *engine.Options, jobs *bulk.Options, _ *Options) {
		dir, jobs.ImportRoots = store.Dir, []string{root}
	})
	result := s.finish(t, s.startImport(t, importBody(root, "p.ndjson"))).result(t)
	url := result.Error[0].URL
	if status, body, err := fetch(t, url); status != 200 || err != nil || !bytes.Contains(body, []byte("OperationOutcome")) {
		t.Fatalf("%d %s, %v", status, body, err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "errors", "*", "*.ndjson"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	if err := changeFile(names[0], 5, '?'); err != nil {
		t.Fatal(err)
	}
	if status, body, err := fetch(t, url); status != 500 || err != nil || !bytes.Contains(body, []byte("Run the job again")) {
		t.Errorf("%d %s, %v", status, body, err)
	}
}
