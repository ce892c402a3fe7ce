package httpapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"kiln/bulk"
	"kiln/engine"
)

// unpacked reads a body by its coding.
func unpacked(coding string, body io.Reader) ([]byte, error) {
	switch coding {
	case "gzip":
		r, err := gzip.NewReader(body)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case "deflate":
		r, err := zlib.NewReader(body)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case "zstd":
		r, err := zstd.NewReader(body)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	return io.ReadAll(body)
}

// exportedFile makes a file of an export, of so many Patients of about 9 kB that
// compress to a half.
func exportedFile(t *testing.T, patients int, query string) (s *testServer, job, file string) {
	t.Helper()
	var text strings.Builder
	for i := range patients {
		fmt.Fprintf(&text, `{"resourceType":"Patient","id":"p%d","text":{"div":"`, i)
		for n := uint32(i); text.Len() < (i+1)*9000; n++ {
			fmt.Fprintf(&text, "%08x", n*2654435761)
		}
		text.WriteString("\"}}\n")
	}
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "p.ndjson"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s = newAPI(t, func(_ *engine.Options, jobs *bulk.Options, _ *Options) {
		jobs.ImportRoots, jobs.Workers = []string{root}, 1 // each worker has files of its own
	})
	s.finish(t, s.startImport(t, importBody(root, "p.ndjson"))).result(t)
	kick := s.do(t, "GET", "/fhir/$export"+query, "", asyncHeader, acceptHeader)
	job = kick.header.Get("Content-Location")
	return s, job, s.finish(t, job).result(t).Output[0].URL
}

func TestFilesAreSentInTheCodingAskedFor(t *testing.T) {
	s, _, url := exportedFile(t, 200, "")
	plain := s.do(t, "GET", url, "")
	if plain.header.Get("Content-Encoding") != "" || plain.header.Get("Vary") != "Accept-Encoding" || len(plain.body) < 1_700_000 {
		t.Fatalf("as it is: %d bytes, %v", len(plain.body), plain.header)
	}
	tags := map[string]bool{plain.header.Get("ETag"): true}
	f := func(accept, coding string) {
		t.Helper()
		a := s.do(t, "GET", url, "", "Accept-Encoding: "+accept)
		text, err := unpacked(coding, strings.NewReader(a.body))
		if err != nil || string(text) != plain.body || a.status != 200 || a.header.Get("Content-Encoding") != coding || a.header.Get("Vary") != "Accept-Encoding" ||
			a.header.Get("Content-Type") != contentTypeNDJSON {
			t.Errorf("%s: %d, %d bytes (%v), %v", accept, a.status, len(text), err, a.header)
		}
		if coding != "" && len(a.body) > len(plain.body)*3/4 {
			t.Errorf("%s: %d of %d bytes", accept, len(a.body), len(plain.body))
		}
		head := s.do(t, "HEAD", url, "", "Accept-Encoding: "+accept)
		if head.status != 200 || head.body != "" || head.header.Get("Content-Encoding") != coding || head.header.Get("ETag") != a.header.Get("ETag") {
			t.Errorf("HEAD %s: %d %v", accept, head.status, head.header)
		}
		tags[a.header.Get("ETag")] = true
	}
	f("gzip", "gzip")
	f("zstd", "zstd")
	f("deflate", "deflate")
	f("*", "gzip")
	f("gzip;q=0.5, zstd;q=0.7, br", "zstd")
	f("gzip;q=0.5, identity", "")
	f("gzip;q=0, zstd;q=0.0", "")
	f("br", "")
	f("identity", "")
	if len(tags) != 4 {
		t.Errorf("the tags are %v", tags)
	}
	if len(s.codedFiles) != 0 {
		t.Errorf("%d files are counted as being compressed", len(s.codedFiles))
	}
}

func TestRangesArePartsOfTheFileAsItIs(t *testing.T) {
	s, _, url := exportedFile(t, 20, "")
	plain, coded := s.do(t, "GET", url, ""), s.do(t, "GET", url, "", "Accept-Encoding: gzip")
	f := func(status int, coding string, headers ...string) {
		t.Helper()
		a := s.do(t, "GET", url, "", append(headers, "Accept-Encoding: gzip", "Range: bytes=1000-1999")...)
		want := plain.body
		if status == 206 {
			want = want[1000:2000]
		}
		text, err := unpacked(coding, strings.NewReader(a.body))
		if err != nil || string(text) != want || a.status != status || a.header.Get("Content-Encoding") != coding {
			t.Errorf("%q: %d, %d bytes (%v), %v", headers, a.status, len(text), err, a.header)
		}
	}
	f(206, "")
	f(206, "", "If-Range: "+plain.header.Get("ETag"))
	f(200, "gzip", "If-Range: "+coded.header.Get("ETag"))
	f(200, "gzip", `If-Range: "other"`)
	if a := s.do(t, "GET", url, "", "Accept-Encoding: gzip", "Range: bytes=x"); a.status != 200 || a.body != coded.body {
		t.Errorf("a malformed range: %d", a.status)
	}
	if a := s.do(t, "GET", url, "", "Accept-Encoding: gzip", "Range: bytes=99999999-"); a.status != 416 {
		t.Errorf("a range behind the end: %d", a.status)
	}
	old := s.raw(t, "GET "+strings.TrimPrefix(url, "http://"+s.addr)+" HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n")
	if len(old) != 1 || old[0].header.Get("Content-Encoding") != "" {
		t.Errorf("HTTP/1.0 gets %+v", old)
	}
}

func TestParquetFilesAreNotCompressedAgain(t *testing.T) {
	s, _, url := exportedFile(t, 3, "?_outputFormat=application/vnd.apache.parquet")
	a := s.do(t, "GET", url, "", "Accept-Encoding: gzip, zstd")
	if a.status != 200 || a.header.Get("Content-Encoding") != "" || a.header.Get("Vary") != "" || !strings.HasPrefix(a.body, "PAR1") || !strings.HasSuffix(a.body, "PAR1") {
		t.Errorf("got %d %v", a.status, a.header)
	}
}

// So many files are compressed at a time; the others come as they are.
func TestCompressedDownloadsAreBounded(t *testing.T) {
	s, _, url := exportedFile(t, 3, "")
	f := func(others int, coding string) {
		t.Helper()
		for range others {
			s.codedFiles <- struct{}{}
		}
		a := s.do(t, "GET", url, "", "Accept-Encoding: zstd")
		text, err := unpacked(coding, strings.NewReader(a.body))
		if err != nil || bytes.Count(text, []byte("\n")) != 3 || a.header.Get("Content-Encoding") != coding {
			t.Errorf("beside %d others: %d bytes, %v, %v", others, len(text), err, a.header)
		}
		for range others {
			<-s.codedFiles
		}
	}
	f(codedFilesMax-1, "zstd")
	f(codedFilesMax, "")
}

// A download goes to its end when the export is deleted meanwhile.
func TestDownloadsOutliveTheExport(t *testing.T) {
	s, job, url := exportedFile(t, 2000, "")
	for _, coding := range []string{"", "gzip"} {
		request, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept-Encoding", coding)
		response, err := (&http.Transport{DisableKeepAlives: true, DisableCompression: true}).RoundTrip(request)
		if err != nil || response.StatusCode != 200 {
			t.Fatalf("%q: %v, %v", coding, response, err)
		}
		defer response.Body.Close()
		body := bufio.NewReader(response.Body)
		if _, err := body.Peek(1); err != nil {
			t.Fatal(err)
		}
		defer func() {
			text, err := unpacked(coding, body)
			if err != nil || bytes.Count(text, []byte("\n")) != 2000 {
				t.Errorf("%q: %d bytes, %v", coding, len(text), err)
			}
		}()
	}
	if a := s.do(t, "DELETE", job, ""); a.status != 202 {
		t.Fatalf("DELETE: %d %s", a.status, a.body)
	}
	if a := s.do(t, "GET", url, ""); a.status != 404 {
		t.Errorf("the file after it: %d", a.status)
	}
}

// A file that is shorter than it was is not told to be whole, in no coding.
func TestCutFileNeverLooksWhole(t *testing.T) {
	var dir string
	s := newAPI(t, func(store *engine.Options, _ *bulk.Options, _ *Options) { dir = store.Dir })
	for i := range 150 {
		s.put(t, fmt.Sprint(i), `,"implicitRules":"urn:`+strings.Repeat("x", 20_000)+`"`).expect(t, "put", 201, "-")
	}
	kick := s.do(t, "GET", "/fhir/$export", "", asyncHeader, acceptHeader)
	url := s.finish(t, kick.header.Get("Content-Location")).result(t).Output[0].URL
	names, err := filepath.Glob(filepath.Join(dir, "exports", "*", "*.ndjson"))
	if err != nil || len(names) != 1 {
		t.Fatalf("files are %v, %v", names, err)
	}
	if err := os.Truncate(names[0], 2_500_000); err != nil {
		t.Fatal(err)
	}
	for _, coding := range []string{"", "gzip", "zstd", "deflate"} {
		request, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept-Encoding", coding)
		response, err := (&http.Transport{DisableKeepAlives: true, DisableCompression: true}).RoundTrip(request)
		if err != nil {
			continue // cut before the head: just as clear
		}
		_, err = io.ReadAll(response.Body)
		_ = response.Body.Close()
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: read to the end: %v", coding, err)
		}
	}
}
