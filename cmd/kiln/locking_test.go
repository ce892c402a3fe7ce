package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// concurrentClients is how many clients the tests of concurrency run.
const concurrentClients = 64

// incrementsDefault is what fits into every run of the tests; KILN_INCREMENTS
// sets another number.
const incrementsDefault = 200

// TestIncrementsUnderIfMatchLoseNothing lets 64 clients count one resource up,
// each time from the version that they read: version n has the value n, to the
// last of them, so that no update was lost and none was made twice.
func TestIncrementsUnderIfMatchLoseNothing(t *testing.T) {
	t.Parallel()
	increments := int64(incrementsDefault)
	if text := os.Getenv("KILN_INCREMENTS"); text != "" {
		var err error
		if increments, err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, t.TempDir())
	race := counterRace{client: newCrowdClient(), address: s.base + "/Basic/counter", left: increments}
	var running sync.WaitGroup
	for i := range concurrentClients {
		running.Go(func() {
			if err := race.run(); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	running.Wait()
	if t.Failed() {
		t.Fatalf("the server's log:\n%s", s.log)
	}
	t.Logf("%d increments, %d refused", increments, race.refused.Load())
	versions := s.history("/Basic/counter")["counter"]
	if int64(len(versions)) != increments {
		t.Fatalf("%d versions instead of %d", len(versions), increments)
	}
	for i, v := range versions {
		if v != (state{version: int64(i + 1), marker: strconv.Itoa(i + 1)}) {
			t.Fatalf("version %d of %d is %+v", i+1, increments, v)
		}
	}
	if race.refused.Load() == 0 {
		t.Error("no increment was refused: the clients did not meet")
	}
	s.stop()
}

// counterRace is one resource that many clients increment.
type counterRace struct {
	client  *http.Client
	address string
	left    int64 // increments still to make; guarded by mu
	mu      sync.Mutex
	refused atomic.Int64
}

// take reserves an increment.
func (r *counterRace) take() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left--
	return r.left >= 0
}

// run is one client. Every increment it takes it makes, however often it is
// refused. The first creates the resource.
func (r *counterRace) run() error {
	for r.take() {
		for {
			done, err := r.increment()
			if err != nil {
				return err
			}
			if done {
				break
			}
			r.refused.Add(1)
		}
	}
	return nil
}

func (r *counterRace) increment() (done bool, err error) {
	got, err := askWith(r.client, http.MethodGet, r.address, "")
	if err != nil {
		return false, err
	}
	version := int64(0)
	condition := []string{"If-None-Match", "*"}
	if got.status == http.StatusOK {
		if version, err = versionFrom(got); err != nil {
			return false, err
		}
		condition = []string{"If-Match", got.header.Get("ETag")}
	}
	condition = append(condition, "Prefer", "return=minimal")
	got, err = askWith(r.client, http.MethodPut, r.address, basic("counter", strconv.FormatInt(version+1, 10)), condition...)
	switch {
	case err != nil:
		return false, err
	case got.status == http.StatusPreconditionFailed:
		return false, nil
	case got.status/100 != 2:
		return false, fmt.Errorf("increment of version %d: %d %s", version, got.status, got.body)
	}
	if made, err := versionFrom(got); err != nil || made != version+1 {
		return false, fmt.Errorf("increment of version %d made version %d (%v)", version, made, err)
	}
	return true, nil
}

// newCrowdClient keeps a connection for each of the concurrent clients.
func newCrowdClient() *http.Client {
	return &http.Client{
		Timeout:   2 * time.Minute, // an import or export may hold the disk
		Transport: &http.Transport{MaxIdleConnsPerHost: concurrentClients, MaxConnsPerHost: concurrentClients},
	}
}
