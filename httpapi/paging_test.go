package httpapi

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kiln/bulk"
	"kiln/engine"
)

const (
	// pagedUsual is how many patients fit a test run; KILN_PAGED says how many
	// instead.
	pagedUsual   = 10_000
	pagedWriters = 16
	// pagedWrites are allowed for each page: so many that it is another store at
	// the last, and not so many that the writers alone are tested.
	pagedWrites = 100
)

// pagedPatient is a state of a patient that the server acknowledged.
type pagedPatient struct {
	version int
	birth   string // "": none
	gender  string
}

// pagedWriter writes patients of its own, so that it knows their states.
type pagedWriter struct {
	rng      *rand.Rand
	prefix   string
	patients map[string]pagedPatient // that are not deleted
	versions map[string]int
	ids      []string
}

// next is a patient to write or delete, and its state afterwards.
func (w *pagedWriter) next() (id string, p pagedPatient, deletes bool) {
	if id = fmt.Sprint(w.prefix, len(w.ids)); w.rng.IntN(3) > 0 && len(w.ids) > 0 {
		id = w.ids[w.rng.IntN(len(w.ids))]
	}
	_, there := w.patients[id]
	return id, w.state(id), there && w.rng.IntN(4) == 0
}

// state is a random state; the family name makes it differ from the one before.
func (w *pagedWriter) state(id string) pagedPatient {
	p := pagedPatient{version: w.versions[id] + 1, gender: []string{"male", "female"}[w.rng.IntN(2)]}
	if w.rng.IntN(5) > 0 {
		p.birth = fmt.Sprintf("19%02d-0%d-1%d", w.rng.IntN(100), 1+w.rng.IntN(9), w.rng.IntN(10))
	}
	return p
}

func (w *pagedWriter) body(id string, p pagedPatient) string {
	birth := ""
	if p.birth != "" {
		birth = `,"birthDate":"` + p.birth + `"`
	}
	return fmt.Sprintf(`{"resourceType":"Patient","id":"%s","name":[{"family":"%d"}],"gender":"%s"%s}`, id, p.version, p.gender, birth)
}

// note keeps what the server acknowledged.
func (w *pagedWriter) note(id string, p pagedPatient, deleted bool) {
	if w.versions[id] == 0 {
		w.ids = append(w.ids, id)
	}
	w.versions[id] = p.version
	if w.patients[id] = p; deleted {
		delete(w.patients, id)
	}
}

// pagedStore is a server whose state is known whenever writes are held.
type pagedStore struct {
	*testServer
	client  *http.Client
	writers []*pagedWriter
	hold    sync.RWMutex  // held shared for the length of each write
	turns   chan struct{} // one for each write; closed at the end
	writes  atomic.Int64
}

// load writes count patients in transactions.
func (s *pagedStore) load(t *testing.T, count int) {
	t.Helper()
	const each = 500
	for written := 0; written < count; written += each {
		w := s.writers[written/each%len(s.writers)]
		var entries []string
		for range each {
			id := fmt.Sprint(w.prefix, len(w.ids))
			p := w.state(id)
			w.note(id, p, false)
			entries = append(entries, `{"request":{"method":"PUT","url":"Patient/`+id+`"},"resource":`+w.body(id, p)+`}`)
		}
		a := s.do(t, "POST", "/fhir", `{"resourceType":"Bundle","type":"transaction","entry":[`+strings.Join(entries, ",")+`]}`, typeHeader)
		if a.status != 200 {
			t.Fatalf("transaction: %d %.300s", a.status, a.body)
		}
	}
}

// allow lets the writers go on for a page.
func (s *pagedStore) allow() {
	for range pagedWrites {
		select {
		case s.turns <- struct{}{}:
		default:
			return // they have not used up the last
		}
	}
}

// write changes patients until the test stops.
func (s *pagedStore) write(t *testing.T, w *pagedWriter) {
	for range s.turns {
		s.hold.RLock()
		id, p, deletes := w.next()
		method, body := "PUT", w.body(id, p)
		if deletes {
			method, body = "DELETE", ""
		}
		if err := s.send(method, id, body, p.version); err != nil {
			t.Error(err)
		}
		w.note(id, p, deletes)
		s.writes.Add(1)
		s.hold.RUnlock()
	}
}

