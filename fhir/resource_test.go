package fhir

import (
	"bytes"
	"testing"
)

func TestStubBodyIsABodyOfScan(t *testing.T) {
	body, idAt, splice := StubBody([]byte("before"), TypeByName([]byte("Observation")), []byte("a.b-1"))
	if string(body) != `{"resourceType":"Observation","id":"a.b-1"}` {
		t.Fatalf("stub is %s", body)
	}
	r, err := NewScanner(ScannerOptions{}).Scan(body, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Body, body) || r.IDAt != idAt || r.Splice != splice {
		t.Errorf("stub has id at %d and splice %v; a scan of it says %d and %v", idAt, splice, r.IDAt, r.Splice)
	}
}

func TestAppendBodyWithIDPutsTheIDIn(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		r, err := NewScanner(ScannerOptions{}).Scan([]byte(src), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, idAt, splice := AppendBodyWithID(nil, r, []byte("new"))
		if string(got) != want || !bytes.HasPrefix(got[idAt:], []byte(`new"`)) {
			t.Errorf("%s with id\n got %s\nwant %s", src, got, want)
		}
		served, err := NewScanner(ScannerOptions{}).Scan(AppendResource(nil, got, splice, 5, Instant{}), nil)
		if err != nil || string(served.VersionID) != "5" {
			t.Errorf("%s with id, served: %v, %v", src, served, err)
		}
	}
	f(`{"resourceType":"Patient"}`, `{"resourceType":"Patient","id":"new"}`)
	f(`{"a":1,"resourceType":"Patient","b":2}`, `{"a":1,"resourceType":"Patient","id":"new","b":2}`)
	f(`{"meta":{"tag":1},"resourceType":"Patient"}`, `{"meta":{"tag":1},"resourceType":"Patient","id":"new"}`)
	f(`{"resourceType":"Patient","meta":{"tag":1}}`, `{"resourceType":"Patient","id":"new","meta":{"tag":1}}`)
	f(`{"id":"longer-than-new","resourceType":"Patient"}`, `{"id":"new","resourceType":"Patient"}`)
	f(`{"id":"","resourceType":"Patient","meta":{}}`, `{"id":"new","resourceType":"Patient","meta":{}}`)
	f(`{"id":"a/\u0062","resourceType":"Patient"}`, `{"id":"new","resourceType":"Patient"}`)
	f(`{"meta":{"versionId":"1"},"id":"\u0062","resourceType":"Patient"}`, `{"meta":{},"id":"new","resourceType":"Patient"}`)
}

func TestEscapedIDIsWrittenPlainly(t *testing.T) {
	r, err := NewScanner(ScannerOptions{}).Scan([]byte(`{"resourceType":"Pati\u0065nt","id":"\u0061b"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Body) != `{"resourceType":"Pati\u0065nt","id":"ab"}` || string(r.ID) != "ab" || r.Type.String() != "Patient" || r.IDAt != 37 {
		t.Errorf("got %s id %s at %d type %s", r.Body, r.ID, r.IDAt, r.Type)
	}
}
