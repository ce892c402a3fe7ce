package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/structure"
	"kiln/httpapi/access"
	"kiln/httpapi/audit"
	"kiln/internal/vfs"
)

// keeping is a server that knows its clients and keeps its audit events, too.
type keeping struct {
	*testServer
	files *vfs.Mem
	log   *audit.Log
	lives int
}

func newKeeping(t *testing.T, known testAuth) *keeping {
	t.Helper()
	k := &keeping{files: vfs.NewMem(1)}
	k.testServer = newAPI(t, func(o *engine.Options, _ *bulk.Options, h *Options) {
		o.FS, o.Dir, o.CatalogInMem = vfs.NewMem(1), "data", true
		h.Auth, h.ValidateWrites, h.AuditsApart = known, false, true
	})
	k.begin(t)
	return k
}

// begin records from now on.
func (k *keeping) begin(t *testing.T) {
	t.Helper()
	k.lives++
	var err error
	k.log, err = audit.Open(audit.Options{
		FS: k.files, Dir: "audit", Now: time.Now, Instance: fmt.Sprintf("life%d", k.lives), Site: "here", Logger: slog.New(slog.DiscardHandler), Keeper: NewAuditKeeper(k.opts.Store),
	})
	if err != nil {
		t.Fatal(err)
	}
	k.opts.Audit = k.log
}

// settle ends the log, so that all events are in the store, and begins the next.
func (k *keeping) settle(t *testing.T) {
	t.Helper()
	if err := k.log.Close(); err != nil {
		t.Fatal(err)
	}
	if st := k.log.Stats().Kept; st.Failures > 0 || st.Refused > 0 || k.log.Behind() > 0 {
		t.Fatalf("%+v, %d bytes behind", st, k.log.Behind())
	}
	k.begin(t)
}

// events are what a search of the Admin finds, oldest first: interaction and id.
func (k *keeping) events(t *testing.T, query string) string {
	t.Helper()
	got := k.as(t, "admin", "GET", "/fhir/AuditEvent?_count=100&_sort=date&"+query, "")
	var bundle struct {
		Entry []struct{ Resource json.RawMessage }
	}
	if err := json.Unmarshal([]byte(got.body), &bundle); err != nil || got.status != 200 {
		t.Fatalf("%s: %d %s", query, got.status, got.body)
	}
	var all []string
	for _, entry := range bundle.Entry {
		if issues := structure.NewChecker().Check(entry.Resource); len(issues) > 0 {
			t.Errorf("%s: %+v", entry.Resource, issues)
		}
		var e struct{ Subtype []struct{ Code string } }
		if err := json.Unmarshal(entry.Resource, &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Subtype[0].Code)
	}
	return strings.Join(all, " ")
}

// TestEventsAreFoundByWhoWhenAndWhat asks by the search parameters that R4 has.
func TestEventsAreFoundByWhoWhenAndWhat(t *testing.T) {
	known := clients(t)
	known["nurse"] = &access.Principal{Issuer: "https://issuer.example", Subject: "sub-1", Client: "ward", Name: "Nurse Joy", Roles: access.RoleContributor}
	k := newKeeping(t, known)
	before := time.Now().Add(-time.Second)
	k.as(t, "nurse", "PUT", "/fhir/Patient/p", `{"resourceType":"Patient","id":"p"}`)
	k.as(t, "nurse", "GET", "/fhir/Patient/p", "")
	k.as(t, "nurse", "GET", "/fhir/Observation?patient=p&_count=1", "")
	k.as(t, "nurse", "DELETE", "/fhir/Patient/p", "")
	k.as(t, "reader", "PUT", "/fhir/Basic/b", `{"resourceType":"Basic","id":"b"}`)
	k.as(t, "", "GET", "/fhir/Basic/b", "")
	k.as(t, "reader", "GET", "/fhir/Basic/none", "")
	after := time.Now().Add(time.Second)
	k.settle(t)
	f := func(query, want string) {
		t.Helper()
		if got := k.events(t, query+"&date=lt"+after.UTC().Format("2006-01-02T15:04:05.000Z")); got != want {
			t.Errorf("%s finds %q, want %q", query, got, want)
		}
	}
	f("date=ge"+before.UTC().Format("2006-01-02T15:04:05.000Z"), "update read search-type delete update read read")
	f("date=lt"+before.UTC().Format("2006-01-02T15:04:05.000Z"), "")
	f("agent:identifier=https://issuer.example|sub-1", "update read search-type delete")
	f("agent-name=nurse", "update read search-type delete")
	f("altid=ward", "update read search-type delete")
	f("altid=reader", "update read")
	f("address=127.0.0.1", "update read search-type delete update read read")
	f("patient=p", "update read search-type delete")
	f("entity=Patient/p", "update read search-type delete")
	f("entity=Basic/b", "update read")
	f("entity-role=24", "search-type")
	f("entity-type=http://terminology.hl7.org/CodeSystem/audit-entity-type|1", "update read search-type delete")
	f("action=R", "read read read")
	f("action=D,E", "search-type delete")
	f("outcome=4", "update read read")
	f("outcome=0&action=U", "update")
	f("subtype=http://hl7.org/fhir/restful-interaction|search-type", "search-type")
	f("type=rest&site=here&patient=p&action=D", "delete")
}

