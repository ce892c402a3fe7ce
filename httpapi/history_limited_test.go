package httpapi

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// historyBundle is what a history's page tells.
type historyBundle struct {
	Total *int
	Link  []struct{ Relation, URL string }
	Entry []struct {
		FullURL  string
		Request  struct{ Method string }
		Response struct{ Etag string }
	}
}

// historyOf are the versions that a client is shown page by page, as
// "Observation/own/2 PUT", and the first page's total; -1: none.
func (s *testServer) historyOf(t *testing.T, client, path string) (versions []string, total int) {
	t.Helper()
	total = -1
	for first := true; path != ""; first = false {
		a := s.as(t, client, "GET", path, "")
		var b historyBundle
		if a.status != 200 {
			return []string{fmt.Sprint(a.status)}, -1
		}
		if err := json.Unmarshal([]byte(a.body), &b); err != nil {
			t.Fatal(err)
		}
		if b.Total != nil && first {
			total = *b.Total
		}
		for _, e := range b.Entry {
			_, name, _ := strings.Cut(e.FullURL, "/fhir/")
			versions = append(versions, name+"/"+strings.Trim(e.Response.Etag, `W/"`)+" "+e.Request.Method)
		}
		path = ""
		for _, l := range b.Link {
			if l.Relation == "next" {
				path = l.URL
			}
		}
	}
	return versions, total
}

// moves writes, moves and deletes Observations of three patients at random.
func (s *testServer) moves(t *testing.T, rng *rand.Rand, steps int) {
	t.Helper()
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	for i := range steps {
		id := fmt.Sprint("r", rng.IntN(6))
		if rng.IntN(4) == 0 {
			s.as(t, "admin", "DELETE", "/fhir/Observation/"+id, "")
			continue
		}
		body := fmt.Sprintf(`{"resourceType":"Observation","id":"%s","status":"final","code":{"coding":[{"code":"%s"}],"text":"%d"},"subject":{"reference":"Patient/%s"}}`,
			id, pick("lab", "vital"), i, pick("own", "own", "other", "third"))
		if a := s.as(t, "admin", "PUT", "/fhir/Observation/"+id, body); a.status > 201 {
			t.Fatal(a.body)
		}
	}
}

// TestHistoriesOfTypesAreLimited: a limited client's history of a type and of the system
// has the versions, in the order, that reading all of them one by one gives it.
func TestHistoriesOfTypesAreLimited(t *testing.T) {
	s := newGuarded(t)
	rng := rand.New(rand.NewPCG(8, 8))
	clients := []string{"pat-rs", "pat-obs", "sys-obs", "sys-filter", "reader", "user-reader"}
	for range 6 {
		s.moves(t, rng, 12)
		for _, path := range []string{"/fhir/_history", "/fhir/Observation/_history"} {
			sort := []string{"", "&_sort=_lastUpdated"}[rng.IntN(2)]
			all, _ := s.historyOf(t, "admin", path+"?_count=1000"+sort)
			for _, client := range clients {
				var want []string
				for _, name := range all {
					address, _, _ := strings.Cut(name, " ")
					typ, rest, _ := strings.Cut(address, "/")
					id, version, _ := strings.Cut(rest, "/")
					if a := s.as(t, client, "GET", "/fhir/"+typ+"/"+id+"/_history/"+version, ""); a.status == 200 || a.status == 410 {
						want = append(want, name)
					}
				}
				got, total := s.historyOf(t, client, path+fmt.Sprintf("?_count=%d", 1+rng.IntN(7))+sort)
				if !slices.Equal(got, want) {
					t.Fatalf("%s, %s%s:\n%v\nwant\n%v", client, path, sort, got, want)
				}
				_, counted := s.historyOf(t, client, path+"?_summary=count")
				if counted != len(want) || total >= 0 && total != len(want) {
					t.Fatalf("%s, %s: %d and %d versions are counted, not %d", client, path, total, counted, len(want))
				}
			}
		}
	}
}

// What a limited client's histories tell by their ends, totals and links.
func TestLimitedHistoriesTellNothingElse(t *testing.T) {
	s := newGuarded(t)
	f := func(client, path string, want ...string) {
		t.Helper()
		if got, _ := s.historyOf(t, client, "/fhir/"+path); !slices.Equal(got, want) {
			t.Errorf("%s, %s: %v, want %v", client, path, got, want)
		}
	}
	mine := []string{"Observation/own-gone/2 DELETE", "Observation/own-gone/1 PUT", "Observation/own-vital/1 PUT", "Observation/own/1 PUT"}
	f("pat-rs", "Observation/_history", mine...)
	f("pat-rs", "Observation/_history?_count=4", mine...)
	f("pat-rs", "_history", append(slices.Clone(mine), "Group/g/1 PUT", "Patient/own/1 PUT")...)
	f("pat-obs", "_history", "Observation/own-gone/2 DELETE", "Observation/own-gone/1 PUT", "Observation/own/1 PUT")
	f("pat-rs", "Practitioner/_history")
	f("pat-rs", "Observation/_history?_list=other", "404")
	f("pat-obs", "Patient/_history", "403")
	f("pat-none", "_history", "403")
	f("exporter", "_history", "403")
	var b historyBundle
	a := s.as(t, "pat-rs", "GET", "/fhir/Observation/_history?_count=4", "")
	if err := json.Unmarshal([]byte(a.body), &b); err != nil || b.Total != nil || len(b.Link) != 1 {
		t.Errorf("a page with all there is tells of more: %s", a.body)
	}
	a = s.as(t, "pat-rs", "GET", "/fhir/Observation/_history?_count=3", "")
	if err := json.Unmarshal([]byte(a.body), &b); err != nil || len(b.Link) != 2 {
		t.Fatalf("no next page: %s", a.body)
	}
	next, err := url.Parse(b.Link[1].URL)
	if err != nil {
		t.Fatal(err)
	}
	for client, status := range map[string]int{"pat-rs": 200, "reader": 400, "pat-obs": 400} {
		if a := s.as(t, client, "GET", next.RequestURI(), ""); a.status != status {
			t.Errorf("%s: %d %s", client, a.status, a.body)
		}
	}
	// What leaves the compartment is gone with its history, on pages under way too.
	s.as(t, "admin", "PUT", "/fhir/Observation/own", `{"resourceType":"Observation","id":"own","status":"final","code":{"text":"SECRET"},"subject":{"reference":"Patient/other"}}`)
	if a := s.as(t, "pat-rs", "GET", next.RequestURI(), ""); a.status != 200 || strings.Contains(a.body, "Observation/own/") {
		t.Errorf("%d %s", a.status, a.body)
	}
	f("pat-rs", "Observation/_history", mine[:3]...)
}
