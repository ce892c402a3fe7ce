package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"kiln/bulk"
	"kiln/engine"
)

// responseBundle is the answer to a batch or transaction.
type responseBundle struct {
	Type  string
	Entry []struct {
		Resource json.RawMessage
		Response struct {
			Status, Location, Etag, LastModified string
			Outcome                              struct {
				Issue []struct{ Code, Diagnostics string }
			}
		}
	}
}

func entry(method, url, resource, more string) string {
	if resource != "" {
		resource = `,"resource":` + resource
	}
	return `{"request":{"method":"` + method + `","url":"` + url + `"` + more + `}` + resource + `}`
}

// named is an entry with a fullUrl.
func named(fullURL, text string) string { return `{"fullUrl":"` + fullURL + `",` + text[1:] }

func (s *testServer) bundle(t *testing.T, kind string, headers []string, entries ...string) (*answer, *responseBundle) {
	t.Helper()
	body := `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + strings.Join(entries, ",") + `]}`
	a := s.do(t, "POST", "/fhir", body, append(headers, typeHeader)...)
	var b responseBundle
	if a.status == 200 {
		if err := json.Unmarshal([]byte(a.body), &b); err != nil || b.Type != kind+"-response" || len(b.Entry) != len(entries) {
			t.Fatalf("not the answer to %d entries: %v %.500s", len(entries), err, a.body)
		}
	}
	return a, &b
}

func patient(id, members string) string {
	if id != "" {
		id = `,"id":"` + id + `"`
	}
	return `{"resourceType":"Patient"` + id + members + `}`
}

func patchBinary(contentType, data string) string {
	return `{"resourceType":"Binary","contentType":"` + contentType + `","data":"` + base64.StdEncoding.EncodeToString([]byte(data)) + `"}`
}

func TestTransactionDoesAllVerbs(t *testing.T) {
	s := newAPI(t, nil)
	for _, id := range []string{"del", "put", "patch", "read"} {
		s.put(t, id, `,"active":true`)
	}
	_, b := s.bundle(t, "transaction", nil,
		entry("GET", "Patient/put", "", ""),
		entry("PATCH", "Patient/patch", patchBinary("application/json-patch+json", `[{"op":"replace","path":"/active","value":false}]`), ""),
		entry("PUT", "Patient/put", patient("put", `,"active":false`), `,"ifMatch":"W/\"1\""`),
		entry("POST", "Patient", patient("", ""), ""),
		entry("DELETE", "Patient/del", "", ""),
		entry("GET", "Patient/read/_history/1", "", ""),
		entry("HEAD", "Patient/read", "", ""),
		entry("GET", "Patient/read/_history", "", ""),
		entry("DELETE", "Patient/never", "", ""),
		entry("PUT", "Patient/new", patient("new", ""), ""),
		entry("GET", "Patient/new", "", ""),
		entry("GET", "Patient/read", "", `,"ifNoneMatch":"W/\"1\""`),
	)
	f := func(i int, status, etag, resource string) {
		t.Helper()
		e := b.Entry[i]
		if e.Response.Status != status || e.Response.Etag != etag || !strings.Contains(string(e.Resource), resource) || resource == "" && len(e.Resource) > 0 {
			t.Errorf("entry %d: %+v %s", i, e.Response, e.Resource)
		}
	}
	f(0, "200 OK", `W/"2"`, `"active":false`)
	f(1, "200 OK", `W/"2"`, `"active":false`)
	f(2, "200 OK", `W/"2"`, `"active":false`)
	f(3, "201 Created", `W/"1"`, `"versionId":"1"`)
	f(4, "204 No Content", `W/"2"`, ``)
	f(5, "200 OK", `W/"1"`, `"id":"read"`)
	f(6, "200 OK", `W/"1"`, ``)
	f(7, "200 OK", ``, `"type":"history"`)
	f(8, "204 No Content", ``, ``)
	f(9, "201 Created", `W/"1"`, `"id":"new"`)
	f(10, "200 OK", `W/"1"`, `"id":"new"`)
	f(11, "304 Not Modified", `W/"1"`, ``)
	for i, location := range map[int]string{2: "/fhir/Patient/put/_history/2", 9: "/fhir/Patient/new/_history/1"} {
		if got := b.Entry[i].Response.Location; got != "http://"+s.addr+location || b.Entry[i].Response.LastModified == "" {
			t.Errorf("entry %d is at %q", i, got)
		}
	}
	s.do(t, "GET", "/fhir/Patient/del", "").expect(t, "deleted", 410, `W/"2"`)
}

func TestTransactionIsAllOrNothing(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", "")
	lsn := s.opts.Store.Stats().VisibleLSN
	good := entry("PUT", "Patient/b", patient("b", ""), "")
	f := func(what string, status int, text string, entries ...string) {
		t.Helper()
		a, _ := s.bundle(t, "transaction", nil, append([]string{good}, entries...)...)
		if _, got := a.outcome(t); a.status != status || !strings.Contains(got, text) {
			t.Errorf("%s: got %d %q", what, a.status, got)
		}
	}
	f("precondition", 412, `Bundle.entry[1] (PUT Patient/a): The supplied version '7' did not match.`, entry("PUT", "Patient/a", patient("a", `,"active":true`), `,"ifMatch":"W/\"7\""`))
	f("twice", 400, "Bundle.entry[1] (DELETE Patient/b): Bundle.entry[0] writes the same resource, Patient/b.", entry("DELETE", "Patient/b", "", ""))
	f("other id", 400, "Bundle.entry[1] (PUT Patient/a): The resource's id 'x'", entry("PUT", "Patient/a", patient("x", ""), ""))
	f("a read of nothing", 404, "Bundle.entry[1] (GET Patient/x): Resource type 'Patient'", entry("GET", "Patient/x", "", ""))
	f("a read of what is deleted", 400, "deletes", entry("DELETE", "Patient/a", "", ""), entry("GET", "Patient/a", "", ""))
	f("patch of nothing", 404, "Bundle.entry[1] (PATCH Patient/x)", entry("PATCH", "Patient/x", patchBinary("application/json-patch+json", `[]`), ""))
	f("failed test", 422, "Operation 1 of the patch", entry("PATCH", "Patient/a", patchBinary("application/json-patch+json", `[{"op":"test","path":"/id","value":"x"}]`), ""))
	f("no base64", 400, "not base64", entry("PATCH", "Patient/a", `{"resourceType":"Binary","data":"%"}`, ""))
	f("condition", 400, "Bundle.entry[1] (POST Patient): The search parameter 'odd' is not supported", entry("POST", "Patient", patient("", ""), `,"ifNoneExist":"odd=1"`))
	f("conditional reference", 412, "The conditional reference 'Patient?identifier=1' does not find exactly one resource", entry("POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient?identifier=1"}}`, ""))
	f("conditional patch of nothing", 404, "Patient?identifier=1", entry("PATCH", "Patient?identifier=1", patchBinary("application/json-patch+json", `[]`), ""))
	f("one condition twice", 400, "Bundle.entry[1] has the same criteria", entry("PUT", "Patient?identifier=1&active=true", patient("", ""), ""), entry("POST", "Patient", patient("", ""), `,"ifNoneExist":"active=true&identifier=1"`))
	f("criteria without a value", 400, "no value for 'identifier'", entry("DELETE", "Patient?identifier=", "", ""))
	f("no criteria", 400, "no criteria", entry("DELETE", "Patient", "", ""))
	f("a search", 400, "'odd'", entry("GET", "Patient?odd=x", "", ""))
	f("a job", 400, "cannot be used in a Bundle", entry("GET", "$export", "", ""))
	f("a Bundle", 400, "inside a Bundle", entry("POST", "/", `{"resourceType":"Bundle","type":"batch"}`, ""))
	f("elsewhere", 400, "neither relative nor below", entry("GET", "http://other/fhir/Patient/a", "", ""))
	f("method", 400, "not allowed", entry("POST", "Patient/a", patient("a", ""), ""))
	f("no method", 400, "none of GET", entry("BREW", "Patient/a", "", ""))
	f("no resource", 400, "no body", entry("PUT", "Patient/a", "", ""))
	f("a link to nothing", 400, "'urn:uuid:9' is no entry's fullUrl", entry("POST", "Observation", `{"resourceType":"Observation","subject":{"reference":"urn:uuid:9"}}`, ""))
	f("type", 404, "'Dog'", entry("POST", "Dog", `{"resourceType":"Dog"}`, ""))
	f("relative fullUrl", 400, "not absolute", named("Patient/1", entry("POST", "Patient", patient("", ""), "")))
	f("fullUrl twice", 400, "another entry's", named("urn:uuid:1", entry("POST", "Patient", patient("", ""), "")), named("urn:uuid:1", entry("POST", "Patient", patient("", ""), "")))
	f("no request", 400, "Bundle.entry[1] (): It has no request.", `{}`)
	f("no object", 400, "not an object", `1`)
	f("member twice", 400, "'request' twice", `{"request":{"method":"GET","url":"Patient/a"},"request":{}}`)
	if got := s.opts.Store.Stats().VisibleLSN; got != lsn {
		t.Errorf("something was written: LSN %d, was %d", got, lsn)
	}
	for body, text := range map[string]string{`{}`: "a Bundle is expected", `{"resourceType":"Bundle"}`: "type ''", `{"resourceType":"Bundle","type":"searchset"}`: "'searchset'", `{"resourceType":"Bundle","type":"batch","entry":{}}`: "not a list", `[]`: "not a resource"} {
		a := s.do(t, "POST", "/fhir", body, typeHeader)
		if _, got := a.outcome(t); a.status != 400 || !strings.Contains(got, text) {
			t.Errorf("%s: got %d %q", body, a.status, got)
		}
	}
}