// TestEventsAreKeptOnce looks through the files again and again.
func TestEventsAreKeptOnce(t *testing.T) {
	k := newKeeping(t, clients(t))
	for range 700 { // more than one commit
		k.log.Write(&audit.Event{Recorded: time.Now(), Action: audit.ActionRead, Interaction: "read", Name: "read", Method: "GET", Status: 200, Reference: "Patient/a"})
	}
	k.settle(t)
	count := func(want int) {
		t.Helper()
		if got := k.as(t, "admin", "GET", "/fhir/AuditEvent?entity=Patient/a&_summary=count", ""); !strings.Contains(got.body, fmt.Sprintf(`"total":%d`, want)) {
			t.Errorf("want %d: %s", want, got.body)
		}
	}
	count(700)
	if got := k.as(t, "admin", "DELETE", "/fhir/AuditEvent/life1-7", ""); got.status != 204 {
		t.Errorf("an Admin deletes an event: %d", got.status)
	}
	if err := k.opts.Store.CatalogDelete(auditPositionName); err != nil {
		t.Fatal(err)
	}
	k.settle(t)
	count(699)
	if got := k.as(t, "admin", "GET", "/fhir/AuditEvent/life1-8/_history", ""); !strings.Contains(got.body, `"total":1`) {
		t.Errorf("it was written again: %s", got.body)
	}
	k.settle(t)
	before := k.opts.Store.Stats()
	k.settle(t) // nobody asks for anything, so there is nothing to keep
	if after := k.opts.Store.Stats(); after.Versions != before.Versions {
		t.Errorf("keeping events makes events: %d versions, and %d", before.Versions, after.Versions)
	}
}

// TestWhatIsNoEventIsNotKept gives the Keeper other things.
func TestWhatIsNoEventIsNotKept(t *testing.T) {
	k := newKeeping(t, clients(t))
	keeper := NewAuditKeeper(k.opts.Store)
	event := func(id string) string { return `{"resourceType":"AuditEvent","id":"` + id + `"}` + "\n" }
	f := func(lines string, kept, refused int) {
		t.Helper()
		gotKept, gotRefused, err := keeper.Keep(context.Background(), []byte(lines))
		if gotKept != kept || gotRefused != refused || err != nil {
			t.Errorf("%.60q: %d kept, %d refused, error %v", lines, gotKept, gotRefused, err)
		}
	}
	f(event("a")+event("b")+event("a"), 2, 0)
	f(event("a")+event("c"), 1, 0)
	f(`{"resourceType":"Patient","id":"a"}`+"\n"+event("d"), 1, 1)
	f(event("a/b")+`{"resourceType":"AuditEvent"}`+"\n\n"+event("e"), 1, 3)
	f("\x00\x00\x00\n"+`{"resourceType":"AuditEvent","id":"f"`+"\n", 0, 2)
	got := k.as(t, "admin", "PUT", "/fhir/SearchParameter/w", `{"resourceType":"SearchParameter","id":"w","url":"http://a.example/w","name":"W","status":"active","description":"d","code":"w","base":["AuditEvent"],"type":"quantity","expression":"AuditEvent.extension('http://a.example/w').value"}`)
	if got.status != 201 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	unindexable := `,"extension":[{"url":"http://a.example/w","valueQuantity":{"value":1e99999999999999999999}}]}`
	f(event("g")+`{"resourceType":"AuditEvent","id":"h"`+unindexable+"\n", 1, 1)
	f(event("g")+event("h"), 1, 0)
}

