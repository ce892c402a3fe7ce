package httpapi

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/engine"
	"kiln/fhir/structure"
	"kiln/httpapi/access"
	"kiln/httpapi/audit"
	"kiln/internal/vfs"
)

// recorded is a server that records, and what it records.
type recorded struct {
	*testServer
	log *audit.Log
	dir string
	// more are the events that are no requests, once lines was called.
	more []string
}

func newRecorded(t *testing.T, change func(*Options)) *recorded {
	t.Helper()
	r := &recorded{dir: filepath.Join(t.TempDir(), "audit")}
	r.testServer = newAPI(t, func(_ *engine.Options, _ *bulk.Options, o *Options) {
		var err error
		r.log, err = audit.Open(audit.Options{FS: vfs.OS(), Dir: r.dir, Now: time.Now, Instance: "i", Site: "here", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		o.Audit = r.log
		if change != nil {
			change(o)
		}
	})
	return r
}

// lines ends the log and returns its lines that are of requests, each checked as a
// resource.
func (r *recorded) lines(t *testing.T) []string {
	t.Helper()
	if err := r.log.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "*.ndjson"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got %v %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	checker := structure.NewChecker()
	var lines []string
	for line := range bytes.Lines(text) {
		if !json.Valid(line) {
			t.Fatalf("no JSON: %s", line)
		}
		if issues := checker.Check(line); len(issues) > 0 {
			t.Errorf("%s: %+v", line, issues)
		}
		if !bytes.Contains(line, []byte(`"code":"rest"`)) {
			r.more = append(r.more, string(line))
			continue
		}
		lines = append(lines, string(line))
	}
	return lines
}

// marker stands for clinical content and credentials: it may be in no event.
const marker = "MARKER7f3a"

func TestEveryAccessIsAnAuditEvent(t *testing.T) {
	r := newRecorded(t, func(o *Options) { o.TrustedProxies = proxies(t, false, "127.0.0.1") })
	f := func(method, path, body string, status int, headers ...string) {
		t.Helper()
		got := r.do(t, method, path, body, append(headers, typeHeader, "Authorization: Bearer "+marker, "X-Forwarded-For: 192.0.2.1", "X-Request-Id: r-1")...)
		if got.status != status {
			t.Errorf("%s %s: got %d %s", method, path, got.status, got.body)
		}
	}
	patient := `{"resourceType":"Patient","id":"p","name":[{"family":"` + marker + `"}]}`
	f("PUT", "/fhir/Patient/p", patient, 201)
	f("GET", "/fhir/Patient/p", "", 200)
	f("GET", "/fhir/Patient/p/_history/1", "", 200)
	f("POST", "/fhir/Observation", `{"resourceType":"Observation","status":"final","code":{"text":"`+marker+`"}}`, 201)
	f("GET", "/fhir/Patient?name="+marker+"&_count=3", "", 200)
	f("GET", "/fhir/Observation?patient=p&"+marker+"%20x=1", "", 400)
	f("GET", "/fhir/Patient/"+marker+"%20Smith", "", 404)
	f("GET", "/fhir/Patient/p/Observation", "", 200)
	f("DELETE", "/fhir/Patient/p", "", 204)
	f("GET", "/nowhere", "", 404)
	f("POST", "/fhir/Patient", `{"resourceType":"Patient","`+marker+`":1}`, 400)
	f("POST", "/fhir", `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":`+patient+`,"request":{"method":"PUT","url":"Patient/p"}},{"request":{"method":"GET","url":"Patient?name=x"}}]}`, 200)
	f("POST", "/fhir", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/p"}},{"request":{"method":"GET","url":"Patient/none"}}]}`, 200)
	f("GET", "/healthz", "", 200)
	f("GET", "/metrics", "", 200)
	want := []string{
		`update U 201 Patient/p/_history/1 p`, `read R 200 Patient/p p`, `vread R 200 Patient/p/_history/1 p`, `create C 201 Observation/`,
		`search-type E 200`, `search-type E 400 p`, `read R 404`, `search-type E 200 Patient/p p`, `delete D 204 Patient/p p`, `operation R 404`, `create C 400`,
		`update U 201 Patient/p p`, `search-type E 200`, `transaction E 200`, `read R 200 Patient/p p`, `read R 404 Patient/none none`, `batch E 200`,
	}
	lines := r.lines(t)
	if len(lines) != len(want) {
		t.Fatalf("%d events instead of %d:\n%s", len(lines), len(want), strings.Join(lines, ""))
	}
	for i, line := range lines {
		if got := summary(t, line); !strings.HasPrefix(got, want[i]) {
			t.Errorf("event %d is %q, want %q: %s", i, got, want[i], line)
		}
		if strings.Contains(line, marker) || !strings.Contains(line, `"192.0.2.1"`) || !strings.Contains(line, `"r-1"`) || !strings.Contains(line, `"site":"here"`) {
			t.Errorf("event %d: %s", i, line)
		}
	}
	if !strings.Contains(lines[4], `"valueString":"name,_count"`) || !strings.Contains(lines[6], `"valueString":"?"`) {
		t.Errorf("got %s%s", lines[4], lines[6])
	}
}

// summary is: interaction, action, status, the resource, the patient.
func summary(t *testing.T, line string) string {
	t.Helper()
	var e struct {
		Subtype     []struct{ Code string }
		Action      string
		OutcomeDesc string
		Entity      []struct {
			What struct{ Reference string }
			Type struct{ Code string }
		}
	}
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		t.Fatal(err)
	}
	parts := []string{e.Subtype[0].Code, e.Action, strings.TrimPrefix(e.OutcomeDesc, "HTTP ")}
	for _, entity := range e.Entity {
		switch text := entity.What.Reference; {
		case entity.Type.Code == "1":
			parts = append(parts, strings.TrimPrefix(text, "Patient/"))
		case text != "":
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, " ")
}

func TestDeniedAccessIsRecorded(t *testing.T) {
	r := newRecorded(t, nil)
	x := &exchange{server: r.Server, ctx: &fasthttp.RequestCtx{}, row: rowNone, who: &access.Principal{Issuer: "https://issuer.example", Subject: "s\x01\"", Client: "c", Name: "Importer", Patient: "p"}}
	x.ctx.Request.SetRequestURI("/fhir/Observation/o")
	x.addr = parseAddress(x.ctx.Path())
	x.fail(&problem{fasthttp.StatusForbidden, codeForbidden, "no"})
	x.audit()
	lines := r.lines(t)
	if got := summary(t, lines[0]); got != "read R 403 Observation/o p" {
		t.Errorf("got %s", got)
	}
	for _, want := range []string{`"system":"https://issuer.example"`, `"altId":"c"`, `"name":"Importer"`, `"outcome":"4"`} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("no %s in %s", want, lines[0])
		}
	}
}

func TestQueriesAreRecordedWhenAskedFor(t *testing.T) {
	r := newRecorded(t, func(o *Options) { o.AuditQueries = true })
	r.do(t, "GET", "/fhir/Patient?name=anna", "")
	if lines := r.lines(t); !strings.Contains(lines[0], `"query":"bmFtZT1hbm5h"`) {
		t.Errorf("got %s", lines[0])
	}
}

// TestWhatCannotBeRecordedIsNotDone takes the audit's directory away.
func TestWhatCannotBeRecordedIsNotDone(t *testing.T) {
	r := newRecorded(t, nil)
	r.put(t, "a", "").expect(t, "recorded", 201, `W/"1"`)
	if err := r.log.Close(); err != nil { // it takes nothing more
		t.Fatal(err)
	}
	got := r.do(t, "GET", "/fhir/Patient/a", "")
	if code, text := got.outcome(t); got.status != 503 || code != "transient" || !strings.Contains(text, "nothing was done") || got.header.Get("Retry-After") == "" {
		t.Errorf("got %d %s %s", got.status, code, text)
	}
	r.put(t, "b", "").expect(t, "unrecorded", 503, "")
	if got := r.do(t, "GET", "/healthz", ""); got.status != 200 {
		t.Errorf("health is %d", got.status)
	}
	if got := r.do(t, "GET", "/metrics", ""); !strings.Contains(got.body, "kiln_audit_refused_requests_total 2\n") {
		t.Error("the refusals are not counted")
	}
}

// TestWhatEventsTell asks in ways of which a part is not in the address.
func TestWhatEventsTell(t *testing.T) {
	r := newRecorded(t, func(o *Options) { o.AuditQueries = true })
	r.put(t, "a", `,"active":true`)
	r.put(t, "b", `,"active":true`)
	r.put(t, "c", `,"active":false`)
	form := "Content-Type: application/x-www-form-urlencoded"
	r.do(t, "POST", "/fhir/oauth/token", "client_assertion="+marker, form)
	r.do(t, "POST", "/fhir/Patient/_search", "active=true", form)
	r.do(t, "GET", "/fhir/$export?_type=Patient", "", "Prefer: respond-async", "Accept: application/fhir+json")
	r.do(t, "DELETE", "/fhir/Patient?active=true&_count=5", "")
	r.do(t, "POST", "/fhir", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"DELETE","url":"Patient?active=false"}},{"request":{"method":"GET","url":"http://elsewhere.example/x"}}]}`, typeHeader)
	r.do(t, "POST", "/fhir", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/none"}}]}`, typeHeader)
	r.do(t, "GET", "/fhir//Patient", "")
	lines := r.lines(t)
	want := []string{
		"update U 201", "update U 201", "update U 201", "operation E 404", "search-type E 200", "operation R 202",
		"delete D 204 Patient/a a", "delete D 204 Patient/b b", "delete D 204 Patient/c c", "operation R 400", "batch E 200", "delete D 204 Patient/none none", "transaction E 200", "operation R 400",
	}
	if len(lines) != len(want) {
		t.Fatalf("%d events instead of %d:\n%s", len(lines), len(want), strings.Join(lines, ""))
	}
	for i, line := range lines {
		if got := summary(t, line); !strings.HasPrefix(got, want[i]) {
			t.Errorf("event %d is %q, want %q: %s", i, got, want[i], line)
		}
		if strings.Contains(line, "invalid") {
			t.Errorf("event %d: %s", i, line)
		}
	}
	if strings.Contains(lines[3], `"query"`) || !strings.Contains(lines[4], `"query":"JmFjdGl2ZT10cnVl"`) {
		t.Errorf("queries: %s%s", lines[3], lines[4])
	}
	if !strings.Contains(lines[5], `{"type":"job","valueString":"_operations/export/1"}`) {
		t.Errorf("no job: %s", lines[5])
	}
}