func TestTransactionResolvesItsLinks(t *testing.T) {
	s := newAPI(t, nil)
	_, b := s.bundle(t, "transaction", nil,
		named("urn:uuid:p", entry("POST", "Patient", patient("mine", `,"multipleBirthInteger":1`), "")),
		named("http://other/fhir/Practitioner/1", entry("POST", "Practitioner", `{"resourceType":"Practitioner"}`, "")),
		named("http://other/fhir/Observation/2", entry("PUT", "Observation/o", `{"resourceType":"Observation","id":"o","meta":{"profile":["urn:uuid:p"],"source":"urn:uuid:p"},
			"text":{"status":"generated","div":"<div><a href=\"urn:uuid:p\">urn:uuid:p</a><img src='urn:uuid:p'/></div>"},
			"contained":[{"resourceType":"Device","id":"d","patient":{"reference":"urn\u003auuid:p"}}],
			"extension":[{"url":"urn:x","valueUri":"urn:uuid:p"},{"url":"urn:y","valueCanonical":"urn:uuid:p"},{"url":"urn:z","valueString":"urn:uuid:p"}],
			"subject":{"reference":"urn:uuid:p","display":"\u00e9 1.00","identifier":{"system":"urn:uuid:p"}},"performer":[{"reference":"Practitioner/1"},{"reference":"http://other/fhir/Practitioner/1/_history/7"},{"reference":"Practitioner/2"}],
			"focus":[{"reference":"#d"},{"_reference":{"extension":[{"url":"urn:x","valueUrl":"urn:uuid:p"}]}}],"valueQuantity":{"value":1.00},"status":"final","code":{"text":"x"}}`, "")),
		named("urn:uuid:q", entry("POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"x"},"performer":[{"reference":"Practitioner/1"}],"derivedFrom":[{"reference":"http://other/fhir/Observation/2"},{"reference":"http://other/fhir/Observation/2/_history/3"}]}`, "")),
	)
	p := resourceID(t, b.Entry[0].Resource)
	doctor := resourceID(t, b.Entry[1].Resource)
	if p == "mine" {
		t.Error("the client's id was used for a create")
	}
	got := s.do(t, "GET", "/fhir/Observation/o", "").body
	_, got, _ = strings.Cut(got, `Z",`)
	want := `"profile":["urn:uuid:p"],"source":"Patient/P"},` +
		`"text":{"status":"generated","div":"<div><a href=\"Patient/P\">urn:uuid:p</a><img src='Patient/P'/></div>"},` +
		`"contained":[{"resourceType":"Device","id":"d","patient":{"reference":"Patient/P"}}],` +
		`"extension":[{"url":"urn:x","valueUri":"Patient/P"},{"url":"urn:y","valueCanonical":"urn:uuid:p"},{"url":"urn:z","valueString":"urn:uuid:p"}],` +
		`"subject":{"reference":"Patient/P","display":"\u00e9 1.00","identifier":{"system":"Patient/P"}},"performer":[{"reference":"Practitioner/D"},{"reference":"Practitioner/D/_history/1"},{"reference":"Practitioner/2"}],` +
		`"focus":[{"reference":"#d"},{"_reference":{"extension":[{"url":"urn:x","valueUrl":"Patient/P"}]}}],"valueQuantity":{"value":1.00},"status":"final","code":{"text":"x"}}`
	want = strings.NewReplacer("Patient/P", "Patient/"+p, "Practitioner/D", "Practitioner/"+doctor).Replace(want)
	if got != want {
		t.Errorf("stored %s\n  want %s", got, want)
	}
	last := string(b.Entry[3].Resource)
	if !strings.Contains(last, `"performer":[{"reference":"Practitioner/1"}],"derivedFrom":[{"reference":"Observation/o"},{"reference":"Observation/o/_history/3"}]`) {
		t.Errorf("a relative reference from an entry without an address: %s", last)
	}
}

func resourceID(t *testing.T, resource []byte) string {
	t.Helper()
	var r struct{ ID string }
	if err := json.Unmarshal(resource, &r); err != nil {
		t.Fatal(err)
	}
	return r.ID
}

func TestConditionsOfATransactionAreSearched(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "known", `,"identifier":[{"value":"one"}]`)
	s.put(t, "twin1", `,"identifier":[{"value":"many"}]`)
	s.put(t, "twin2", `,"identifier":[{"value":"many"}]`)
	_, b := s.bundle(t, "transaction", nil,
		named("urn:uuid:1", entry("POST", "Patient", patient("", ""), `,"ifNoneExist":"identifier=one"`)),
		named("urn:uuid:2", entry("POST", "Patient", patient("", ""), `,"ifNoneExist":"identifier=none"`)),
		entry("PUT", "Observation/o", `{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"subject":{"reference":"urn:uuid:1"},"performer":[{"reference":"Patient?identifier=one"}]}`, ""))
	if e := b.Entry[0]; e.Response.Status != "200 OK" || e.Response.Etag != `W/"1"` || !strings.HasSuffix(e.Response.Location, "/Patient/known/_history/1") {
		t.Errorf("found: %+v", e)
	}
	if e := b.Entry[1]; e.Response.Status != "201 Created" {
		t.Errorf("not found: %+v", e)
	}
	if got := string(b.Entry[2].Resource); !strings.Contains(got, `"subject":{"reference":"Patient/known"},"performer":[{"reference":"Patient/known"}]`) {
		t.Errorf("references: %s", got)
	}
	const text = "Conditional operation on Patient was not attempted because search criteria was not selective enough."
	a, _ := s.bundle(t, "transaction", nil, entry("POST", "Patient", patient("", ""), `,"ifNoneExist":"identifier=many"`))
	if _, got := a.outcome(t); a.status != 412 || !strings.HasSuffix(got, text) {
		t.Errorf("many: %d %q", a.status, got)
	}
	single := func(query string) *answer {
		return s.do(t, "POST", "/fhir/Patient", patient("", ""), typeHeader, "If-None-Exist: "+query)
	}
	one := single("identifier=one").expect(t, "one", 200, `W/"1"`)
	if one.header.Get("Location") == "" || one.header.Get("Last-Modified") == "" || !strings.Contains(one.body, `"known"`) {
		t.Errorf("one: %v %s", one.header, one.body)
	}
	single("identifier=none").expect(t, "none", 201, `W/"1"`)
	single("&").expect(t, "empty", 400, "")
	if _, got := single("identifier=many").expect(t, "many", 412, "").outcome(t); got != text {
		t.Errorf("many: %q", got)
	}
}

func TestBatchEntriesStandAlone(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", "")
	_, b := s.bundle(t, "batch", nil,
		entry("PUT", "Patient/b", patient("b", ""), ""),
		entry("PUT", "Patient/c", patient("x", ""), ""),
		entry("GET", "Patient/nothing", "", ""),
		entry("GET", "http://"+s.addr+"/fhir/Patient/a", "", ""),
		entry("DELETE", "Patient/a", "", `,"ifMatch":"W/\"9\""`),
		entry("POST", "Patient", patient("", ""), ""),
		entry("PATCH", "Patient/b", `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"add"},{"name":"path","valueString":"Patient"},{"name":"name","valueString":"active"},{"name":"value","valueBoolean":true}]}]}`, ""),
		entry("GET", "metadata", "", ""),
		entry("GET", "Patient/a/../b", "", ""))
	want := []string{"201 Created", "400 Bad Request", "404 Not Found", "200 OK", "412 Precondition Failed", "201 Created", "200 OK", "200 OK", "400 Bad Request"}
	for i, e := range b.Entry {
		failed := e.Response.Status[0] == '4'
		if e.Response.Status != want[i] || failed != (len(e.Response.Outcome.Issue) > 0) || failed == (len(e.Resource) > 0) {
			t.Errorf("entry %d: %+v %.200s", i, e.Response, e.Resource)
		}
	}
	if got := b.Entry[4].Response.Outcome.Issue[0].Diagnostics; got != "Bundle.entry[4] (DELETE Patient/a): The supplied version '9' did not match." {
		t.Errorf("entry 4 says %q", got)
	}
	s.do(t, "GET", "/fhir/Patient/b", "").expect(t, "patched", 200, `W/"2"`)
}

func TestBundlesFollowPrefer(t *testing.T) {
	s := newAPI(t, nil)
	for _, kind := range []string{"batch", "transaction"} {
		_, b := s.bundle(t, kind, []string{"Prefer: return=minimal"}, entry("POST", "Patient", patient("", ""), ""))
		if e := b.Entry[0]; len(e.Resource) > 0 || e.Response.Location == "" {
			t.Errorf("%s, minimal: %+v", kind, e)
		}
		_, b = s.bundle(t, kind, []string{"Prefer: return=OperationOutcome"}, entry("POST", "Patient", patient("", ""), ""))
		if e := b.Entry[0]; len(e.Resource) > 0 || len(e.Response.Outcome.Issue) != 1 || e.Response.Etag == "" {
			t.Errorf("%s, OperationOutcome: %+v", kind, e)
		}
	}
	a, b := s.bundle(t, "transaction", nil)
	if a.status != 200 || len(b.Entry) != 0 {
		t.Errorf("an empty transaction: %d %s", a.status, a.body)
	}
}

func TestLargeTransactionIsOneCommit(t *testing.T) {
	s := newAPI(t, nil)
	const count = 5000
	var entries []string
	for i := range count {
		entries = append(entries, named(fmt.Sprintf("urn:uuid:%d", i), entry("POST", "Observation", fmt.Sprintf(`{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueInteger":%d,"derivedFrom":[{"reference":"urn:uuid:%d"}]}`, i, (i+1)%count), "")))
	}
	lsn := s.opts.Store.Stats().VisibleLSN
	_, b := s.bundle(t, "transaction", nil, entries...)
	if got := s.opts.Store.Stats().VisibleLSN; got != lsn+1 {
		t.Errorf("%d records were written", got-lsn)
	}
	for i, e := range b.Entry {
		next := resourceID(t, b.Entry[(i+1)%count].Resource)
		if e.Response.Status != "201 Created" || !strings.Contains(string(e.Resource), `"derivedFrom":[{"reference":"Observation/`+next+`"}]`) {
			t.Fatalf("entry %d: %+v %s", i, e.Response, e.Resource)
		}
	}
}

func TestTooManyEntriesAreRefused(t *testing.T) {
	s := newAPI(t, nil)
	body := `{"resourceType":"Bundle","type":"batch","entry":[` + strings.Repeat(entry("DELETE", "Patient/a", "", "")+",", bundleEntriesMax) + entry("DELETE", "Patient/a", "", "") + `]}`
	a := s.do(t, "POST", "/fhir", body, typeHeader)
	if code, text := a.outcome(t); a.status != 413 || code != "too-long" || !strings.Contains(text, "split it") {
		t.Errorf("got %d %s %q", a.status, code, text)
	}
}

func TestTransactionPatchesAgainWhenOthersWere(t *testing.T) {
	s := newAPI(t, nil)
	s.put(t, "a", `,"name":[{"text":"start"}]`)
	const writers, each = 4, 4
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				add := fmt.Sprintf(`[{"op":"add","path":"/name/-","value":{"text":"%d.%d"}}]`, w, i)
				s.bundle(t, "transaction", nil, entry("PATCH", "Patient/a", patchBinary(contentTypeJSONPatch, add), ""))
			}
		})
	}
	wg.Wait()
	a := s.do(t, "GET", "/fhir/Patient/a", "").expect(t, "read", 200, fmt.Sprintf(`W/"%d"`, 1+writers*each))
	if n := strings.Count(a.body, `"text"`); n != 1+writers*each {
		t.Errorf("%d of %d names are there", n, 1+writers*each)
	}
}

func TestTransactionLargerThanARecordIsRefused(t *testing.T) {
	s := newAPI(t, func(_ *engine.Options, _ *bulk.Options, o *Options) { o.BodyBytesMax = 64 << 20 })
	var entries []string
	for i := range 5 {
		entries = append(entries, entry("POST", "Patient", patient("", fmt.Sprintf(`,"text":{"status":"generated","div":"<div>%d%s</div>"}`, i, strings.Repeat("x", 10<<20))), ""))
	}
	a, _ := s.bundle(t, "transaction", nil, entries...)
	if code, text := a.outcome(t); a.status != 413 || code != "too-long" || !strings.Contains(text, "split it") {
		t.Errorf("got %d %s %q", a.status, code, text)
	}
}