// TestWhoReachesEvents asks as each kind of client.
func TestWhoReachesEvents(t *testing.T) {
	known := clients(t)
	for name, text := range map[string]string{"named": "system/AuditEvent.rs system/Patient.rs", "pat-named": "patient/AuditEvent.rs", "named-cud": "system/AuditEvent.cruds"} {
		parsed, err := access.ParseScopes(text)
		if err != nil {
			t.Fatal(err)
		}
		known[name] = &access.Principal{Issuer: "test", Subject: name, Scopes: parsed.Known, HasScopes: true, Patient: "own"}
	}
	k := newKeeping(t, known)
	k.as(t, "admin", "PUT", "/fhir/Patient/own", `{"resourceType":"Patient","id":"own"}`)
	k.as(t, "admin", "PUT", "/fhir/Patient/other", `{"resourceType":"Patient","id":"other"}`)
	k.as(t, "admin", "GET", "/fhir/Patient/own", "")
	k.settle(t)
	// What a read of the other patient's event, a search by patient, a search of all types, an
	// $everything of one's own, and writes give.
	f := func(client, want string) {
		t.Helper()
		count := func(path string) string {
			got := k.as(t, client, "GET", path, "")
			if got.status != 200 {
				return fmt.Sprint(got.status)
			}
			return fmt.Sprint(min(2, strings.Count(got.body, `"resourceType":"AuditEvent"`))) // or more, as all of this makes events
		}
		read := k.as(t, client, "GET", "/fhir/AuditEvent/life1-2", "").status
		found := fmt.Sprint(count("/fhir/AuditEvent?_id=life1-1,life1-2"), " ", count("/fhir/AuditEvent?patient=own&_id=life1-1"), " ",
			count("/fhir?_id=life1-1"), " ", count("/fhir/Patient?_id=own&_revinclude=AuditEvent:patient&_total=none"))
		create := k.as(t, client, "POST", "/fhir/AuditEvent", `{"resourceType":"AuditEvent"}`).status
		update := k.as(t, client, "PUT", "/fhir/AuditEvent/life1-1", `{"resourceType":"AuditEvent","id":"life1-1"}`).status
		remove := k.as(t, client, "DELETE", "/fhir/AuditEvent/life1-1?_hardDelete=true", "").status
		batch := k.as(t, client, "POST", "/fhir", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"AuditEvent/life1-1"}},{"request":{"method":"DELETE","url":"AuditEvent/life1-1"}}]}`).body
		got := fmt.Sprintf("%d %s; %d %d %d %d", read, found, create, update, remove, strings.Count(batch, `"403`))
		if got != want {
			t.Errorf("%s gets %s, want %s", client, got, want)
		}
	}
	f("reader", "403 403 403 0 0; 403 403 403 2")
	f("writer", "403 403 403 403 403; 403 403 403 2")
	f("contributor", "403 403 403 0 0; 403 403 403 2")
	f("exporter", "403 403 403 403 403; 403 403 403 2")
	f("sys-rs", "403 403 403 0 0; 403 403 403 2")
	f("user-all", "403 403 403 0 0; 403 403 403 2")
	f("pat-all", "403 403 403 0 0; 403 403 403 2")
	f("named", "200 2 1 1 2; 403 403 403 1")
	f("pat-named", "404 1 1 1 403; 403 403 403 1")
	f("named-cud", "200 2 1 1 403; 403 403 403 1")
	f("user-admin", "200 2 1 1 2; 201 200 204 0")
}

// TestExportsLeaveEventsToTheirReaders looks at what an export of everything is of.
func TestExportsLeaveEventsToTheirReaders(t *testing.T) {
	k := newKeeping(t, clients(t))
	event := fhir.TypeByName([]byte("AuditEvent"))
	for name, may := range map[string]bool{"exporter": false, "sys-rs": false, "reader": false, "admin": true, "user-admin": true} {
		who := *k.opts.Auth.(testAuth)[name]
		who.AuditsApart = true
		if types, whole := who.Exportable(); whole != may || who.MayExport(event) != may || !may && name != "reader" && len(types) != int(fhir.TypeMax)-1 {
			t.Errorf("%s: %d types, whole %v", name, len(types), whole)
		}
	}
	got := k.as(t, "exporter", "GET", "/fhir/$export?_type=AuditEvent", "", "Prefer: respond-async", "Accept: application/fhir+json")
	if got.status != 403 {
		t.Errorf("an Exporter gets %d %s", got.status, got.body)
	}
	got = k.as(t, "admin", "GET", "/fhir/$export?_type=AuditEvent", "", "Prefer: respond-async", "Accept: application/fhir+json")
	if got.status != 202 {
		t.Errorf("an Admin gets %d %s", got.status, got.body)
	}
}