// TestDeniedMetricsAreRecorded leaves out what machines ask for every second, and tells
// who may not.
func TestDeniedMetricsAreRecorded(t *testing.T) {
	r := newRecorded(t, func(o *Options) { o.Auth = clients(t) })
	r.as(t, "reader", "GET", "/metrics", "")
	r.as(t, "nobody", "GET", "/metrics", "")
	r.as(t, "unknown", "GET", "/metrics", "")
	r.as(t, "unknown", "GET", "/healthz", "")
	lines := r.lines(t)
	if len(lines) != 2 || summary(t, lines[0]) != "operation R 403" || summary(t, lines[1]) != "operation R 401" || !strings.Contains(lines[0], `"altId":"nobody"`) {
		t.Errorf("got %s", strings.Join(lines, ""))
	}
}

// TestTokensAreRecordedWithoutThem tells who got one.
func TestTokensAreRecordedWithoutThem(t *testing.T) {
	s, form := newTokenAPI(t)
	r := &recorded{testServer: s, dir: t.TempDir()}
	var err error
	if r.log, err = audit.Open(audit.Options{FS: vfs.OS(), Dir: r.dir, Now: time.Now, Instance: "i"}); err != nil {
		t.Fatal(err)
	}
	s.opts.Audit, s.opts.AuditQueries = r.log, true
	good := form("system/*.rs")
	for range 2 { // the second is a replay
		s.do(t, "POST", "/fhir/oauth/token", good, "Content-Type: application/x-www-form-urlencoded")
	}
	lines := r.lines(t)
	if len(lines) != 2 || !strings.Contains(lines[0], `"agent":[{"who":{"identifier":{"system":"kiln","value":"tool"}},"altId":"tool"`) || !strings.Contains(lines[0], "HTTP 200") {
		t.Fatalf("got %s", strings.Join(lines, ""))
	}
	if strings.Contains(lines[1], "tool") || !strings.Contains(lines[1], "HTTP 401") || strings.Contains(lines[0]+lines[1], `"query"`) {
		t.Errorf("got %s", lines[1])
	}
}
