package httpapi

import (
	"fmt"
	"strings"
	"testing"
)

// TestHistoryPagesAfterAPurge: a page whose place a purge has moved is refused, and
// leaves nothing out; others go on without what was purged.
func TestHistoryPagesAfterAPurge(t *testing.T) {
	s := newAPI(t, nil)
	var entries []string
	for i := range 5 {
		entries = append(entries, fmt.Sprintf(`{"resource":{"resourceType":"Patient","id":"p%d"},"request":{"method":"PUT","url":"Patient/p%d"}}`, i, i))
	}
	body := `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.Join(entries, ",") + `]}`
	if a := s.do(t, "POST", "/fhir", body, typeHeader); a.status != 200 {
		t.Fatalf("the transaction got %d: %s", a.status, a.body)
	}
	first := s.do(t, "GET", "/fhir/_history?_count=2", "").bundle(t)
	next := first.link("next")
	f := func(id string, status int, versions string) {
		t.Helper()
		if a := s.do(t, "DELETE", "/fhir/Patient/"+id+"?_hardDelete=true", ""); a.status != 204 {
			t.Fatalf("the purge of %s got %d: %s", id, a.status, a.body)
		}
		a := s.do(t, "GET", next, "")
		if a.status != status {
			t.Fatalf("after a purge of %s the next page got %d: %s", id, a.status, a.body)
		}
		if status != 200 {
			return
		}
		if got := a.bundle(t).versions(); got != versions {
			t.Errorf("after a purge of %s the next page has %s, want %s", id, got, versions)
		}
	}
	if got := first.versions(); got != "p4/1 p3/1" {
		t.Fatalf("the first page has %s", got)
	}
	f("p1", 200, "p2/1 p0/1") // comes later
	f("p4", 410, "")          // was shown: two are skipped, and p2 would be the second
}
