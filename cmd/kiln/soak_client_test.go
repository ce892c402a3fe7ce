package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// soakCrowd is all clients of a soak and what they know together.
type soakCrowd struct {
	server   *server
	client   *http.Client
	imports  string // the import root
	end      time.Time
	running  sync.WaitGroup
	clients  []*soakClient
	requests atomic.Int64

	mu       sync.Mutex
	shared   map[string]*mixed // the models are guarded by mu
	imported map[string]string // marker by id; guarded by mu
}

// soakClient does one thing after the other to resources of its own, and to
// those that all share.
type soakClient struct {
	crowd  *soakCrowd
	name   string
	random *rand.Rand
	count  int
	own    map[string]*resource
	ids    []string
	jobs   bool // it imports and exports too
	did    map[string]int
}

// soakActions is the mix; weight is out of their sum.
var soakActions = []struct {
	name   string
	weight int
	run    func(*soakClient) error
}{
	{"create", 10, (*soakClient).create},
	{"update", 20, (*soakClient).update},
	{"delete", 4, (*soakClient).remove},
	{"patch", 6, (*soakClient).patch},
	{"update of a shared resource", 10, (*soakClient).updateShared},
	{"transaction", 4, (*soakClient).transact},
	{"read", 25, (*soakClient).read},
	{"vread", 8, (*soakClient).vread},
	{"conditional read", 5, (*soakClient).readUnchanged},
	{"history", 6, (*soakClient).history},
	{"history of the system", 2, (*soakClient).systemHistory},
	{"what is refused", 5, (*soakClient).refused},
	{"validate", 2, (*soakClient).validate},
	{"capabilities", 1, (*soakClient).capabilities},
}

// jobsEvery is how many actions of a client lie between its imports and
// exports, and one client of jobsClients has any: a job is much more work than a
// request, and each import leaves a run.
const (
	jobsEvery   = 400
	jobsClients = 8
)

func (c *soakClient) run() {
	c.did = map[string]int{}
	weights := 0
	for _, action := range soakActions {
		weights += action.weight
	}
	for time.Now().Before(c.crowd.end) && !c.crowd.server.t.Failed() {
		c.count++
		name, err := "import", error(nil)
		switch {
		case c.jobs && c.count%jobsEvery == jobsEvery/8:
			err = c.importFile()
		case c.jobs && c.count%jobsEvery == jobsEvery/4:
			name, err = "export", c.export()
		default:
			at := c.random.IntN(weights)
			for _, action := range soakActions {
				if at -= action.weight; at < 0 {
					name, err = action.name, action.run(c)
					break
				}
			}
		}
		c.did[name]++
		if err != nil {
			c.crowd.server.t.Errorf("%s: %s: %v", c.name, name, err)
			return
		}
	}
}

// ask sends a request below the base and expects one of the statuses.
func (c *soakClient) ask(method, path, body string, statuses []int, header ...string) (*answer, error) {
	c.crowd.requests.Add(1)
	got, err := askWith(c.crowd.client, method, c.crowd.server.base+path, body, header...)
	if err != nil {
		return nil, err
	}
	for _, status := range statuses {
		if got.status == status {
			return got, nil
		}
	}
	return nil, fmt.Errorf("%s %s: status %d instead of %v: %.300s", method, path, got.status, statuses, got.body)
}

func (c *soakClient) marker() string { return c.name + " #" + strconv.Itoa(c.count) }

// pick is one of the client's resources; "" when it has none.
func (c *soakClient) pick() string {
	if len(c.ids) == 0 {
		return ""
	}
	return c.ids[c.random.IntN(len(c.ids))]
}

func (c *soakClient) create() error {
	marker := c.marker()
	got, err := c.ask(http.MethodPost, "/Basic", basic("", marker), []int{http.StatusCreated})
	if err != nil {
		return err
	}
	_, place, _ := strings.Cut(got.header.Get("Location"), "/Basic/")
	id, version, _ := strings.Cut(place, "/_history/")
	if version != "1" {
		return fmt.Errorf("Location %q", got.header.Get("Location"))
	}
	c.ids = append(c.ids, id)
	c.own[id] = &resource{acked: []state{{version: 1, marker: marker}}}
	return nil
}

// write makes the next version of one of the client's resources and expects
// its number.
func (c *soakClient) write(method, id, body string, want *state, header ...string) error {
	got, err := c.ask(method, "/Basic/"+id, body, []int{http.StatusOK, http.StatusCreated, http.StatusNoContent}, header...)
	if err != nil || want == nil {
		return err
	}
	if version, err := versionFrom(got); err != nil || version != want.version {
		return fmt.Errorf("%s Basic/%s made version %d (%v) instead of %d", method, id, version, err, want.version)
	}
	c.own[id].acked = append(c.own[id].acked, *want)
	return nil
}

