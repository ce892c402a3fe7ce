package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
	"kiln/engine"
	"kiln/fhir"
	"kiln/httpapi/access"
	"kiln/internal/vfs"
)

// What is not a client's is not there for it: two servers have what a client reaches, and
// one of them has more. Whatever the client asks, both give the same answer, to the byte,
// and what it does not reach stays as it is. No answer has to be known for that.

// twin is one of the servers. Its time and its ids are set before each request.
type twin struct {
	*Server
	milli atomic.Int64
	ids   atomic.Int64
}

func newTwin(t testing.TB, known testAuth) *twin {
	t.Helper()
	s := &twin{}
	s.milli.Store(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMilli())
	now := func() time.Time { return time.UnixMilli(s.milli.Load()).UTC() }
	store, err := engine.Open(context.Background(), engine.Options{FS: vfs.NewMem(1), Dir: "data", Now: now, NewID: rand.Uint64, CatalogInMem: true, FreeBytesMin: -1})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	jobs, err := bulk.NewManager(context.Background(), bulk.Options{Store: store, Now: now, NewID: rand.Uint64, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := jobs.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	s.Server, err = New(Options{
		Store: store, Jobs: jobs, Now: now, NewID: func() string { return fmt.Sprintf("new-%d", s.ids.Add(1)) },
		Logger: quiet, Auth: known, AuditsApart: true, PagingKey: testKey(), BaseURL: "https://kiln.example/fhir",
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asked is a request of the twins.
type asked struct{ method, path, query, header, value, body string }

// ask serves a request of a client; "": of nobody who is known. The answer is all that
// the client gets to see of it.
func (s *twin) ask(client string, a *asked) (status int, answer string) {
	var ctx fasthttp.RequestCtx
	ctx.Init(&fasthttp.Request{}, nil, nil)
	header := &ctx.Request.Header
	header.SetMethod(a.method)
	header.SetHost("kiln.example")
	ctx.Request.SetRequestURI(a.path + "?" + a.query)
	header.SetContentType(contentTypeFHIR)
	if a.header != "" {
		header.Set(a.header, a.value)
	}
	if header.Del("Authorization"); client != "" {
		header.Set("Authorization", "Bearer "+client)
	}
	ctx.Request.SetBodyString(a.body)
	s.handle(&ctx)
	var lines []string
	for name, value := range ctx.Response.Header.All() {
		if string(name) != "Date" {
			lines = append(lines, fmt.Sprintf("%s: %s\n", name, value))
		}
	}
	slices.Sort(lines)
	body, err := ctx.Response.BodyUncompressed()
	if err != nil {
		body = ctx.Response.Body()
	}
	return ctx.Response.StatusCode(), strings.Join(lines, "") + "\n" + string(body)
}

// twins are a server alone with what a client reaches, and one with more.
type twins struct {
	client        string
	alone, beside *twin
	more          []string // Type/id of what is not the client's
}

// others says of each client what of the fixture is not its own.
var others = []struct {
	client string
	own    func(typ, id, line string) bool
}{
	{"", func(_, _, _ string) bool { return false }},
	{"nobody", func(_, _, _ string) bool { return false }},
	{"pat-none", func(_, _, _ string) bool { return false }},
	{"no-scope", func(_, _, _ string) bool { return false }},
	{"pat-all", isOwns},
	{"pat-rs", isOwns},
	{"pat-obs", func(typ, id, line string) bool { return isOwns(typ, id, line) && isLab(typ, id, line) }},
	{"sys-filter", isLab},
	{"user-filter", isLab},
	{"sys-obs", func(typ, _, _ string) bool { return typ == "Observation" }},
	{"reader", isNoAudit},
	{"contributor", isNoAudit},
	{"user-reader", isNoAudit},
}

func isOwns(typ, id, line string) bool {
	return typ != "AuditEvent" && (typ == "Patient" && id == "own" || strings.Contains(line, `{"reference":"Patient/own"}`))
}

func isLab(typ, _, line string) bool {
	return typ == "Observation" && strings.Contains(line, `"code":"lab"`)
}

func isNoAudit(typ, _, _ string) bool { return typ != "AuditEvent" }

// othersFixture is beside fixtureBase what questions could lead to.
const othersFixture = `{"resourceType":"ValueSet","id":"v","url":"http://v.example/v","status":"active","compose":{"include":[{"system":"http://s.example","concept":[{"code":"lab"}]}]}}
{"resourceType":"CodeSystem","id":"c","url":"http://s.example","status":"active","content":"complete","concept":[{"code":"all","concept":[{"code":"lab"}]}]}
{"resourceType":"Observation","id":"coded","status":"final","code":{"coding":[{"system":"http://s.example","code":"lab"}]},"subject":{"reference":"Patient/own"}}
{"resourceType":"Encounter","id":"e","status":"finished","class":{"code":"AMB"},"identifier":[{"system":"http://i.example","value":"1"}],"subject":{"reference":"Patient/other"}}
{"resourceType":"Observation","id":"within","status":"final","code":{"coding":[{"code":"vital"}]},"subject":{"reference":"Patient/other"},"contained":[{"resourceType":"Patient","id":"c","name":[{"family":"Inner"}]}],"identifier":[{"system":"http://i.example","value":"2"}]}
{"resourceType":"AuditEvent","id":"a","type":{"code":"rest"},"recorded":"2026-01-01T00:00:00Z","agent":[{"requestor":true}],"source":{"observer":{"display":"kiln"}},"entity":[{"what":{"reference":"Patient/own"}}]}
`

func newTwins(t testing.TB, which int) *twins {
	t.Helper()
	known := clients(t)
	filtered := *known["sys-filter"]
	filtered.Subject, filtered.Roles = "user-filter", known["contributor"].Roles
	filtered.Scopes = slices.Clone(filtered.Scopes)
	for i := range filtered.Scopes {
		filtered.Scopes[i].Context = access.ContextUser
	}
	known["user-filter"] = &filtered
	pair := &twins{client: others[which].client, alone: newTwin(t, known), beside: newTwin(t, known)}
	write := func(line string, to ...*twin) {
		r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(line), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range to {
			change := engine.Change{Type: r.Type, ID: r.ID, IDAt: r.IDAt, Body: r.Body, Splice: r.Splice}
			if _, err := s.opts.Store.Commit(context.Background(), []engine.Change{change}); err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(string(r.ID), "gone") {
				if _, err := s.opts.Store.Commit(context.Background(), []engine.Change{{Type: r.Type, ID: r.ID, Delete: true}}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	var mine []string
	for line := range strings.Lines(fixtureBase + othersFixture) {
		r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan([]byte(line), nil)
		if err != nil {
			t.Fatal(err)
		}
		if others[which].own(string(r.TypeName), string(r.ID), line) {
			mine = append(mine, line)
			continue
		}
		pair.more = append(pair.more, string(r.TypeName)+"/"+string(r.ID))
		write(line, pair.beside)
	}
	for _, line := range mine {
		pair.step(time.Minute)
		write(line, pair.alone, pair.beside)
	}
	return pair
}

// step sets the time and the next id of both.
func (p *twins) step(by time.Duration) {
	at := p.alone.milli.Load() + by.Milliseconds()
	ids := max(p.alone.ids.Load(), p.beside.ids.Load())
	for _, s := range []*twin{p.alone, p.beside} {
		s.milli.Store(at)
		s.ids.Store(ids)
	}
}

// places of paging tokens are the store's, so they differ. They are sealed.
var pagingTokens = regexp.MustCompile(`ct=[A-Za-z0-9_-]+`)

// isApart leaves out what tells of the whole server by its nature.
func (p *twins) isApart(a *asked) bool {
	var u fasthttp.URI
	if u.Parse([]byte("kiln.example"), []byte(a.path)) != nil {
		return true
	}
	switch parseAddress(u.Path()).place {
	case placeHealth, placeReady, placeMetrics:
		return true
	case placeImport, placeExport, placeTypeExport, placeGroupExport, placeBulkPublish, placeBackup, placeExportJob, placeExportFile: // jobs go on by themselves
		who := p.alone.opts.Auth.(testAuth)[p.client]
		return who != nil && (who.Has(access.Export, 0) || who.Has(access.Import, 0))
	}
	return false
}

// check asks both, and tells what differs.
func (p *twins) check(t testing.TB, a *asked) {
	t.Helper()
	if p.isApart(a) {
		return
	}
	p.step(time.Second)
	_, want := p.alone.ask(p.client, a)
	status, got := p.beside.ask(p.client, a)
	if want, got = pagingTokens.ReplaceAllString(want, "ct="), pagingTokens.ReplaceAllString(got, "ct="); got != want {
		t.Errorf("%q, %+v: with what others have\n%s\n--- without it\n%s", p.client, *a, got, want)
	}
	if p.client == "" && status == fasthttp.StatusOK && !p.isForAll(a) {
		t.Errorf("nobody, %+v: %s", *a, got)
	}
	p.isAsItWas(t, a)
}

// isForAll: the address answers everybody.
func (p *twins) isForAll(a *asked) bool {
	var u fasthttp.URI
	_ = u.Parse([]byte("kiln.example"), []byte(a.path))
	switch parseAddress(u.Path()).place {
	case placeMetadata, placeSMART:
		return true
	}
	return a.method == fasthttp.MethodOptions
}

// isAsItWas looks whether the client has changed what is not its own.
func (p *twins) isAsItWas(t testing.TB, a *asked) {
	t.Helper()
	snap, err := p.beside.opts.Store.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Release()
	for _, name := range p.more {
		typ, id, _ := strings.Cut(name, "/")
		want := int64(1)
		if strings.HasSuffix(id, "gone") {
			want = 2
		}
		if v, err := snap.Get(fhir.TypeByName([]byte(typ)), []byte(id)); err != nil || v.VersionID != want {
			t.Errorf("%q, %+v: %s is now version %d, error %v", p.client, *a, name, v.VersionID, err)
		}
	}
}

// othersQuestions are what an attacker would ask: method, address, and behind blanks a
// header and a body.
const othersQuestions = `
GET Observation/other
HEAD Observation/other
GET Observation/other If-None-Match:W/"1"
GET Observation/other If-None-Match:*
GET Observation/other If-Modified-Since:Sun,_06_Nov_2050_08:49:37_GMT
GET Observation/other?_summary=true
GET Observation/other?_elements=status
GET Observation/other-gone
GET Observation/other/_history
GET Observation/other/_history?_summary=count
GET Observation/other/_history/1
GET Observation/other-gone/_history/2
GET Observation/other/$validate
GET Observation/other/$validate?mode=delete
GET Patient/other/$everything
GET Patient/other/$everything?_summary=count
GET Patient/own/$everything
GET Patient/own/$everything?_count=1
GET Patient/own/$everything?_type=Observation,Encounter,List,AuditEvent
GET Patient/own/$everything?_since=2020-01-01
POST Patient/other/$everything
GET Patient/other/Observation
GET Patient/own/*
GET Patient/own/AuditEvent
GET Encounter/e/Observation
GET _history
GET _history?_count=1
GET _history?_sort=_lastUpdated
GET _history?_list=other
GET Observation/_history
GET Observation/_history?_summary=count
GET Observation/_history?_count=0
GET AuditEvent/_history
GET AuditEvent
GET AuditEvent/a
GET ?_type=AuditEvent,Observation
GET ?_summary=count
GET ?_id=other,own,a
GET ?_lastUpdated=gt2020
GET ?_type=Patient,Practitioner
GET Observation
GET Observation?_summary=count
GET Observation?_total=accurate&_count=1
GET Observation?_total=estimate&_count=1
GET Observation?_count=0
GET Observation?_sort=-_lastUpdated
GET Observation?_sort=code,-_id
GET Observation?_sort=subject
GET Observation?_id=other
GET Observation?_id:not=own
GET Observation?code:not=vital
GET Observation?code:missing=false
GET Observation?code=vital
GET Observation?status=final
GET Observation?code:in=ValueSet/v
GET Observation?code:in=http://v.example/v
GET Observation?code:in=ValueSet/none
GET Observation?code:not-in=ValueSet/v
GET Observation?code:below=http://s.example|all
GET Observation?code:above=http://s.example|lab
GET Observation?subject=Patient/other
GET Observation?subject:identifier=a|b
GET Observation?subject.name=Otherly
GET Observation?subject:Patient.family=Otherly
GET Observation?subject._id=other
GET Observation?performer:Practitioner.family=Healer
GET Observation?encounter.identifier=1
GET Observation?_has:Observation:has-member:code=lab
GET Observation?_has:Observation:has-member:subject.family=Otherly
GET Observation?_has:List:item:_id=other
GET Patient?_has:Observation:patient:code=vital
GET Patient?_has:Encounter:patient:identifier=http://i.example|1
GET Patient?_has:AuditEvent:entity:_id=a
GET Patient?_has:Group:member:_id=g
GET Patient?general-practitioner.family=Healer
GET Patient?_contained=true
GET Patient?_contained=both&_containedType=contained&family=Inner
GET Observation?_list=other
GET Observation?_list=none
GET Observation?_filter=subject.family+eq+"Otherly"
GET Observation?_filter=not(subject.family+eq+"Otherly")
GET Observation?_filter=_id+eq+other
GET Observation?_filter=_has:Observation:has-member:code+eq+lab
GET Observation?_include=*
GET Observation?_include=Observation:performer&_include=Observation:subject
GET Observation?_include:iterate=*&_revinclude:iterate=*
GET Observation?_revinclude=*
GET Observation?_revinclude=AuditEvent:entity&_revinclude=List:item
GET Patient?_revinclude=AuditEvent:entity&_revinclude=Observation:subject&_include:iterate=Observation:performer
GET Patient?_id=own&_revinclude=Group:member&_include:iterate=Group:member
GET Observation?_explain=true
GET Observation?_count=1&_include=*
GET Observation?unknown=1 Prefer:handling=lenient
GET Encounter?identifier=1
GET Practitioner
GET SearchParameter/$status?code=name
POST Observation/_search Content-Type:application/x-www-form-urlencoded _id=other
POST _search Content-Type:application/x-www-form-urlencoded _id=other&_type=Observation
POST Observation/$validate - {"resourceType":"Observation","id":"other","status":"final","code":{"text":"x"}}
POST Observation/other/$validate?mode=update - {"resourceType":"Observation","id":"other","status":"final","code":{"text":"x"}}
GET metadata
GET $nothing
GET Observation/other/$nothing
GET _operations/export/1
GET _operations/import/1
GET _operations/export/1/x.ndjson
GET Observation/other/_history/1?_format=xml
PUT Observation/other - {"resourceType":"Observation","id":"other","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
PUT Observation/other If-Match:W/"1" {"resourceType":"Observation","id":"other","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
PUT Observation/other If-Match:* {"resourceType":"Observation","id":"other","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
PUT Observation/other If-None-Match:* {"resourceType":"Observation","id":"other","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
PUT Observation/within - {"resourceType":"Observation","id":"within","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
PUT Observation/other-gone - {"resourceType":"Observation","id":"other-gone","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
PUT Encounter/e - {"resourceType":"Encounter","id":"e","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/own"}}
PUT AuditEvent/a - {"resourceType":"AuditEvent","id":"a","type":{"code":"rest"},"recorded":"2026-01-01T00:00:00Z","agent":[{"requestor":true}],"source":{"observer":{"display":"kiln"}}}
POST AuditEvent - {"resourceType":"AuditEvent","type":{"code":"rest"},"recorded":"2026-01-01T00:00:00Z","agent":[{"requestor":true}],"source":{"observer":{"display":"kiln"}}}
POST Observation If-None-Exist:_id=other {"resourceType":"Observation","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
POST Observation If-None-Exist:identifier=http://i.example|2 {"resourceType":"Observation","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
POST Encounter If-None-Exist:identifier=http://i.example|1 {"resourceType":"Encounter","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/own"}}
POST Observation If-None-Exist:subject.family=Otherly {"resourceType":"Observation","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
PUT Observation?_id=other - {"resourceType":"Observation","id":"other","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
PUT Observation?identifier=http://i.example|2 - {"resourceType":"Observation","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
PUT Observation?identifier=http://i.example|2 - {"resourceType":"Observation","id":"within","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}}
PATCH Observation/other Content-Type:application/json-patch+json [{"op":"test","path":"/status","value":"final"}]
PATCH Observation/other Content-Type:application/merge-patch+json {"status":"amended"}
PATCH Observation?_id=other Content-Type:application/merge-patch+json {"status":"amended"}
PATCH Observation?code=vital Content-Type:application/merge-patch+json {"status":"amended"}
DELETE Observation/other
DELETE Observation/other If-Match:W/"1"
DELETE Observation/other-gone
DELETE Observation/other?_hardDelete=true
DELETE Observation/other/$purge-history
DELETE Observation?_id=other
DELETE Observation?code=vital&_count=100
DELETE Encounter?identifier=http://i.example|1
DELETE Patient/other Prefer:return=OperationOutcome
POST - {"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Observation/other"}},{"request":{"method":"GET","url":"Observation/other-gone"}},{"request":{"method":"DELETE","url":"Observation/other"}},{"request":{"method":"GET","url":"Observation?_summary=count"}},{"request":{"method":"HEAD","url":"Observation/other","ifNoneMatch":"W/\"1\""}},{"request":{"method":"GET","url":"$bulk-publish"}}]}
POST - {"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"GET","url":"Observation/other"}}]}
POST - {"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Observation/other"}}]}
POST - {"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Observation?code=vital"}}]}
POST - {"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Observation","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"},"encounter":{"reference":"Encounter?identifier=http://i.example|1"}},"request":{"method":"POST","url":"Observation"}}]}
POST - {"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Observation","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"},"performer":[{"reference":"Practitioner?family=Healer"}]},"request":{"method":"POST","url":"Observation"}}]}
POST - {"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:00000000-0000-4000-8000-000000000001","resource":{"resourceType":"Encounter","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/own"}},"request":{"method":"POST","url":"Encounter","ifNoneExist":"identifier=http://i.example|1"}},{"resource":{"resourceType":"Observation","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"},"encounter":{"reference":"urn:uuid:00000000-0000-4000-8000-000000000001"}},"request":{"method":"POST","url":"Observation"}}]}
POST - {"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Observation","id":"other","status":"final","code":{"coding":[{"code":"lab"}]},"subject":{"reference":"Patient/own"}},"request":{"method":"PUT","url":"Observation/other","ifMatch":"W/\"1\""}}]}
GET Observation?code=lab
DELETE Observation?code=lab&_count=100
GET _history
`

// othersQuestion reads a line of othersQuestions. In headers "_" stands for a blank.
func othersQuestion(line string) *asked {
	method, rest, _ := strings.Cut(line, " ")
	address, rest, _ := strings.Cut(rest, " ")
	header, body, _ := strings.Cut(rest, " ")
	if address == "-" { // the base, which has no header
		address, header, body = "", "-", rest
	}
	path, query, _ := strings.Cut(address, "?")
	name, value, _ := strings.Cut(header, ":")
	if name == "-" {
		name = ""
	}
	return &asked{method, strings.TrimSuffix("/fhir/"+path, "/"), query, name, strings.ReplaceAll(value, "_", " "), body}
}

func TestWhatOthersHaveMakesNoDifference(t *testing.T) {
	for which := range others {
		t.Run("client="+others[which].client, func(t *testing.T) {
			pair := newTwins(t, which)
			for line := range strings.Lines(strings.TrimSpace(othersQuestions)) {
				pair.check(t, othersQuestion(strings.TrimSpace(line)))
			}
		})
	}
}

// FuzzWhatOthersHave sends any request of any limited client, and of nobody who is known.
func FuzzWhatOthersHave(f *testing.F) {
	for i, line := range strings.Split(strings.TrimSpace(othersQuestions), "\n") {
		a := othersQuestion(line)
		f.Add(uint8(i%len(others)), a.method, a.path, a.query, a.header, a.value, a.body)
	}
	var pairs []*twins
	for which := range others {
		pairs = append(pairs, newTwins(f, which))
	}
	f.Fuzz(func(t *testing.T, which uint8, method, path, query, header, value, body string) {
		pairs[int(which)%len(pairs)].check(t, &asked{method, path, query, header, value, body})
	})
}
