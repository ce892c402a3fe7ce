package httpapi

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"kiln/bulk"
	"kiln/engine"
)

// packed compresses with a writer.
func packed(t *testing.T, text string, open func(io.Writer) (io.WriteCloser, error)) string {
	t.Helper()
	var out bytes.Buffer
	w, err := open(&out)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// writers are by the name of the coding; "raw" is deflate without its wrapper.
func writers() map[string]func(io.Writer) (io.WriteCloser, error) {
	return map[string]func(io.Writer) (io.WriteCloser, error){
		"gzip":    func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"x-gzip":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"deflate": func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil },
		"raw":     func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, 6) },
		"zstd":    func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	}
}

func TestBodiesMayBeCompressed(t *testing.T) {
	s := newAPI(t, nil)
	for name, open := range writers() {
		text := patient(name, `,"implicitRules":"urn:`+strings.Repeat("x", 200_000)+`"`)
		header := "Content-Encoding: " + strings.Replace(name, "raw", "deflate", 1)
		a := s.do(t, "PUT", "/fhir/Patient/"+name, packed(t, text, open), typeHeader, header).expect(t, name, 201, `W/"1"`)
		if got := a.plainBody(t); got != text {
			t.Errorf("%s: got %.100s", name, got)
		}
		cut := packed(t, text, open)
		cut = cut[:len(cut)/2]
		if code, got := s.do(t, "PUT", "/fhir/Patient/"+name, cut, typeHeader, header).expect(t, name, 400, "").outcome(t); code != "invalid" || !strings.Contains(got, "is not valid") {
			t.Errorf("%s cut: %s %q", name, code, got)
		}
		a = s.do(t, "PATCH", "/fhir/Patient/"+name, packed(t, `{"active":true}`, open), mergePatch, header)
		a.expect(t, name, 200, `W/"2"`)
	}
	s.do(t, "PUT", "/fhir/Patient/i", patient("i", ""), typeHeader, "Content-Encoding: identity").expect(t, "identity", 201, `W/"1"`)
	if s.bodies.free != max(bodiesBytesMax, 2*bodyBytesDefault) {
		t.Errorf("%d bytes of the budget are free afterwards", s.bodies.free)
	}
}

func TestBodiesThatUnpackToTooMuchAreRefused(t *testing.T) {
	s := newAPI(t, func(_ *engine.Options, _ *bulk.Options, o *Options) { o.BodyBytesMax = 1 << 20 })
	for name, open := range writers() {
		header := "Content-Encoding: " + strings.Replace(name, "raw", "deflate", 1)
		bomb := packed(t, strings.Repeat("x", 64<<20), open)
		if code, _ := s.do(t, "PUT", "/fhir/Patient/a", bomb, typeHeader, header).expect(t, name, 413, "").outcome(t); code != "too-long" {
			t.Errorf("%s: %s", name, code)
		}
	}
	s.bodies.free = 100 << 10
	text := packed(t, patient("a", `,"implicitRules":"urn:`+strings.Repeat("x", 200_000)+`"`), writers()["gzip"])
	if code, _ := s.do(t, "PUT", "/fhir/Patient/a", text, typeHeader, "Content-Encoding: gzip").expect(t, "no room", 503, "").outcome(t); code != "throttled" || s.bodies.free != 100<<10 {
		t.Errorf("no room: %s, %d bytes free", code, s.bodies.free)
	}
}

func TestAnswersComeInTheCodingAskedFor(t *testing.T) {
	s := newBareServer(t, nil)
	plain := s.do(t, "GET", "/fhir/metadata", "").body
	readers := map[string]func(io.Reader) (io.Reader, error){
		"gzip":    func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"deflate": func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) },
		"zstd":    func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	}
	for name, open := range readers {
		a := s.do(t, "GET", "/fhir/metadata", "", "Accept-Encoding: "+name)
		r, err := open(strings.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil || string(text) != plain || a.header.Get("Content-Encoding") != name || len(a.body) > len(plain)/4 {
			t.Errorf("%s: %d of %d bytes, %v", name, len(a.body), len(plain), err)
		}
	}
}
