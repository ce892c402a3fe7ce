package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
	"kiln/query"
)

// newAPI starts a server on a real store in a temporary directory.
func newAPI(t *testing.T, change func(*engine.Options, *bulk.Options, *Options)) *testServer {
	t.Helper()
	storeOptions := engine.Options{FS: vfs.OS(), Dir: t.TempDir(), Now: time.Now, NewID: rand.Uint64}
	jobOptions := bulk.Options{Now: time.Now, NewID: rand.Uint64}
	return newBareServer(t, func(o *Options) {
		if change != nil {
			change(&storeOptions, &jobOptions, o)
		}
		store, err := engine.Open(context.Background(), storeOptions)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil && store.Health().Failed == nil {
				t.Error(err)
			}
		})
		if o.Parameters, err = query.NewRegistry(context.Background(), store, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		jobOptions.Store, jobOptions.Parameters = store, o.Parameters
		jobs, err := bulk.NewManager(context.Background(), jobOptions)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := jobs.Close(); err != nil {
				t.Error(err)
			}
		})
		o.Store, o.Jobs = store, jobs
		if make, late := o.Auth.(withStore); late {
			make(o)
		}
	})
}

// put writes a Patient and returns the answer.
func (s *testServer) put(t *testing.T, id, members string, headers ...string) *answer {
	t.Helper()
	body := `{"resourceType":"Patient","id":"` + id + `"` + members + `}`
	return s.do(t, "PUT", "/fhir/Patient/"+id, body, append(headers, typeHeader)...)
}

// expect checks status and ETag ("-": any, "": none).
func (a *answer) expect(t *testing.T, what string, status int, etag string) *answer {
	t.Helper()
	if a.status != status || etag != "-" && a.header.Get("ETag") != etag {
		t.Errorf("%s: got %d with ETag %q, want %d with %q; body %.200s", what, a.status, a.header.Get("ETag"), status, etag, a.body)
	}
	return a
}

// plainBody is a served resource without versionId and lastUpdated, which are
// checked to be there.
func (a *answer) plainBody(t *testing.T) string {
	t.Helper()
	before, rest, ok := strings.Cut(a.body, `,"meta":{"versionId":"`)
	_, rest, ok2 := strings.Cut(rest, `","lastUpdated":"`)
	_, rest, ok3 := strings.Cut(rest, `"}`)
	if !ok || !ok2 || !ok3 {
		t.Fatalf("no meta members in %s", a.body)
	}
	return before + rest
}

