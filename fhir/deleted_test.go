package fhir

import (
	"errors"
	"testing"
)

// The line of a deletion is read back as the deletion that it was.
func TestDeletedResourceIsReadBack(t *testing.T) {
	s := NewScanner(ScannerOptions{})
	at := Instant{Milli: 0, OffsetMinutes: OffsetZ}
	const meta = `"versionId":"7","lastUpdated":"1970-01-01T00:00:00.000Z"`
	f := func(src, want string) {
		t.Helper()
		r, err := s.Scan([]byte(src), nil)
		if err != nil {
			t.Fatal(err)
		}
		served := string(AppendResource(nil, r.Body, r.Splice, 7, at))
		line, err := AppendDeletedResource([]byte("x"), r.Body, r.Splice, 7, at)
		if err != nil || string(line) != "x"+want {
			t.Fatalf("%s is written as\n%s, %v, want\n%s", src, line, err, want)
		}
		back, err := s.Scan(line[1:], nil)
		if err != nil || !back.Deleted || string(back.VersionID) != "7" {
			t.Fatalf("%s is read as %+v, %v", line, back, err)
		}
		if got := string(AppendResource(nil, back.Body, back.Splice, 7, at)); got != served {
			t.Fatalf("%s is served as\n%s, was\n%s", src, got, served)
		}
	}
	f(`{"resourceType":"Patient","id":"a"}`, `{"resourceType":"Patient","id":"a","meta":{`+meta+`,"extension":[`+deletedMark+`]}}`)
	f(`{"id":"a","meta":{},"resourceType":"Patient"}`, `{"id":"a","meta":{`+meta+`,"extension":[`+deletedMark+`]},"resourceType":"Patient"}`)
	f(`{"meta":{"tag":[{"code":"extension"}]},"resourceType":"Patient"}`,
		`{"meta":{`+meta+`,"extension":[`+deletedMark+`],"tag":[{"code":"extension"}]},"resourceType":"Patient"}`)
	f(`{"meta":{"profile":["p"],"extension":[{"url":"u","valueCode":"c"}]},"resourceType":"Patient"}`,
		`{"meta":{`+meta+`,"profile":["p"],"extension":[`+deletedMark+`,{"url":"u","valueCode":"c"}]},"resourceType":"Patient"}`)
	f(`{"meta":{"\u0065xtension":[{"url":"u"},{"url":"v"}],"source":"x"},"resourceType":"Patient"}`,
		`{"meta":{`+meta+`,"\u0065xtension":[`+deletedMark+`,{"url":"u"},{"url":"v"}],"source":"x"},"resourceType":"Patient"}`)

	r, err := s.Scan([]byte(`{"meta":{"extension":{"url":"u"}},"resourceType":"Patient"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := AppendDeletedResource(nil, r.Body, r.Splice, 7, at); !errors.Is(err, ErrNoPlace) {
		t.Errorf("a meta without a place gives %s, %v", line, err)
	}
}
