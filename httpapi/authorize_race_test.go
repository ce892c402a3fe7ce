package httpapi

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
)

// Whoever moves a resource out of a client's reach has moved it: no write of the client
// that was judged before is committed behind.
func TestWritesAreJudgedByWhatTheyReplace(t *testing.T) {
	s := newGuarded(t)
	body := func(patient, by string) string {
		return `{"resourceType":"Observation","id":"contested","status":"final","code":{"text":"` + by + `"},"subject":{"reference":"Patient/` + patient + `"}}`
	}
	const path = "/fhir/Observation/contested"
	var both sync.WaitGroup
	both.Go(func() {
		for i := range 60 {
			patient := [...]string{"own", "other"}[i%2]
			s.as(t, "admin", "PUT", path, body(patient, "admin "+strings.Repeat("x", i)))
		}
	})
	both.Go(func() {
		for i := range 120 {
			if i%2 == 0 {
				s.as(t, "pat-all", "PUT", path, body("own", "client "+strings.Repeat("y", i)))
			} else {
				s.as(t, "pat-all", "PATCH", path, `[{"op":"replace","path":"/code/text","value":"client `+strings.Repeat("z", i)+`"}]`, "Content-Type: application/json-patch+json")
			}
		}
	})
	both.Wait()
	var b struct {
		Entry []struct {
			Resource struct {
				Code    struct{ Text string }
				Subject struct{ Reference string }
			}
		}
	}
	if err := json.Unmarshal([]byte(s.as(t, "admin", "GET", path+"/_history?_count=1000&_sort=_lastUpdated", "").body), &b); err != nil {
		t.Fatal(err)
	}
	clients := 0
	for i, e := range b.Entry {
		if !strings.HasPrefix(e.Resource.Code.Text, "client") {
			continue
		}
		clients++
		if i == 0 || b.Entry[i-1].Resource.Subject.Reference != "Patient/own" || e.Resource.Subject.Reference != "Patient/own" {
			t.Errorf("version %d is the client's, of %s", i+1, e.Resource.Subject.Reference)
		}
	}
	t.Logf("%d versions, %d of them the client's", len(b.Entry), clients)
}