func TestLifeOfAResource(t *testing.T) {
	s := newAPI(t, nil)
	s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "read before", 404, "")
	s.do(t, "DELETE", "/fhir/Patient/a", "").expect(t, "delete before", 204, "")
	a := s.put(t, "a", `,"birthDate":"1990"`).expect(t, "create", 201, `W/"1"`)
	if got := a.header.Get("Location"); got != "http://"+s.addr+"/fhir/Patient/a/_history/1" {
		t.Errorf("Location is %q", got)
	}
	s.put(t, "a", `, "birthDate" : "1990" `).expect(t, "same content", 200, `W/"1"`)
	s.put(t, "a", `,"birthDate":"1991"`).expect(t, "update", 200, `W/"2"`)
	read := s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "read", 200, `W/"2"`)
	if got := read.plainBody(t); got != `{"resourceType":"Patient","id":"a","birthDate":"1991"}` {
		t.Errorf("read %s", got)
	}
	modified := read.header.Get("Last-Modified")
	s.do(t, "GET", "/fhir/Patient/a", "", `If-None-Match: W/"2"`).expect(t, "If-None-Match", 304, `W/"2"`)
	s.do(t, "GET", "/fhir/Patient/a", "", `If-None-Match: W/"1"`, "If-Modified-Since: "+modified).expect(t, "other If-None-Match", 200, `W/"2"`)
	s.do(t, "GET", "/fhir/Patient/a", "", "If-Modified-Since: "+modified).expect(t, "If-Modified-Since", 304, `W/"2"`)
	s.do(t, "GET", "/fhir/Patient/a", "", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT").expect(t, "old If-Modified-Since", 200, `W/"2"`)
	head := s.do(t, "HEAD", "/fhir/Patient/a", "").expect(t, "head", 200, `W/"2"`)
	if head.body != "" || head.header.Get("Content-Length") != fmt.Sprint(len(read.body)) {
		t.Errorf("HEAD: %d bytes, Content-Length %s", len(head.body), head.header.Get("Content-Length"))
	}
	first := s.do(t, "GET", "/fhir/Patient/a/_history/1", "").expect(t, "vread", 200, `W/"1"`)
	if !strings.Contains(first.body, `"birthDate":"1990"`) || !strings.Contains(first.body, `"versionId":"1"`) {
		t.Errorf("vread %s", first.body)
	}
	s.do(t, "DELETE", "/fhir/Patient/a", "").expect(t, "delete", 204, `W/"3"`)
	s.do(t, "DELETE", "/fhir/Patient/a", "").expect(t, "delete again", 204, `W/"3"`)
	gone := s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "read deleted", 410, `W/"3"`)
	if code, _ := gone.outcome(t); code != "deleted" {
		t.Errorf("deleted: code %s", code)
	}
	s.do(t, "GET", "/fhir/Patient/a/_history/3", "").expect(t, "vread deleted", 410, `W/"3"`)
	s.do(t, "GET", "/fhir/Patient/a/_history/2", "").expect(t, "vread before", 200, `W/"2"`)
	s.put(t, "a", `,"birthDate":"1991"`).expect(t, "undelete", 201, `W/"4"`)
}

func TestMissingResourcesAreNamed(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", "").expect(t, "create", 201, "-")
	f := func(path, text string) {
		t.Helper()
		a := s.do(t, "GET", path, "")
		if code, got := a.outcome(t); a.status != 404 || code != "not-found" || got != text {
			t.Errorf("%s: got %d %s %q", path, a.status, code, got)
		}
	}
	f("/fhir/Patient/x", "Resource type 'Patient' with id 'x' couldn't be found.")
	f("/fhir/Patient/x_y", "Resource type 'Patient' with id 'x_y' couldn't be found.")
	f("/fhir/Observation/a", "Resource type 'Observation' with id 'a' couldn't be found.")
	f("/fhir/Patient/a/_history/2", "Resource type 'Patient' with id 'a' and version '2' couldn't be found.")
	f("/fhir/Patient/a/_history/01", "Resource type 'Patient' with id 'a' and version '01' couldn't be found.")
	f("/fhir/Patient/x/_history", "Resource type 'Patient' with id 'x' couldn't be found.")
	f("/fhir/_operations/import/99", `The requested import job "99" was not found.`)
	f("/fhir/_operations/import/abc", `The requested import job "0" was not found.`)
	f("/fhir/_operations/export/99", `The requested job "99" was not found.`)
}

func TestCreateGivesItsOwnID(t *testing.T) {
	s := newAPI(t, nil)
	f := func(sent, want string) {
		t.Helper()
		a := s.do(t, "POST", "/fhir/Patient", sent, typeHeader).expect(t, sent, 201, `W/"1"`)
		_, id, _ := strings.Cut(a.header.Get("Location"), "/fhir/Patient/")
		id, _, _ = strings.Cut(id, "/")
		if got := a.plainBody(t); id == "" || got != strings.ReplaceAll(want, "ID", id) {
			t.Errorf("%s became %s under id %q", sent, got, id)
		}
		read := s.do(t, "GET", "/fhir/Patient/"+id, "").expect(t, "read", 200, `W/"1"`)
		if read.body != a.body {
			t.Errorf("read %s, created %s", read.body, a.body)
		}
	}
	f(`{"resourceType":"Patient"}`, `{"resourceType":"Patient","id":"ID"}`)
	f(`{"id":"mine","resourceType":"Patient","active":true}`, `{"id":"ID","resourceType":"Patient","active":true}`)
	f(`{"resourceType":"Patient","meta":{"versionId":"7","lastUpdated":"2001-01-01T00:00:00Z"}}`, `{"resourceType":"Patient","id":"ID"}`)
	if s.do(t, "GET", "/fhir/Patient/mine", "").status != 404 {
		t.Error("the client's id was used")
	}
}