func (c *soakClient) update() error {
	id := c.pick()
	if id == "" {
		return c.create()
	}
	want := c.own[id].next(c.marker(), false)
	var header []string
	if c.random.IntN(2) == 0 && !c.last(id).deleted {
		header = []string{"If-Match", fmt.Sprintf(`W/"%d"`, want.version-1)}
	}
	return c.write(http.MethodPut, id, basic(id, want.marker), want, header...)
}

// patch changes the marker of a resource that is there.
func (c *soakClient) patch() error {
	id := c.pick()
	if id == "" || c.last(id).deleted {
		return nil
	}
	want := c.own[id].next(c.marker(), false)
	patch := fmt.Sprintf(`[{"op":"test","path":"/code/text","value":%q},{"op":"replace","path":"/code/text","value":%q}]`, c.last(id).marker, want.marker)
	return c.write(http.MethodPatch, id, patch, want, "Content-Type", "application/json-patch+json")
}

func (c *soakClient) last(id string) state {
	acked := c.own[id].acked
	return acked[len(acked)-1]
}

func (c *soakClient) remove() error {
	id := c.pick()
	if id == "" {
		return nil
	}
	return c.write(http.MethodDelete, id, "", c.own[id].next("", true))
}

func sharedID(i int) string { return "shared-" + strconv.Itoa(i) }

// updateShared writes over whatever is there, so it is never refused.
func (c *soakClient) updateShared() error {
	id, marker := sharedID(c.random.IntN(soakShared)), c.marker()
	got, err := c.ask(http.MethodPut, "/Basic/"+id, basic(id, marker), []int{http.StatusOK, http.StatusCreated})
	if err != nil {
		return err
	}
	version, err := versionFrom(got)
	if err != nil {
		return err
	}
	c.crowd.mu.Lock()
	defer c.crowd.mu.Unlock()
	model := c.crowd.shared[id]
	if other, twice := model.acked[version]; twice {
		return fmt.Errorf("version %d of Basic/%s was given to %q and %q", version, id, other, marker)
	}
	model.acked[version] = marker
	return nil
}

// transact writes two new resources at once.
func (c *soakClient) transact() error {
	marker := c.marker()
	entries := make([]string, 2)
	ids := make([]string, 2)
	for i := range entries {
		ids[i] = fmt.Sprintf("%s-t%d-%d", c.name, c.count, i)
		entries[i] = fmt.Sprintf(`{"resource":%s,"request":{"method":"PUT","url":"Basic/%s"}}`, basic(ids[i], marker), ids[i])
	}
	body := `{"resourceType":"Bundle","type":"transaction","entry":[` + strings.Join(entries, ",") + `]}`
	if _, err := c.ask(http.MethodPost, "", body, []int{http.StatusOK}); err != nil {
		return err
	}
	for _, id := range ids {
		c.ids = append(c.ids, id)
		c.own[id] = &resource{acked: []state{{version: 1, marker: marker}}}
	}
	return nil
}

// expect reads a version and compares it with what was acknowledged.
func (c *soakClient) expect(path string, want state, header ...string) error {
	status := http.StatusOK
	switch {
	case want.deleted:
		status = http.StatusGone
	case len(header) > 0:
		status = http.StatusNotModified
	}
	got, err := c.ask(http.MethodGet, path, "", []int{status}, header...)
	if err != nil {
		return err
	}
	if version, err := versionFrom(got); err != nil || version != want.version {
		return fmt.Errorf("GET %s gave version %d (%v) instead of %d", path, version, err, want.version)
	}
	if status == http.StatusOK && !strings.Contains(string(got.body), `"text":"`+want.marker+`"`) {
		return fmt.Errorf("GET %s gave %.200s instead of %q", path, got.body, want.marker)
	}
	return nil
}

func (c *soakClient) read() error {
	id := c.pick()
	if id == "" {
		return nil
	}
	return c.expect("/Basic/"+id, c.last(id))
}

func (c *soakClient) vread() error {
	id := c.pick()
	if id == "" {
		return nil
	}
	acked := c.own[id].acked
	want := acked[c.random.IntN(len(acked))]
	return c.expect(fmt.Sprintf("/Basic/%s/_history/%d", id, want.version), want)
}

func (c *soakClient) readUnchanged() error {
	id := c.pick()
	if id == "" {
		return nil
	}
	want := c.last(id)
	return c.expect("/Basic/"+id, want, "If-None-Match", fmt.Sprintf(`W/"%d"`, want.version))
}