// send writes a patient, on a connection that is kept.
func (s *pagedStore) send(method, id, body string, version int) error {
	request, err := http.NewRequest(method, "http://"+s.addr+"/fhir/Patient/"+id, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", contentTypeJSON)
	request.Header.Set("Prefer", "return=minimal")
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if etag := response.Header.Get("ETag"); err == nil && (response.StatusCode >= 300 || etag != fmt.Sprintf(`W/"%d"`, version)) {
		err = fmt.Errorf("%s of version %d of %s: %d %s %.200s", method, version, id, response.StatusCode, etag, text)
	}
	return err
}

// pagedBundle is what the test reads of a page.
type pagedBundle struct {
	Total *int
	Link  []struct{ Relation, URL string }
	Entry []struct {
		Resource struct {
			ID, BirthDate, Gender string
			Meta                  struct{ VersionID string }
		}
	}
}

func (s *pagedStore) page(t *testing.T, path string) (b pagedBundle, next string) {
	t.Helper()
	a := s.do(t, "GET", path, "")
	if err := json.Unmarshal([]byte(a.body), &b); err != nil || a.status != 200 {
		t.Fatalf("GET %s: %d %.300s", path, a.status, a.body)
	}
	for _, l := range b.Link {
		if l.Relation == "next" {
			next = l.URL
		}
	}
	return b, next
}

// first reads the first page while nobody writes, and what the store has then.
func (s *pagedStore) first(t *testing.T, path string, matches func(pagedPatient) bool) (b pagedBundle, next string, want map[string]pagedPatient) {
	t.Helper()
	s.hold.Lock()
	defer s.hold.Unlock()
	want = map[string]pagedPatient{}
	for _, w := range s.writers {
		for id, p := range w.patients {
			if matches(p) {
				want[id] = p
			}
		}
	}
	b, next = s.page(t, path)
	return b, next, want
}

// check reads all pages of a search and holds them against what there was at the
// first. sign is that of the order by birth date; 0: none.
func (s *pagedStore) check(t *testing.T, path string, sign int, matches func(pagedPatient) bool) {
	t.Helper()
	b, next, want := s.first(t, path+"&_total=accurate", matches)
	count, pages, before := len(want), 0, s.writes.Load()
	if b.Total == nil || *b.Total != count {
		t.Errorf("%s: total %v, want %d", path, b.Total, count)
	}
	last := ""
	for {
		pages++
		for i, e := range b.Entry {
			r := e.Resource
			p, ok := want[r.ID]
			if got := (pagedPatient{wholeNumber(r.Meta.VersionID), r.BirthDate, r.Gender}); !ok || got != p {
				t.Fatalf("%s: page %d has %s as %+v; left of what is wanted: %t %+v", path, pages, r.ID, got, ok, p)
			}
			delete(want, r.ID)
			if (pages > 1 || i > 0) && !inOrder(last, r.BirthDate, sign) {
				t.Fatalf("%s: page %d has birth date %q behind %q", path, pages, r.BirthDate, last)
			}
			last = r.BirthDate
		}
		if next == "" {
			break
		}
		s.allow()
		b, next = s.page(t, next)
	}
	if len(want) > 0 {
		t.Errorf("%s: %d of %d matches are on no page", path, len(want), count)
	}
	t.Logf("%s: %d matches on %d pages, %d writes in between", path, count, pages, s.writes.Load()-before)
}

// inOrder tells whether b may come behind a; those without a date come last.
func inOrder(a, b string, sign int) bool {
	return sign == 0 || b == "" || a != "" && sign*strings.Compare(a, b) <= 0
}

func wholeNumber(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// TestPagesShowEveryMatchOnceWhileOthersWrite: what there was at the first page
// is on the pages, each match once and in the state it had, in order, while 16
// clients create, change and delete, and heads are flushed and runs merged.
func TestPagesShowEveryMatchOnceWhileOthersWrite(t *testing.T) {
	count, size := pagedUsual, 500
	if text := os.Getenv("KILN_PAGED"); text != "" {
		count, size = wholeNumber(text), 1000
	}
	s := &pagedStore{testServer: newAPI(t, func(store *engine.Options, _ *bulk.Options, _ *Options) {
		store.HeadBytes, store.MergeFanIn = 1<<20, 2
	}), turns: make(chan struct{}, 2*pagedWrites), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: pagedWriters}}}
	t.Cleanup(s.client.CloseIdleConnections)
	for i := range pagedWriters {
		s.writers = append(s.writers, &pagedWriter{
			rng: rand.New(rand.NewPCG(uint64(i), 3)), prefix: fmt.Sprint("w", i, "-"), patients: map[string]pagedPatient{}, versions: map[string]int{},
		})
	}
	s.load(t, count)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(s.turns)
	for _, w := range s.writers {
		wg.Go(func() { s.write(t, w) })
	}
	all := func(pagedPatient) bool { return true }
	of := fmt.Sprintf("/fhir/Patient?_count=%d", size)
	s.check(t, of, 0, all)
	s.check(t, of+"&_sort=birthdate,-_lastUpdated", 1, all)
	s.check(t, of+"&_sort=-birthdate", -1, func(p pagedPatient) bool { return p.birth != "" || p.gender != "" })
	s.check(t, of+"&gender=male", 0, func(p pagedPatient) bool { return p.gender == "male" })
	s.check(t, of+"&gender:not=male&_sort=birthdate", 1, func(p pagedPatient) bool { return p.gender != "male" })
	metrics := s.do(t, "GET", "/metrics", "").body
	for _, name := range []string{"kiln_store_merges_total", "kiln_store_runs"} {
		if m := regexp.MustCompile(name + ` ([1-9]\d*)`).FindStringSubmatch(metrics); m == nil {
			t.Errorf("%s is 0: nothing was flushed and merged meanwhile", name)
		}
	}
}