func TestTextOfValuesIsKept(t *testing.T) {
	s := newAPI(t, nil)
	sent := `{"resourceType":"Observation","id":"n","status":"final","code":{"text":"x"},"valueRange":{"low":{"value":1.00,"unit":"\u00b5g \ud83d\ude00 µ"},"high":{"value":-0.0}},` +
		`"component":[{"code":{"text":"x"},"valueQuantity":{"value":1e-7}},{"code":{"text":"x"},"valueQuantity":{"value":123456789012345678901234567890.10}}]}`
	s.do(t, "PUT", "/fhir/Observation/n", sent, typeHeader).expect(t, "create", 201, `W/"1"`)
	if got := s.do(t, "GET", "/fhir/Observation/n", "").plainBody(t); got != sent {
		t.Errorf("sent %s\n got %s", sent, got)
	}
	pretty := s.do(t, "GET", "/fhir/Observation/n?_pretty=true", "").body
	if !strings.Contains(pretty, "\n      \"value\": 1.00,\n") || !strings.Contains(pretty, `\u00b5g \ud83d\ude00 µ`) {
		t.Errorf("laid out: %s", pretty)
	}
}

func TestPreconditionsOfWrites(t *testing.T) {
	s := newAPI(t, nil)
	f := func(what string, a *answer, status int, text string) {
		t.Helper()
		if a.status != status {
			t.Errorf("%s: got %d %s", what, a.status, a.body)
			return
		}
		if text != "" {
			if _, got := a.outcome(t); got != text {
				t.Errorf("%s: got %q", what, got)
			}
		}
	}
	remove := func(header string) *answer { return s.do(t, "DELETE", "/fhir/Patient/a", "", header) }
	f("If-Match on nothing", s.put(t, "a", "", `If-Match: W/"1"`), 404, "Resource type 'Patient' with id 'a' couldn't be found.")
	f("If-Match * on nothing", s.put(t, "a", "", `If-Match: *`), 412, "The resource does not exist.")
	f("If-None-Match *", s.put(t, "a", "", `If-None-Match: *`), 201, "")
	f("If-None-Match * again", s.put(t, "a", `,"active":true`, `If-None-Match: *`), 412, "The resource exists already.")
	f("If-Match of another", s.put(t, "a", `,"active":true`, `If-Match: W/"2"`), 412, "The supplied version '2' did not match.")
	f("If-Match of no version", s.put(t, "a", `,"active":true`, `If-Match: W/"x"`), 412, "The supplied version 'x' did not match.")
	f("If-Match", s.put(t, "a", `,"active":true`, `If-Match: W/"1"`), 200, "")
	f("If-Match *", s.put(t, "a", `,"active":false`, `If-Match: *`), 200, "")
	f("delete of another", remove(`If-Match: W/"2"`), 412, "The supplied version '2' did not match.")
	f("delete", remove(`If-Match: W/"3"`), 204, "")
}

func TestReturnPreferences(t *testing.T) {
	s := newAPI(t, nil)
	minimal := s.put(t, "a", "", "Prefer: return=minimal").expect(t, "minimal", 201, `W/"1"`)
	if minimal.body != "" || minimal.header.Get("Location") == "" || minimal.header.Get("Last-Modified") == "" ||
		minimal.header.Get("Preference-Applied") != "return=minimal" {
		t.Errorf("minimal: %q %v", minimal.body, minimal.header)
	}
	outcome := s.put(t, "a", `,"active":true`, "Prefer: return=OperationOutcome").expect(t, "outcome", 200, `W/"2"`)
	if code, text := outcome.outcome(t); code != "informational" || text != "The resource was updated to version 2." {
		t.Errorf("outcome: %s %q", code, text)
	}
	same := s.put(t, "a", `,"active":true`, "Prefer: return=OperationOutcome").expect(t, "same", 200, `W/"2"`)
	if _, text := same.outcome(t); text != "The content is the same as before; no new version was made." {
		t.Errorf("same: %q", text)
	}
	whole := s.put(t, "a", "", "Prefer: return=representation").expect(t, "representation", 200, `W/"3"`)
	if !strings.Contains(whole.body, `"versionId":"3"`) {
		t.Errorf("representation: %s", whole.body)
	}
}

