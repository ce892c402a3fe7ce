package fhir

import (
	"errors"
	"strings"
	"testing"
)

func TestScanGivesBodyAndSplice(t *testing.T) {
	f := func(src, body string, at uint32, kind SpliceKind, served string) {
		t.Helper()
		r, err := NewScanner(ScannerOptions{}).Scan([]byte(src), nil)
		if err != nil {
			t.Fatalf("cannot scan %s: %s", src, err)
		}
		if string(r.Body) != body || r.Splice != (Splice{at, kind}) {
			t.Errorf("scan of %s\n got %s %v\nwant %s %v", src, r.Body, r.Splice, body, Splice{at, kind})
		}
		if got := AppendResource(nil, r.Body, r.Splice, 7, Instant{0, OffsetZ}); string(got) != served {
			t.Errorf("served %s\n got %s\nwant %s", src, got, served)
		}
	}
	const server = `"versionId":"7","lastUpdated":"1970-01-01T00:00:00.000Z"`

	f(`{"resourceType":"Patient","id":"a"}`, `{"resourceType":"Patient","id":"a"}`, 34, SpliceNewMeta,
		`{"resourceType":"Patient","id":"a","meta":{`+server+`}}`)
	f(`{"resourceType":"Patient"}`, `{"resourceType":"Patient"}`, 25, SpliceNewMeta,
		`{"resourceType":"Patient","meta":{`+server+`}}`)
	f(` {"id":"a","meta":{},"resourceType":"Patient"} `, `{"id":"a","meta":{},"resourceType":"Patient"}`, 18, SpliceEmptyMeta,
		`{"id":"a","meta":{`+server+`},"resourceType":"Patient"}`)

	const empty, tag = `{"meta":{},"resourceType":"Patient"}`, `{"meta":{"tag":[]},"resourceType":"Patient"}`
	const servedTag = `{"meta":{` + server + `,"tag":[]},"resourceType":"Patient"}`
	cut := func(meta string) {
		t.Helper()
		f(`{"meta":{`+meta+`},"resourceType":"Patient"}`, tag, 9, SpliceIntoMeta, servedTag)
	}
	cut(`"versionId":"1","tag":[]`)
	cut(`"tag":[],"versionId":"1"`)
	cut(`"versionId":"1","lastUpdated":"x","tag":[]`)
	cut(`"versionId":"1","tag":[],"lastUpdated":"x"`)
	cut(`"tag":[],"versionId":"1","lastUpdated":"x"`)
	cut(` "versionId" : "1" , "tag" : [ ] , "lastUpdated" : "x" `)
	cut("\n\"tag\"\r:\t[ ]\n,\n\"version\\u0049d\":\"1\"\n,\n\"lastUpdated\"\n:\n\"x\"\n")
	f(`{"meta":{"versionId":"1","lastUpdated":"x"},"resourceType":"Patient"}`, empty, 9, SpliceEmptyMeta,
		`{"meta":{`+server+`},"resourceType":"Patient"}`)
	f(`{"meta" : { "versionId":"1" } ,"resourceType":"Patient"}`, empty, 9, SpliceEmptyMeta,
		`{"meta":{`+server+`},"resourceType":"Patient"}`)
}

func TestScanRefuses(t *testing.T) {
	f := func(src string, kind error, offset int64) {
		t.Helper()
		_, err := NewScanner(ScannerOptions{}).Scan([]byte(src), nil)
		var scanErr *ScanError
		if !errors.As(err, &scanErr) || !errors.Is(err, kind) || scanErr.Offset != offset {
			t.Errorf("scan of %s: got %v, want %v at byte %d", src, err, kind, offset)
		}
	}
	f(``, ErrSyntax, 0)
	f(`  `, ErrSyntax, 2)
	f(`[]`, ErrNotResource, 0)
	f(`x`, ErrSyntax, 0)
	f(`{}`, ErrNotResource, 0)
	f(`{,"resourceType":"Patient"}`, ErrSyntax, 1)
	f(`{"resourceType":"Patient",}`, ErrSyntax, 26)
	f(`{"resourceType":"Patient"`, ErrSyntax, 25)
	f(`{"resourceType":"Patient"}}`, ErrSyntax, 26)
	f(`{"resourceType":1}`, ErrNotResource, 16)
	f(`{"resourceType":"Patient","id":null}`, ErrNotResource, 31)
	f(`{"resourceType":"Patient","meta":null}`, ErrNotResource, 33)
	f(`{"resourceType":"Patient","meta":{"versionId":1}}`, ErrNotResource, 46)
	f(`{"resourceType":"Patient","id":"a","id":"a"}`, ErrDuplicateKey, 35)
	f(`{"resourceType":"Patient","id":"a","\u0069d":"a"}`, ErrDuplicateKey, 35)
	f(`{"resourceType":"Patient","meta":{"tag":1,"tag":1}}`, ErrDuplicateKey, 42)
	f(`{"resourceType":"Patient","a":01}`, ErrSyntax, 31)
	f(`{"resourceType":"Patient","a":[1,]}`, ErrSyntax, 33)
	f(`{"resourceType":"Patient","a":[,1]}`, ErrSyntax, 31)
	f(`{"resourceType":"Patient","a":{"b":1,}}`, ErrSyntax, 37)
	f(`{"resourceType":"Patient","a":{,"b":1}}`, ErrSyntax, 31)
	f(`{"resourceType":"Patient","a":[1}}`, ErrSyntax, 32)
	f(`{"resourceType":"Patient","a":"\ud800"}`, ErrSyntax, 31)
	f("{\"resourceType\":\"Patient\",\"a\":\"\xff\"}", ErrSyntax, 31)
	f("{\"resourceType\":\"Patient\",\"a\":\"\n\"}", ErrSyntax, 31)
}

func TestScanDoesNotAllocate(t *testing.T) {
	s := NewScanner(ScannerOptions{Paths: referencePaths(t)})
	visitor := &countVisitor{}
	f := func(src string) {
		t.Helper()
		line := []byte(src)
		allocs := testing.AllocsPerRun(100, func() {
			if _, err := s.Scan(line, visitor); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%v allocations for %s", allocs, src)
		}
	}
	f(oddResources[0])
	f(oddResources[1])
	f(oddResources[2])
	f(oddResources[8])
	f(" {\n \"resourceType\" : \"Patient\" , \"\\u0069d\" : \"\\u0061\" , \"subject\":{\"reference\" : \"\\u0061\"} } ")
	if visitor.values == 0 {
		t.Error("the visitor got no reference")
	}
}

// A scan must not hold on to a result's predecessor, nor to a huge buffer.
func TestScannerForgetsHugeResources(t *testing.T) {
	s := NewScanner(ScannerOptions{})
	huge := `{"resourceType":"Binary", "data":"` + strings.Repeat("A", 4*bufferBytesKept) + `"}`
	if r, err := s.Scan([]byte(huge), nil); err != nil || len(r.Body) != len(huge)-1 {
		t.Fatalf("cannot scan a huge resource: %v", err)
	}
	if _, err := s.Scan([]byte(`{"resourceType":"Patient"}`), nil); err != nil {
		t.Fatal(err)
	}
	if cap(s.buf) > bufferBytesKept || cap(s.text) > bufferBytesKept || cap(s.names) > bufferBytesKept {
		t.Errorf("the scanner keeps %d, %d and %d bytes", cap(s.buf), cap(s.text), cap(s.names))
	}
}
