package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// state is one version as the tests know it: its marker, or deleted.
type state struct {
	version int64
	marker  string
	deleted bool
}

// entry is what a history shows of one version.
type entry struct {
	Resource struct {
		ResourceType, ID string
		Meta             struct{ VersionID, LastUpdated string }
		Code             struct{ Text string }
		Language         string
	}
	Request struct{ Method string }
}

type historyPage struct {
	Total *int64
	Link  []struct{ Relation, URL string }
	Entry []entry
}

// historyTotal asks how many versions a type has.
func (s *server) historyTotal(path string) int64 {
	s.t.Helper()
	page := decode[historyPage](s.t, s.must(http.StatusOK, http.MethodGet, path+"/_history?_summary=count", "").body)
	if page.Total == nil {
		s.t.Fatalf("the history of %s has no total", path)
	}
	return *page.Total
}

// history reads a whole history, page by page, and groups it by id, oldest
// version first.
func (s *server) history(path string) map[string][]state {
	s.t.Helper()
	found := map[string][]state{}
	var total, seen int64
	address := s.base + path + "/_history?_count=1000"
	for address != "" {
		got, err := ask(http.MethodGet, address, "")
		if err == nil && got.status == http.StatusNotFound {
			return found
		}
		if err != nil || got.status != http.StatusOK {
			s.t.Fatalf("cannot read the history %s: %v %v", address, err, got)
		}
		page := decode[historyPage](s.t, got.body)
		if page.Total == nil {
			s.t.Fatalf("the history %s has no total", address)
		}
		total = *page.Total
		seen += int64(len(page.Entry))
		for _, e := range page.Entry {
			id := e.Resource.ID
			found[id] = append([]state{e.state(s.t)}, found[id]...)
		}
		address = ""
		for _, link := range page.Link {
			if link.Relation == "next" {
				address = s.base + strings.TrimPrefix(strings.TrimPrefix(link.URL, s.base), killBaseURL)
			}
		}
	}
	if seen != total {
		s.t.Errorf("the history of %s has %d entries, its total says %d", path, seen, total)
	}
	return found
}

func (e *entry) state(t *testing.T) state {
	t.Helper()
	version, err := strconv.ParseInt(e.Resource.Meta.VersionID, 10, 64)
	if err != nil {
		t.Fatalf("a history entry has version %q: %v", e.Resource.Meta.VersionID, err)
	}
	if e.Request.Method == http.MethodDelete {
		return state{version: version, deleted: true}
	}
	return state{version: version, marker: e.Resource.Code.Text + e.Resource.Language}
}

// resource is the model of one id: what was acknowledged, and at most one
// write that the server was killed in, of which nobody knows.
type resource struct {
	acked   []state
	pending *state
	purging bool // the write that nobody knows of takes everything out
}

// next is the state that a write would lead to; none when it changes nothing.
func (r *resource) next(marker string, deleted bool) *state {
	last := int64(0)
	if n := len(r.acked); n > 0 {
		last = r.acked[n-1].version
		if deleted && r.acked[n-1].deleted {
			return nil
		}
	} else if deleted {
		return nil
	}
	return &state{version: last + 1, marker: marker, deleted: deleted}
}

// settle compares a history after a restart with the model: every
// acknowledged version, none other, but for the pending one, which is settled.
func (r *resource) settle(found []state) error {
	if r.purging && len(found) == 0 {
		r.acked = nil
	}
	r.purging = false
	want := r.acked
	if r.pending != nil && len(found) == len(want)+1 {
		want = append(want, *r.pending)
	}
	r.pending = nil
	if len(found) != len(want) {
		return fmt.Errorf("history %v instead of %v", tail(found), tail(want))
	}
	for i := range want {
		if found[i] != want[i] {
			return fmt.Errorf("version %d is %v instead of %v", i+1, found[i], want[i])
		}
	}
	r.acked = want
	return nil
}

// tail keeps failure messages short.
func tail(list []state) []state { return list[max(0, len(list)-4):] }

// mixed is the model of an id that the API and imports write at the same
// time: acknowledged versions stand where they were acknowledged, everything
// else in its history has one of the allowed markers, each once.
type mixed struct {
	acked   map[int64]string
	pending map[string]bool // markers of writes nobody knows the outcome of
}

func (m *mixed) check(found []state, imported func(marker string) bool) error {
	seen := map[string]bool{}
	for i, version := range found {
		if version.version != int64(i+1) {
			return fmt.Errorf("version %d stands at place %d of the history", version.version, i+1)
		}
		if seen[version.marker] {
			return fmt.Errorf("%q was written twice", version.marker)
		}
		seen[version.marker] = true
		acked, ok := m.acked[version.version]
		switch {
		case ok && acked != version.marker:
			return fmt.Errorf("version %d is %q instead of the acknowledged %q", version.version, version.marker, acked)
		case !ok && !m.pending[version.marker] && !imported(version.marker):
			return fmt.Errorf("version %d, %q, was never written", version.version, version.marker)
		}
	}
	for version, marker := range m.acked {
		if version > int64(len(found)) {
			return fmt.Errorf("the acknowledged version %d, %q, is missing", version, marker)
		}
	}
	return nil
}

// versionFrom reads W/"n".
func versionFrom(got *answer) (int64, error) {
	tag := got.header.Get("ETag")
	text, ok := strings.CutPrefix(strings.TrimSuffix(tag, `"`), `W/"`)
	if !ok {
		return 0, fmt.Errorf("ETag %q", tag)
	}
	return strconv.ParseInt(text, 10, 64)
}

// basic is the body of a write: a resource that carries a marker.
func basic(id, marker string) string {
	body := map[string]any{"resourceType": "Basic", "code": map[string]string{"text": marker}}
	if id != "" {
		body["id"] = id
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return string(text)
}