// bundle is a history as read.
type bundle struct {
	Type  string
	Total int
	Link  []struct{ Relation, URL string }
	Entry []struct {
		FullURL  string
		Resource struct {
			ID   string
			Meta struct{ VersionID, LastUpdated string }
		}
		Request  struct{ Method, URL string }
		Response struct{ Status, Etag, LastModified string }
	}
}

func (a *answer) bundle(t *testing.T) *bundle {
	t.Helper()
	var b bundle
	if err := json.Unmarshal([]byte(a.body), &b); err != nil || a.status != 200 || b.Type != "history" && b.Type != "searchset" {
		t.Fatalf("not a list of resources: %d %.300s (%v)", a.status, a.body, err)
	}
	return &b
}

func (b *bundle) link(relation string) string {
	for _, l := range b.Link {
		if l.Relation == relation {
			return l.URL
		}
	}
	return ""
}

// versions lists "id/version" of the entries.
func (b *bundle) versions() string {
	var out []string
	for _, e := range b.Entry {
		out = append(out, e.Resource.ID+"/"+e.Resource.Meta.VersionID)
	}
	return strings.Join(out, " ")
}

func TestHistoryEntriesTellWhatHappened(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", "").expect(t, "create", 201, "-")
	s.put(t, "a", `,"active":true`).expect(t, "update", 200, "-")
	s.do(t, "DELETE", "/fhir/Patient/a", "").expect(t, "delete", 204, "-")
	b := s.do(t, "GET", "/fhir/Patient/a/_history", "").bundle(t)
	if b.Total != 3 || b.versions() != "a/3 a/2 a/1" || b.link("next") != "" {
		t.Fatalf("got %d: %s, next %q", b.Total, b.versions(), b.link("next"))
	}
	if want := "http://" + s.addr + "/fhir/Patient/a/_history"; b.link("self") != want {
		t.Errorf("self is %q", b.link("self"))
	}
	f := func(i int, method, status string) {
		t.Helper()
		e := b.Entry[i]
		if e.Request.Method != method || e.Response.Status != status || e.Request.URL != "Patient/a" ||
			e.FullURL != "http://"+s.addr+"/fhir/Patient/a" || e.Response.Etag != `W/"`+e.Resource.Meta.VersionID+`"` {
			t.Errorf("entry %d is %+v", i, e)
		}
		modified, err := time.Parse(time.RFC3339, e.Response.LastModified)
		updated, err2 := time.Parse(time.RFC3339, e.Resource.Meta.LastUpdated)
		if err != nil || err2 != nil || !modified.Equal(updated) {
			t.Errorf("entry %d: modified %q, updated %q", i, e.Response.LastModified, e.Resource.Meta.LastUpdated)
		}
	}
	f(0, "DELETE", "204 NoContent")
	f(1, "PUT", "200 OK")
	f(2, "PUT", "201 Created")
}

// pages follows next links; between is called after every page.
func (s *testServer) pages(t *testing.T, path string, between func()) (all string, count int, total int) {
	t.Helper()
	var parts []string
	for url := path; url != ""; count++ {
		b := s.do(t, "GET", url, "").bundle(t)
		if v := b.versions(); v != "" {
			parts = append(parts, v)
		}
		if count > 0 && b.Total != total {
			t.Errorf("total was %d, is %d", total, b.Total)
		}
		total, url = b.Total, b.link("next")
		between()
	}
	return strings.Join(parts, " "), count, total
}

