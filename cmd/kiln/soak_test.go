package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// soakDefault is what fits into every run of the tests; KILN_SOAK sets
	// another duration (make soak: 10m).
	soakDefault = 5 * time.Second

	// soakLong is a run long enough to judge memory: before, the head and the
	// cache of decoded blocks are still filling.
	soakLong = 5 * time.Minute

	// soakShared is how many resources all clients write.
	soakShared = 8

	// settleTime is how long the server may take to let go of what a load held.
	settleTime = time.Minute
	settleLook = 100 * time.Millisecond
)

// TestSoak lets 64 clients do all kinds of things at once. Afterwards every
// acknowledged write is there, the versions of each resource have no gaps, the
// race detector (make soak builds the server with it) saw nothing, and
// goroutines, files and memory are back where they were.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := soakDefault
	if text := os.Getenv("KILN_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	imports := t.TempDir()
	s := serve(t, t.TempDir(), "--import-root", imports)
	crowd := soakCrowd{server: s, imports: imports, client: newCrowdClient(), end: time.Now().Add(length), shared: map[string]*mixed{}}
	before := s.gauges()
	crowd.start()
	watch := watchMemory(s, length)
	crowd.wait()
	memory := watch()
	t.Logf("%d requests in %s: %s", crowd.requests.Load(), length, crowd.mixText())
	if t.Failed() {
		t.Fatalf("the server's log:\n%s", s.log)
	}
	crowd.client.CloseIdleConnections()
	webClient.CloseIdleConnections()
	s.checkSettled(before)
	if length >= soakLong {
		checkMemory(t, memory)
	}
	crowd.check()
	s.stop()
	if log := s.log.String(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panicked") {
		t.Errorf("the server's log:\n%s", log)
	}
}

// start begins with what later goroutines need to know: the shared resources.
// It returns when the clients run.
func (c *soakCrowd) start() {
	for i := range soakShared {
		c.shared[sharedID(i)] = &mixed{acked: map[int64]string{}, pending: map[string]bool{}}
	}
	for i := range concurrentClients {
		client := &soakClient{crowd: c, name: "soak-" + strconv.Itoa(i), random: rand.New(rand.NewPCG(uint64(i), 7)), own: map[string]*resource{}, jobs: i%jobsClients == 0}
		c.clients = append(c.clients, client)
		c.running.Go(client.run)
	}
}

func (c *soakCrowd) wait() { c.running.Wait() }

// check compares the whole store with what the clients were told.
func (c *soakCrowd) check() {
	t := c.server.t
	found := c.server.history("/Basic")
	for _, client := range c.clients {
		for id, r := range client.own {
			if err := r.settle(found[id]); err != nil {
				t.Errorf("Basic/%s: %v", id, err)
			}
			delete(found, id)
		}
	}
	for id, r := range c.shared {
		if err := r.check(found[id], func(string) bool { return false }); err != nil {
			t.Errorf("Basic/%s: %v", id, err)
		}
		if len(found[id]) != len(r.acked) {
			t.Errorf("Basic/%s has %d versions, %d were acknowledged", id, len(found[id]), len(r.acked))
		}
		delete(found, id)
	}
	for id, states := range found {
		t.Errorf("Basic/%s was never written: %v", id, tail(states))
	}
	imported := c.server.history("/Patient")
	for id, marker := range c.imported {
		if got := imported[id]; len(got) != 1 || got[0].marker != marker {
			t.Errorf("Patient/%s is %v; it was imported once", id, tail(got))
		}
	}
}

// ---- what the server holds ----

var gaugeLine = regexp.MustCompile(`(?m)^(go_goroutines|process_open_fds|process_resident_memory_bytes|kiln_store_runs|kiln_store_head_bytes|kiln_http_open_connections) (\S+)$`)

// gauges reads what the server tells of its goroutines, files, memory, runs, head
// and connections.
func (s *server) gauges() map[string]float64 {
	got, err := ask(http.MethodGet, s.root+"/metrics", "")
	if err != nil || got.status != http.StatusOK {
		s.t.Errorf("cannot read the metrics: %v", err)
		return nil
	}
	found := map[string]float64{}
	for _, line := range gaugeLine.FindAllStringSubmatch(string(got.body), -1) {
		found[line[1]], _ = strconv.ParseFloat(line[2], 64)
	}
	if len(found) != 6 {
		s.t.Errorf("the metrics tell of %v only", found)
	}
	return found
}

// settleSlack is what may be left: a flush or a checkpoint under way, the
// workers the HTTP library keeps for a while.
const settleSlack = 12

// checkSettled waits until goroutines and files are back where they were
// before the load, but for a file for each run that was made.
func (s *server) checkSettled(before map[string]float64) {
	s.t.Helper()
	ticker := time.NewTicker(settleLook)
	defer ticker.Stop()
	var now map[string]float64
	for start := time.Now(); time.Since(start) < settleTime; <-ticker.C {
		now = s.gauges()
		runs := max(0, now["kiln_store_runs"]-before["kiln_store_runs"])
		if now["go_goroutines"] <= before["go_goroutines"]+settleSlack &&
			now["process_open_fds"] <= before["process_open_fds"]+settleSlack+runs {
			s.t.Logf("settled after %s: %v, before %v", time.Since(start).Round(settleLook), now, before)
			return
		}
	}
	s.t.Errorf("the load left something behind: %v, before %v", now, before)
}

// watchMemory samples the resident memory some 100 times; the returned
// function gives the samples.
func watchMemory(s *server, length time.Duration) func() []float64 {
	var samples []float64
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(max(length/100, 100*time.Millisecond))
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				samples = append(samples, s.gauges()["process_resident_memory_bytes"])
			}
		}
	})
	return func() []float64 {
		close(stop)
		watching.Wait()
		return samples
	}
}

// memoryGrowthMax is what the last third of a long run may take more than the
// second: the store's resident indexes grow with its runs, and the race
// detector multiplies that.
const memoryGrowthMax = 1.25

func checkMemory(t *testing.T, samples []float64) {
	t.Helper()
	third := len(samples) / 3
	peak := func(part []float64) (highest float64) {
		for _, v := range part {
			highest = max(highest, v)
		}
		return highest
	}
	first, second, last := peak(samples[:third]), peak(samples[third:2*third]), peak(samples[2*third:])
	t.Logf("resident memory at its highest in each third: %.0f, %.0f, %.0f MiB", first/(1<<20), second/(1<<20), last/(1<<20))
	if last > second*memoryGrowthMax {
		t.Errorf("memory does not settle: %.0f MiB, before %.0f MiB", last/(1<<20), second/(1<<20))
	}
}

// mixText says what the clients did.
func (c *soakCrowd) mixText() string {
	total := map[string]int{}
	for _, client := range c.clients {
		for name, n := range client.did {
			total[name] += n
		}
	}
	var text []string
	for _, name := range slices.Sorted(maps.Keys(total)) {
		text = append(text, fmt.Sprintf("%s %d", name, total[name]))
	}
	return strings.Join(text, ", ")
}
