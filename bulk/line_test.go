package bulk

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// testScanner scans into a run on a file system in memory.
func testScanner(t *testing.T, mode Mode, inputType string) *lineScanner {
	t.Helper()
	fsys := vfs.NewMem(1)
	if err := fsys.MkdirAll("runs"); err != nil {
		t.Fatal(err)
	}
	builder, err := index.NewBuilder(index.BuilderOptions{FS: fsys, Dir: "runs", ID: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = builder.Abort() })
	now := time.Date(testNow, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	rules := &lineRules{mode: mode, types: []fhir.TypeCode{fhir.TypeByName([]byte(inputType))}, now: func() int64 { return now }}
	return newLineScanner(rules, builder)
}

// testLines scans text and describes what became of the lines.
func testLines(t *testing.T, w *lineScanner, text string) (rows, refusals string) {
	t.Helper()
	info := &chunkInfo{}
	if err := w.chunk(&chunk{data: []byte(text)}, info, 0); err != nil {
		t.Fatal(err)
	}
	for i := range w.rows {
		r := &w.rows[i]
		stored, err := w.builder.Body(index.Ordinal(i))
		if err != nil {
			t.Fatal(err)
		}
		rows += fmt.Sprintf("%d@%d %s", r.line, r.offset, stored.Body)
		switch r.class {
		case classDated:
			rows += " " + fhir.Instant{Milli: r.milli, OffsetMinutes: r.zone}.String()
		case classVersioned:
			rows += " " + fhir.Instant{Milli: r.milli, OffsetMinutes: r.zone}.String() + fmt.Sprintf(" v%d", r.version)
		}
		if r.deleted {
			rows += " deleted"
		}
		rows += "\n"
	}
	for i := range info.refusals {
		r := &info.refusals[i]
		refusals += fmt.Sprintf("%d@%d %s: %s\n", r.line, r.offset, r.kind.code(), r.appendText(nil))
	}
	return rows, refusals
}

const testIDText = "'. Id must be any combination of upper or lower case ASCII letters ('A'..'Z', and 'a'..'z'), numerals ('0'..'9'), '-' and '.', with a length limit of 64 characters. (This might be an integer, an un-prefixed OID, UUID, or any other identifier pattern that meets these constraints.)"

func TestLinesAreAcceptedAsWritten(t *testing.T) {
	f := func(mode Mode, line, want string) {
		t.Helper()
		rows, refusals := testLines(t, testScanner(t, mode, ""), line)
		if rows != want+"\n" || refusals != "" {
			t.Errorf("%s gives %q and %q, want %q", line, rows, refusals, want)
		}
	}
	plain := `{"resourceType":"Patient","id":"a"}`
	f(InitialLoad, plain, "1@0 "+plain)
	f(InitialLoad, plain+"\r\n", "1@0 "+plain)
	f(InitialLoad, "\n\r\n\n"+plain+"\n\n", "1@4 "+plain)
	f(InitialLoad, "\xef\xbb\xbf"+plain+"\n", "1@0 "+plain)
	dated := func(meta string) string {
		return `{"resourceType":"Patient","id":"a","meta":{` + meta + `}}`
	}
	empty := dated("")
	f(InitialLoad, dated(`"versionId":"7","lastUpdated":"2001-01-01T00:00:00Z"`), "1@0 "+empty)
	f(InitialLoad, dated(`"lastUpdated":"garbage"`), "1@0 "+empty)
	f(IncrementalLoad, dated(`"versionId":"7"`), "1@0 "+empty)
	f(IncrementalLoad, dated(`"lastUpdated":"2023-01-01T00:00:00.1239+10:00"`), "1@0 "+empty+" 2023-01-01T00:00:00.123+10:00")
	f(IncrementalLoad, dated(`"versionId":"7","lastUpdated":"2001-01-01T00:00:00Z"`), "1@0 "+empty+" 2001-01-01T00:00:00.000Z v7")
	f(IncrementalLoad, dated(`"versionId":"-7","lastUpdated":"2001-01-01T00:00:00Z"`), "1@0 "+empty+" 2001-01-01T00:00:00.000Z v-7")
	for _, version := range []string{"abc", "1.0", "3000000000", ""} {
		f(IncrementalLoad, dated(`"versionId":"`+version+`","lastUpdated":"2001-01-01T00:00:00Z"`), "1@0 "+empty+" 2001-01-01T00:00:00.000Z")
	}
	f(IncrementalLoad, dated(`"lastUpdated":"2026-01-01T00:00:08Z"`), "1@0 "+empty+" 2026-01-01T00:00:08.000Z")
	deleted := `"extension":[{"url":"http://azurehealthcareapis.com/data-extensions/deleted-state","valueString":"soft-deleted"}]`
	f(InitialLoad, dated(deleted), "1@0 "+empty+" deleted")
	other := dated(strings.Replace(deleted, "soft-deleted", "deleted", 1))
	f(InitialLoad, other, "1@0 "+other)
	conditional := `{"resourceType":"Observation","id":"a","subject":{"reference":"Patient?identifier=x"}}`
	f(IncrementalLoad, conditional, "1@0 "+conditional)
}

func TestLinesAreRefused(t *testing.T) {
	f := func(mode Mode, inputType, line, want string) {
		t.Helper()
		good := `{"resourceType":"Patient","id":"good"}` + "\n"
		w := testScanner(t, mode, inputType)
		rows, refusals := testLines(t, w, good+line+"\n"+good)
		if refusals != fmt.Sprintf("2@%d %s\n", len(good), want) {
			t.Errorf("%s gives %q, want %q", line, refusals, want)
		}
		if inputType == "" && w.builder.Rows() != 2 {
			t.Errorf("beside %s, %q is loaded", line, rows)
		}
	}
	f(InitialLoad, "", `{"resourceType":"Patient"`, "invalid: not valid JSON at byte 25: unexpected end of input")
	f(InitialLoad, "", ` `, "invalid: not valid JSON at byte 1: unexpected end of input")
	f(InitialLoad, "", `{"resourceType":"Nobody","id":"a"}`, "invalid: not a FHIR resource: 'Nobody' is not an R4 resource type")
	f(InitialLoad, "", `{"resourceType":"","id":"a"}`, "invalid: not a FHIR resource: there is no resourceType")
	f(InitialLoad, "", `{"resourceType":"Patient","id":"#bad"}`, "invalid: Invalid resource id: '#bad"+testIDText)
	f(InitialLoad, "", `{"resourceType":"Patient","id":""}`, "invalid: Invalid resource id: '"+testIDText)
	f(InitialLoad, "", `{"resourceType":"Patient","id":"a/b"}`, "invalid: Invalid resource id: 'a/b"+testIDText)
	long := strings.Repeat("i", 65)
	f(InitialLoad, "", `{"resourceType":"Patient","id":"`+long+`"}`, "invalid: Invalid resource id: '"+long+testIDText)
	f(InitialLoad, "", `{"resourceType":"Patient"}`, "invalid: Invalid resource id: 'null or empty"+testIDText)
	conditional := `{"resourceType":"Observation","id":"a","subject":{"reference":"Patient?identifier=x"}}`
	f(InitialLoad, "", conditional, "not-supported: Conditional reference is not supported for $import in InitialLoad.")
	f(InitialLoad, "", `{"resourceType":"SearchParameter","id":"a"}`, "not-supported: SearchParameter resources cannot be processed by import.")
	f(InitialLoad, "Patient", `{"resourceType":"Observation","id":"a"}`, "invalid: Resource type not match.")
	// A wrong id is reported before a wrong type.
	f(InitialLoad, "Patient", `{"resourceType":"Observation","id":"#"}`, "invalid: Invalid resource id: '#"+testIDText)
	f(IncrementalLoad, "", `{"resourceType":"Patient","id":"a","meta":{"lastUpdated":"2026-01-01T00:01:00Z"}}`, "invalid: LastUpdated in the resource cannot be in the future.")
	f(IncrementalLoad, "", `{"resourceType":"Patient","id":"a","meta":{"lastUpdated":"yesterday"}}`, "invalid: LastUpdated in the resource is not a valid instant: 'yesterday'.")
}

func TestLineTooLong(t *testing.T) {
	w := testScanner(t, InitialLoad, "")
	info := &chunkInfo{start: 500}
	if err := w.chunk(&chunk{start: 500, data: []byte(`{"resourceType`), tooLong: true}, info, 0); err != nil {
		t.Fatal(err)
	}
	lines := info.inFile()
	if len(lines) != 1 || lines[0].offset != 500 || lines[0].kind.code() != "too-long" || info.lines != 1 {
		t.Errorf("a line that is too long gives %+v", lines)
	}
}

func TestRefusalLine(t *testing.T) {
	r := refusal{kind: refusedDuplicate, arg: "a", line: 2, offset: 36}
	want := `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"duplicate","details":{"text":"Failed to import duplicate resource, resource id: a, line: 2"},"diagnostics":"Failed to process resource at line: 2 with stream start offset: 36"}]}` + "\n"
	if got := string(r.appendLine(nil)); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	r = refusal{kind: refusedText, arg: "a\"\\\x01é\xff", line: 1}
	if got := string(r.appendLine(nil)); !strings.Contains(got, `"text":"a\"\\\u0001é`+"\ufffd"+`"`) {
		t.Errorf("a text with special characters is written as %s", got)
	}
}
