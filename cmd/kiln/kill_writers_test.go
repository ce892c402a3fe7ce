package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
)

// killWriter writes Basic resources of its own, one request at a time.
type killWriter struct {
	loop      *killLoop
	name      string
	random    *rand.Rand
	count     int
	resources map[string]*resource
	posting   map[string]bool // the marker of a POST nobody knows the outcome of
}

// run writes until the server is gone.
func (w *killWriter) run(s *server) {
	for w.write(s) {
	}
}

func (w *killWriter) write(s *server) bool {
	w.count++
	marker := fmt.Sprintf("%s #%d", w.name, w.count)
	switch w.random.IntN(10) {
	case 0:
		return w.post(s, marker)
	case 1, 2:
		return w.change(s, http.MethodDelete, "")
	case 3:
		if w.loop.keepAll {
			return true
		}
		return w.purge(s)
	default:
		return w.change(s, http.MethodPut, marker)
	}
}

func (w *killWriter) post(s *server, marker string) bool {
	w.posting[marker] = true
	got, err := ask(http.MethodPost, s.base+"/Basic", basic("", marker))
	if w.loop.broken("POST", err) && err != nil {
		return false
	}
	if got.status != http.StatusCreated {
		w.loop.t.Errorf("POST: %d %s", got.status, got.body)
		return false
	}
	place := strings.Split(got.header.Get("Location"), "/Basic/")
	if len(place) != 2 {
		w.loop.t.Errorf("POST: Location %q", got.header.Get("Location"))
		return false
	}
	id := strings.Split(place[1], "/")[0]
	delete(w.posting, marker)
	w.resources[id] = &resource{acked: []state{{version: 1, marker: marker}}}
	return true
}

// change is a PUT or DELETE of one of the writer's ids.
func (w *killWriter) change(s *server, method, marker string) bool {
	id := w.name + "-" + strconv.Itoa(w.random.IntN(killIDs))
	r := w.resources[id]
	if r == nil {
		r = &resource{}
		w.resources[id] = r
	}
	r.pending = r.next(marker, method == http.MethodDelete)
	body := ""
	if method == http.MethodPut {
		body = basic(id, marker)
	}
	got, err := ask(method, s.base+"/Basic/"+id, body)
	if w.loop.broken(method, err) && err != nil {
		return false
	}
	if got.status/100 != 2 {
		w.loop.t.Errorf("%s Basic/%s: %d %s", method, id, got.status, got.body)
		return false
	}
	if r.pending != nil {
		version, err := versionFrom(got)
		if err != nil || version != r.pending.version {
			w.loop.t.Errorf("%s Basic/%s gave version %d (%v) instead of %d", method, id, version, err, r.pending.version)
			return false
		}
		r.acked = append(r.acked, *r.pending)
		r.pending = nil
	}
	return true
}

// purge takes one of the writer's ids out for good; its versions begin at 1 again.
func (w *killWriter) purge(s *server) bool {
	id := w.name + "-" + strconv.Itoa(w.random.IntN(killIDs))
	r := w.resources[id]
	if r == nil {
		return true
	}
	r.purging = true
	got, err := ask(http.MethodDelete, s.base+"/Basic/"+id+"?_hardDelete=true", "")
	if w.loop.broken("hard delete", err) && err != nil {
		return false
	}
	if got.status/100 != 2 {
		w.loop.t.Errorf("hard delete of Basic/%s: %d %s", id, got.status, got.body)
		return false
	}
	r.acked, r.purging = nil, false
	return true
}

// addParameter adds a search parameter a life, whose fields make the server index
// all runs again, and notes it once that is acknowledged.
func (l *killLoop) addParameter(s *server) {
	id := "kill-" + strconv.Itoa(len(l.parameters))
	got, err := ask(http.MethodPut, s.base+"/SearchParameter/"+id, fmt.Sprintf(`{"resourceType":"SearchParameter","id":%q,"url":"http://example.org/%s","name":"kill",`+
		`"status":"active","description":"kill","code":%q,"base":["Observation"],"type":"string","expression":"Observation.extension.where(url='%s').value.ofType(string)"}`, id, id, id, id))
	if l.broken("PUT SearchParameter", err) && err != nil {
		return
	}
	if got.status/100 != 2 {
		l.t.Errorf("PUT SearchParameter/%s: %d %s", id, got.status, got.body)
		return
	}
	l.parameters = append(l.parameters, id)
}

// check takes the writer's resources out of found and compares them.
func (w *killWriter) check(found map[string][]state) {
	for id, r := range w.resources {
		if err := r.settle(found[id]); err != nil {
			w.loop.t.Errorf("Basic/%s: %v", id, err)
		}
		delete(found, id)
	}
	for id, states := range found {
		// A POST that was cut off may have been done, once.
		if len(states) == 1 && w.posting[states[0].marker] {
			w.resources[id] = &resource{acked: states}
			delete(w.posting, states[0].marker)
			delete(found, id)
		}
	}
	clear(w.posting)
}

// mixWriter updates patients that imports update at the same time.
type mixWriter struct {
	loop      *killLoop
	random    *rand.Rand
	count     int
	resources map[string]*mixed
}

func (w *mixWriter) resource(id string) *mixed {
	if w.resources[id] == nil {
		w.resources[id] = &mixed{acked: map[int64]string{}, pending: map[string]bool{}}
	}
	return w.resources[id]
}

func (w *mixWriter) run(s *server) {
	for {
		w.count++
		id := "mix-" + strconv.Itoa(w.random.IntN(killMixedIDs))
		marker := "mixer #" + strconv.Itoa(w.count)
		r := w.resource(id)
		r.pending[marker] = true
		got, err := ask(http.MethodPut, s.base+"/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`","language":"`+marker+`"}`)
		if w.loop.broken("PUT", err) && err != nil {
			return
		}
		version, err := versionFrom(got)
		if err != nil || got.status/100 != 2 {
			w.loop.t.Errorf("PUT Patient/%s: %d %v %s", id, got.status, err, got.body)
			return
		}
		delete(r.pending, marker)
		r.acked[version] = marker
	}
}
