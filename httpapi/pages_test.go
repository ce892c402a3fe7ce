package httpapi

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// bundlePage is what two visits of a page have in common.
type bundlePage struct {
	Total *int
	Link  []struct{ Relation, URL string }
	Entry []json.RawMessage
}

func (s *testServer) page(t *testing.T, path string) (p bundlePage) {
	t.Helper()
	a := s.do(t, "GET", path, "")
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != 200 {
		t.Fatalf("GET %s: %d %.300s", path, a.status, a.body)
	}
	return p
}

func (p *bundlePage) link(relation string) string {
	for _, l := range p.Link {
		if l.Relation == relation {
			return l.URL
		}
	}
	return ""
}

// text is the page's bytes, without its self link when the first visit had no token.
func (p *bundlePage) text(number int) string {
	b := fmt.Sprintf("%s\n%s\n%s\n%s\n", p.link("first"), p.link("previous"), p.link("next"), p.Entry)
	if p.Total != nil {
		b += fmt.Sprint(*p.Total)
	}
	if number > 0 {
		b += p.link("self")
	}
	return b
}

// walkPages goes through a list forward, and then to and fro at random, with writes
// between: each page is as it was. It gives the number of pages.
func (s *testServer) walkPages(t *testing.T, path string, write func(i int)) int {
	t.Helper()
	var texts []string
	p := s.page(t, path)
	first := p
	for {
		texts = append(texts, p.text(len(texts)))
		if p.link("next") == "" {
			break
		}
		write(len(texts))
		p = s.page(t, p.link("next"))
	}
	rng, at := rand.New(rand.NewPCG(1, 2)), len(texts)-1
	for i := range 4 * len(texts) {
		relation, to := "previous", at-1
		if i > len(texts) && rng.IntN(2) == 0 { // all the way back to begin with
			relation, to = "next", at+1
		}
		switch url := p.link(relation); {
		case url != "":
			p, at = s.page(t, url), to
		case to >= 0 && to < len(texts):
			t.Fatalf("%s: page %d has no link %s", path, at, relation)
		}
		if got := p.text(at); got != texts[at] {
			t.Fatalf("%s: page %d is\n%.2000s\nand was\n%.2000s", path, at, got, texts[at])
		}
		write(len(texts) + i)
	}
	if p = s.page(t, texts[len(texts)-1][:strings.IndexByte(texts[len(texts)-1], '\n')]); p.text(0) != texts[0] {
		t.Errorf("%s: the first link leads to %s, not to %s", path, p.text(0), texts[0])
	}
	if first.link("previous") != "" || first.link("first") != "" {
		t.Errorf("%s: the first page has %v", path, first.Link)
	}
	return len(texts)
}

func TestPagesOfSearchesAreWalkedBothWays(t *testing.T) {
	s := newMemAPI(t)
	for i := range 40 {
		s.put(t, fmt.Sprintf("p%02d", i), fmt.Sprintf(`,"active":true,"birthDate":"%d-01-01","link":[{"other":{"reference":"Patient/p%02d"},"type":"refer"}]`, 1970+i%7, i/2))
	}
	write := func(i int) {
		s.put(t, fmt.Sprintf("p%02d", i%40), fmt.Sprintf(`,"active":%t,"birthDate":"%d-01-01"`, i%3 > 0, 1960+i%30))
		s.put(t, fmt.Sprintf("new%d", i), `,"active":true`)
	}
	for i, path := range []string{"?active=true&_count=3", "?_count=7&_sort=-birthdate", "?_count=5&_include=Patient:link&_total=none", "?_count=11&_summary=true&birthdate=ap1975", "/p01/Patient?_count=1"} {
		if i == 4 {
			s.put(t, "p30", `,"active":true,"link":[{"other":{"reference":"Patient/p01"},"type":"refer"}]`)
			s.put(t, "p31", `,"active":true,"link":[{"other":{"reference":"Patient/p01"},"type":"refer"}]`)
		}
		if n := s.walkPages(t, "/fhir/Patient"+path, write); n < 2 {
			t.Errorf("%s has %d pages", path, n)
		}
	}
}

func TestPagesOfHistoriesAreWalkedBothWays(t *testing.T) {
	s := newMemAPI(t)
	write := func(i int) {
		s.put(t, fmt.Sprintf("p%d", i%5), fmt.Sprintf(`,"active":%t,"birthDate":"%d"`, i%2 > 0, 1900+i))
		if i%3 == 0 {
			s.do(t, "DELETE", fmt.Sprintf("/fhir/Patient/p%d", i%5), "")
		}
	}
	for i := range 40 {
		write(i)
	}
	list := `{"resourceType":"List","id":"l","status":"current","mode":"working","entry":[{"item":{"reference":"Patient/p1"}},{"item":{"reference":"Patient/p2"}}]}`
	if a := s.do(t, "PUT", "/fhir/List/l", list, typeHeader); a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, path := range []string{
		"/fhir/_history?_count=7", "/fhir/Patient/_history?_count=9&_sort=_lastUpdated", "/fhir/Patient/p2/_history?_count=2",
		"/fhir/_history?_count=3&_list=l&_elements=birthDate", "/fhir/Patient/p1/_history?_count=6&_sort=_lastUpdated&_since=2020",
	} {
		if n := s.walkPages(t, path, write); n < 3 {
			t.Errorf("%s has %d pages", path, n)
		}
	}
}

// What a token says of earlier pages is bounded: far from the first page only
// some previous links in a row are left, and the first link.
func TestPreviousLinksAreBounded(t *testing.T) {
	s := newMemAPI(t)
	const pages = 120
	for i := range pages {
		s.put(t, fmt.Sprintf("00000000-0000-4000-8000-%012d", i), `,"active":true`)
	}
	for _, path := range []string{"/fhir/Patient?active=true&_count=1", "/fhir/Patient/_history?_count=1"} {
		p := s.page(t, path)
		var entries []string
		for p.link("next") != "" {
			entries = append(entries, string(p.Entry[0]))
			p = s.page(t, p.link("next"))
		}
		if n := len(p.link("self")); n > 2000 {
			t.Errorf("the address of page %d has %d bytes", pages, n)
		}
		back := 0
		for p.link("previous") != "" {
			p = s.page(t, p.link("previous"))
			if back++; string(p.Entry[0]) != entries[pages-1-back] {
				t.Fatalf("%d pages back is %s, not %s", back, p.Entry[0], entries[pages-1-back])
			}
		}
		if back < 40 || back == pages-1 {
			t.Errorf("%s: %d pages back", path, back)
		}
		if p = s.page(t, p.link("first")); string(p.Entry[0]) != entries[0] {
			t.Errorf("the first page is %s", p.Entry[0])
		}
	}
}
