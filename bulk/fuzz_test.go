package bulk

import (
	"bytes"
	"encoding/json"
	"io"
	"net/url"
	"strings"
	"testing"
)

func FuzzImportRequest(f *testing.F) {
	f.Add(testParameters("inputFormat=application/fhir+ndjson", "input="+testBlob+"p.ndjson Patient x", "mode=InitialLoad", "force=true"))
	f.Add(`{"resourceType":"Parameters","parameter":[{"name":"input","part":[{"name":"url","valueUri":"/etc/x"}]}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		m := &Manager{addresses: &addresses{origins: map[string]bool{"https://acct.blob.core.windows.net:443": true}}}
		r, err := m.ParseImport([]byte(body), "u")
		if err != nil {
			return
		}
		for _, in := range r.Inputs { // nothing but the one origin gets through
			u, err := url.Parse(in.URL)
			if err != nil || u.Scheme != "https" || !strings.EqualFold(u.Hostname(), "acct.blob.core.windows.net") || u.Port() != "" && u.Port() != "443" || u.User != nil {
				t.Errorf("%q is accepted", in.URL)
			}
		}
	})
}

func FuzzSplitter(f *testing.F) {
	f.Add("a\nbb\n\nccc", uint16(3), uint8(0))
	f.Add(strings.Repeat("x", 200)+"\ny\n", uint16(10), uint8(1))
	f.Fuzz(func(t *testing.T, text string, unitBytes uint16, size uint8) {
		s := testSplitter(text, int64(unitBytes)+1, 16+int(size), 64+int(size))
		at := int64(0)
		for {
			c, err := s.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.start < at || c.end() > int64(len(text)) || string(c.data) != text[c.start:c.end()] {
				t.Fatalf("chunk %d to %d after %d of %d bytes", c.start, c.end(), at, len(text))
			}
			if !c.tooLong && c.start > 0 && text[c.start-1] != '\n' {
				t.Fatalf("a chunk begins inside a line, at %d", c.start)
			}
			if skipped := text[at:c.start]; strings.Contains(strings.TrimSuffix(skipped, "\n"), "\n") {
				t.Fatalf("%q is passed over", skipped)
			}
			at = c.end()
			c.release()
		}
		if strings.Contains(strings.TrimSuffix(text[at:], "\n"), "\n") {
			t.Fatalf("%q at the end is passed over", text[at:])
		}
	})
}

func FuzzRefusalLine(f *testing.F) {
	f.Add([]byte("a\"b\\\n\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := refusal{kind: refusedText, arg: quoted(text), line: 1}
		line := r.appendLine(nil)
		if bytes.Count(line, []byte("\n")) != 1 || !json.Valid(line) {
			t.Errorf("%q gives %q", text, line)
		}
	})
}
