package httpapi

import (
	"strings"
	"testing"
	"time"

	"kiln/bulk"
)

// How a job ended is told of whoever began it, with nothing of what it was about.
func TestEndsOfJobsAreEvents(t *testing.T) {
	r := newRecorded(t, func(o *Options) { o.Auth = clients(t) })
	a := r.as(t, "exporter", "GET", "/fhir/$export?_type=Patient", "", asyncHeader, acceptHeader)
	if a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if _, err := r.opts.Jobs.WaitExport(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, end := range []bulk.JobEnd{
		{ID: 2, Import: true, Owner: "https://issuer.example|a|b", At: at, Ending: bulk.EndFailed, Status: 507},
		{ID: 3, Import: true, At: at, Ending: bulk.EndCancelled},
		{ID: 4, Owner: "test|exporter", At: at, Ending: bulk.EndExpired},
	} {
		r.auditJob(end)
	}
	if n := len(r.lines(t)); n != 1 || len(r.more) != 4 {
		t.Fatalf("%d events of requests, and %v", n, r.more)
	}
	for i, want := range [][]string{
		{`"code":"110106"`, `"outcome":"0","outcomeDesc":"completed"`, `"system":"test","value":"exporter"`, `"requestor":true`, `"valueString":"export-end"`, `"valueString":"_operations/export/1"`},
		{`"code":"110107"`, `"outcome":"8","outcomeDesc":"failed, HTTP 507"`, `"system":"https://issuer.example","value":"a|b"`, `"valueString":"_operations/import/2"`},
		{`"code":"110107"`, `"outcome":"0","outcomeDesc":"cancelled"`, `"agent":[{"requestor":true}]`},
		{`"code":"110106"`, `"action":"D"`, `"outcomeDesc":"expired"`, `{"who":{"display":"kiln"},"requestor":true},{"who":{"identifier":{"system":"test","value":"exporter"}},"altId":"exporter","requestor":false}`},
	} {
		for _, part := range want {
			if !strings.Contains(r.more[i], part) {
				t.Errorf("event %d has no %s: %s", i, part, r.more[i])
			}
		}
	}
}

// A transaction that is refused has an event of the entry that it was refused for: who
// tries what is not theirs shows, whatever the Bundle.
func TestARefusedTransactionTellsWhy(t *testing.T) {
	r := newRecorded(t, func(o *Options) { o.Auth, o.ValidateWrites = clients(t), false })
	r.fixture(t)
	for _, request := range []string{`"method":"GET","url":"Observation/other"`, `"method":"DELETE","url":"Observation/other"`, `"method":"GET","url":"Practitioner?name=x"`, `"method":"GET","url":"$bulk-publish"`} {
		body := `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"GET","url":"Observation/own"}},{"request":{` + request + `}}]}`
		if a := r.as(t, "pat-obs", "POST", "/fhir", body); a.status < 400 {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
	}
	lines := r.lines(t)
	want := []string{
		"read R 404 Observation/other own", "transaction E 404 own", "delete D 403 Observation/other own", "transaction E 403 own",
		"search-type E 403 own", "transaction E 403 own", "operation R 403 own", "transaction E 403 own",
	}
	lines = lines[len(lines)-len(want):]
	for i, line := range lines {
		if got := summary(t, line); got != want[i] || i%2 == 0 != strings.Contains(line, `{"type":"entry","valueString":"2"}`) {
			t.Errorf("event %d is %q, want %q: %s", i, got, want[i], line)
		}
	}
}