func TestHistoryPagesShowOneMoment(t *testing.T) {
	s := newAPI(t, nil)
	var newestFirst []string
	for i := range 23 {
		id := fmt.Sprintf("p%d", i%7)
		s.put(t, id, fmt.Sprintf(`,"multipleBirthInteger":%d`, i)).expect(t, id, []int{200, 201}[boolInt(i < 7)], "-")
		newestFirst = append([]string{fmt.Sprintf("%s/%d", id, i/7+1)}, newestFirst...)
	}
	want := strings.Join(newestFirst, " ")
	writes := 0
	disturb := func() {
		writes++
		s.put(t, "p1", fmt.Sprintf(`,"multipleBirthInteger":%d`, 1000+writes)).expect(t, "disturb", 200, "-")
		if writes%2 == 0 {
			if err := s.opts.Store.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	f := func(path, sort string, pages int) {
		t.Helper()
		b := s.do(t, "GET", path+"?_count=0", "").bundle(t)
		all, count, total := s.pages(t, path+fmt.Sprintf("?_sort=%s&_count=%d", sort, (b.Total+pages-1)/pages), disturb)
		if sort == "_lastUpdated" {
			versions := strings.Fields(all)
			slices.Reverse(versions)
			all = strings.Join(versions, " ")
		}
		if count != pages || total != b.Total || len(strings.Fields(all)) != total || !strings.HasSuffix(all, want) {
			t.Errorf("%s, %s: %d pages of %d versions in all: %s", path, sort, count, total, all)
		}
	}
	f("/fhir/_history", "-_lastUpdated", 8)
	f("/fhir/_history", "_lastUpdated", 8)
	f("/fhir/Patient/_history", "-_lastUpdated", 5)
	f("/fhir/Patient/_history", "_lastUpdated", 5)
	one, _, total := s.pages(t, "/fhir/Patient/p2/_history?_count=1", disturb)
	if one != "p2/4 p2/3 p2/2 p2/1" && one != "p2/3 p2/2 p2/1" || total != len(strings.Fields(one)) {
		t.Errorf("p2: %d versions: %s", total, one)
	}
	if none, _, total := s.pages(t, "/fhir/Observation/_history", disturb); none != "" || total != 0 {
		t.Errorf("Observation: %d versions: %s", total, none)
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestHistoryFilters(t *testing.T) {
	s := newAPI(t, nil)
	for i := range 12 {
		s.put(t, "a", fmt.Sprintf(`,"multipleBirthInteger":%d`, i))
	}
	whole := s.do(t, "GET", "/fhir/Patient/a/_history?_count=100", "").bundle(t)
	middle := whole.Entry[6].Resource.Meta.LastUpdated
	f := func(query string, total, entries int, self string) {
		t.Helper()
		b := s.do(t, "GET", "/fhir/Patient/a/_history?"+query, "").bundle(t)
		_, got, _ := strings.Cut(b.link("self"), "/_history")
		if b.Total != total || len(b.Entry) != entries || got != self {
			t.Errorf("%s: %d of %d, self %q", query, len(b.Entry), b.Total, got)
		}
	}
	escaped := strings.ReplaceAll(middle, ":", "%3A")
	f("", 12, 10, "")
	f("_since="+middle, 7, 7, "?_since="+escaped)
	f("_before="+middle, 5, 5, "?_before="+escaped)
	f("_since="+middle+"&_before="+middle, 0, 0, "?_since="+escaped+"&_before="+escaped)
	f("_count=3&_since=2001", 12, 3, "?_since=2001&_count=3")
	f("_count=0", 12, 0, "?_count=0")
	f("_summary=count&_count=5", 12, 0, "?_count=5&_summary=count")
	f("_sort=-_lastUpdated&_at=2020", 12, 10, "?_sort=-_lastUpdated")
	f("_sort=_lastUpdated&_before="+middle, 5, 5, "?_before="+escaped+"&_sort=_lastUpdated")
	f("_elements=active&_count=1", 12, 1, "?_count=1&_elements=active")
	f("_count=99999", 12, 12, "?_count=99999")
	f("_format=json&_count=2", 12, 2, "?_count=2&_format=json")
	other := s.do(t, "GET", "/fhir/Patient/a/_history?_count=5", "").bundle(t).link("next")
	moved := s.do(t, "GET", strings.Replace(other, "Patient/a/", "Patient/", 1), "")
	if _, text := moved.outcome(t); moved.status != 400 || !strings.Contains(text, "for this address") {
		t.Errorf("token at another address: %d %q", moved.status, text)
	}
}

func TestHistoryPageEndsAtItsSize(t *testing.T) {
	s := newAPI(t, nil)
	large := `,"text":{"status":"generated","div":"<div>` + strings.Repeat("x", 9<<20) + `</div>"}`
	for _, id := range []string{"a", "b", "c"} {
		s.put(t, id, large, "Prefer: return=minimal").expect(t, id, 201, "-")
	}
	all, count, total := s.pages(t, "/fhir/_history", func() {})
	if all != "c/1 b/1 a/1" || count != 2 || total != 3 {
		t.Errorf("got %d pages of %d: %s", count, total, all)
	}
}

func TestRacingUpdatesMakeOneHistory(t *testing.T) {
	s := newAPI(t, nil)
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				a := s.put(t, "a", fmt.Sprintf(`,"multipleBirthInteger":%d`, w*each+i))
				if a.status != 200 && a.status != 201 {
					t.Errorf("got %d %s", a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
	b := s.do(t, "GET", "/fhir/Patient/a/_history?_count=1000", "").bundle(t)
	if len(b.Entry) != writers*each {
		t.Fatalf("%d versions", len(b.Entry))
	}
	for i, e := range b.Entry {
		if want := fmt.Sprint(writers*each - i); e.Resource.Meta.VersionID != want {
			t.Fatalf("entry %d has version %s, want %s", i, e.Resource.Meta.VersionID, want)
		}
	}
}

func TestFullDiskRefusesWritesOnly(t *testing.T) {
	s := newAPI(t, func(store *engine.Options, _ *bulk.Options, _ *Options) { store.FreeBytesMin = 1 << 60 })
	a := s.put(t, "a", "")
	if code, _ := a.outcome(t); a.status != 507 || code != "no-store" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "read", 404, "")
}

func TestMetricsCountRequestsAndStore(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", "")
	s.do(t, "GET", "/fhir/Patient/a", "")
	s.do(t, "GET", "/fhir/Patient/b", "")
	s.do(t, "GET", "/fhir/Patient", "")
	s.do(t, "POST", "/fhir/Patient/_search", "")
	text := s.do(t, "GET", "/metrics", "").body
	for _, want := range []string{
		`kiln_http_requests_total{interaction="read",status="200"} 1`,
		`kiln_http_requests_total{interaction="read",status="404"} 1`,
		`kiln_http_requests_total{interaction="update",status="201"} 1`,
		`kiln_http_request_duration_seconds_count{interaction="read"} 2`,
		`kiln_http_request_duration_seconds_bucket{interaction="read",le="60"} 2`,
		`kiln_http_request_duration_seconds_count{interaction="search-type"} 2`,
		"kiln_store_versions 1", "kiln_store_read_only 0", `kiln_jobs{kind="import",state="running"} 0`, "kiln_import_rounds_total 0",
		`kiln_import_refused_lines_total{reason="duplicate"} 0`, `kiln_import_stall_seconds_total{reason="turn"} 0`, "kiln_import_scanned_lines_total 0", "kiln_export_lines_total 0", `kiln_exports_total{end="failed"} 0`,
		`kiln_export_blocks_total{state="staged"} 0`, "kiln_export_blocks_waiting 0", "kiln_export_account_stalls_total 0", `kiln_export_stall_seconds_total{reason="durable"} 0`, `kiln_info{version="test"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		if series := line[:strings.LastIndex(line, " ")+1]; series != "" && !strings.HasPrefix(line, "#") && seen[series] {
			t.Errorf("%s comes twice", series)
		} else {
			seen[series] = true
		}
	}
}