func (c *soakClient) history() error {
	id := c.pick()
	if id == "" {
		return nil
	}
	got, err := c.ask(http.MethodGet, "/Basic/"+id+"/_history?_count=5", "", []int{http.StatusOK})
	if err == nil && !strings.Contains(string(got.body), fmt.Sprintf(`"total":%d,`, len(c.own[id].acked))) {
		return fmt.Errorf("the history of Basic/%s has not %d versions: %.300s", id, len(c.own[id].acked), got.body)
	}
	return err
}

func (c *soakClient) systemHistory() error {
	_, err := c.ask(http.MethodGet, "/_history?_count=20", "", []int{http.StatusOK}, "Accept-Encoding", "gzip")
	return err
}

// refused makes one of the mistakes that clients make.
func (c *soakClient) refused() error {
	mistakes := []struct {
		method, path, body string
		status             int
	}{
		{http.MethodGet, "/Basic/never-was", "", http.StatusNotFound},
		{http.MethodPut, "/Basic/a", `{"resourceType":"Basic","id":"b"}`, http.StatusBadRequest},
		{http.MethodPost, "/Basic", `{"resourceType":`, http.StatusBadRequest},
		{http.MethodPut, "/Nothing/a", `{"resourceType":"Nothing","id":"a"}`, http.StatusNotFound},
		{http.MethodGet, "/Basic//x", "", http.StatusBadRequest},
	}
	m := mistakes[c.random.IntN(len(mistakes))]
	_, err := c.ask(m.method, m.path, m.body, []int{m.status})
	return err
}

func (c *soakClient) validate() error {
	_, err := c.ask(http.MethodPost, "/Basic/$validate", basic("", c.marker()), []int{http.StatusOK})
	return err
}

func (c *soakClient) capabilities() error {
	_, err := c.ask(http.MethodGet, "/metadata", "", []int{http.StatusOK})
	return err
}

// jobLook is a tenth of what a client waits that heeds Retry-After.
const jobLook = 100 * time.Millisecond

// follow waits for a job.
func (c *soakClient) follow(kickOff *answer) (*answer, error) {
	path := strings.TrimPrefix(kickOff.header.Get("Content-Location"), c.crowd.server.base)
	ticker := time.NewTicker(jobLook)
	defer ticker.Stop()
	for {
		got, err := c.ask(http.MethodGet, path, "", []int{http.StatusOK, http.StatusAccepted})
		if err != nil || got.status == http.StatusOK {
			return got, err
		}
		<-ticker.C
	}
}

// importFile imports a file of new patients.
func (c *soakClient) importFile() error {
	var lines strings.Builder
	made := map[string]string{}
	for i := range 50 {
		id := fmt.Sprintf("%s-i%d-%d", c.name, c.count, i)
		made[id] = c.marker()
		fmt.Fprintf(&lines, "{\"resourceType\":\"Patient\",\"id\":%q,\"language\":%q}\n", id, c.marker())
	}
	path := filepath.Join(c.crowd.imports, fmt.Sprintf("%s-%d.ndjson", c.name, c.count))
	if err := os.WriteFile(path, []byte(lines.String()), 0o666); err != nil {
		return err
	}
	body := `{"resourceType":"Parameters","parameter":[{"name":"inputFormat","valueString":"application/fhir+ndjson"},` +
		`{"name":"input","part":[{"name":"url","valueUri":"file://` + path + `"}]}]}`
	got, err := c.ask(http.MethodPost, "/$import", body, []int{http.StatusAccepted}, "Prefer", "respond-async")
	if err == nil {
		got, err = c.follow(got)
	}
	if err == nil && !strings.Contains(string(got.body), `"count":50,`) {
		err = fmt.Errorf("not everything was imported: %s", got.body)
	}
	if err != nil {
		return err
	}
	c.crowd.mu.Lock()
	defer c.crowd.mu.Unlock()
	if c.crowd.imported == nil {
		c.crowd.imported = map[string]string{}
	}
	for id, marker := range made {
		c.crowd.imported[id] = marker
	}
	return nil
}

// export exports one type and deletes the job again.
func (c *soakClient) export() error {
	got, err := c.ask(http.MethodGet, "/$export?_type=Patient", "", []int{http.StatusAccepted}, "Prefer", "respond-async", "Accept", "application/fhir+json")
	if err != nil {
		return err
	}
	path := strings.TrimPrefix(got.header.Get("Content-Location"), c.crowd.server.base)
	if _, err := c.follow(got); err != nil {
		return err
	}
	_, err = c.ask(http.MethodDelete, path, "", []int{http.StatusAccepted})
	return err
}
