package fhir

import (
	"errors"
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
