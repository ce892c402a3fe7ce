package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// keyServer serves a key set that a test changes.
type keyServer struct {
	*httptest.Server
	asked atomic.Int64

	mu      sync.Mutex
	kids    []string
	control string
	down    bool
}

func newKeyServer(t *testing.T, kids ...string) *keyServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &keyServer{kids: kids}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.down {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("Cache-Control", s.control)
		var set jose.JSONWebKeySet
		for _, kid := range s.kids {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: &key.PublicKey, KeyID: kid})
		}
		if err := json.NewEncoder(w).Encode(set); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// testClock is a clock that a test moves.
type testClock struct{ at atomic.Int64 }

func newTestClock() *testClock {
	c := &testClock{}
	c.at.Store(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *testClock) now() time.Time        { return time.Unix(0, c.at.Load()) }
func (c *testClock) pass(by time.Duration) { c.at.Add(int64(by)) }

// keysOf are the server's keys behind a clock, and a check of what is found.
func keysOf(t *testing.T, s *keyServer) (*testClock, *remoteKeys, func(what, kid string, found bool, asked int64)) {
	t.Helper()
	clock, from := newTestClock(), newFetcher()
	keys := &remoteKeys{name: "test", now: clock.now, logger: slog.New(slog.DiscardHandler)}
	keys.load = func(ctx context.Context) (*keySet, time.Duration, error) { return loadKeySet(ctx, from, s.URL) }
	return clock, keys, func(what, kid string, found bool, asked int64) {
		t.Helper()
		set, err := keys.keysFor(context.Background(), kid)
		if got := err == nil && set.find(kid, jose.ES256) != nil; got != found || s.asked.Load() != asked {
			t.Errorf("%s: found %v (%v), asked %d times; want %v, %d", what, got, err, s.asked.Load(), found, asked)
		}
	}
}

func TestKeysAreKeptAndRenewed(t *testing.T) {
	s := newKeyServer(t, "a")
	s.control = "public, max-age=60"
	clock, _, f := keysOf(t, s)
	f("first use", "a", true, 1)
	clock.pass(59 * time.Second)
	f("within the minute", "a", true, 1)
	clock.pass(time.Second)
	f("after it", "a", true, 2)
	s.set(func() { s.kids = []string{"b"} })
	clock.pass(5 * time.Second)
	f("a new key, too soon after the last question", "b", false, 2)
	clock.pass(5 * time.Second)
	f("a new key", "b", true, 3)
	f("the old one is gone", "a", false, 3)
	for range 20 {
		f("keys that nobody has are asked for once", "x", false, 3)
	}
	clock.pass(fetchIntervalMin)
	f("and once more later", "x", false, 4)
}

func TestCacheControlHasBounds(t *testing.T) {
	f := func(control string, want time.Duration) {
		t.Helper()
		if got := keepFor(cacheAge(http.Header{"Cache-Control": {control}})); got != want {
			t.Errorf("%q: kept for %s, want %s", control, got, want)
		}
	}
	f("", keysAgeDefault)
	f("max-age=300", 5*time.Minute)
	f(`public, Max-Age="300", must-revalidate`, 5*time.Minute)
	f("max-age=1", keysAgeMin)
	f("max-age=31536000", keysAgeMax)
	f("max-age=99999999999999", keysAgeDefault)
	f("max-age=-1", keysAgeDefault)
	f("no-store", keysAgeMin)
	f("max-age=300, no-cache", keysAgeMin)
}

func TestKeysOutliveAnOutage(t *testing.T) {
	s := newKeyServer(t, "a")
	s.control = "max-age=60"
	clock, keys, f := keysOf(t, s)
	f("first use", "a", true, 1)
	s.set(func() { s.down = true })
	clock.pass(time.Minute)
	f("the issuer is down", "a", true, 2)
	f("and is not asked again at once", "a", true, 2)
	clock.pass(keysStaleMax)
	settle(keys)
	if _, err := keys.keysFor(context.Background(), "a"); !errors.Is(err, ErrKeysAway) {
		t.Errorf("after %s: %v", keysStaleMax, err)
	}
	settle(keys)
	s.set(func() { s.down = false })
	clock.pass(fetchIntervalMin)
	asked := s.asked.Load()
	_, _ = keys.keysFor(context.Background(), "a") // nobody waits for an issuer that was down
	settle(keys)
	f("it is back", "a", true, asked+1)
}

// settle waits for the question under way.
func settle(keys *remoteKeys) {
	keys.mu.Lock()
	flight := keys.flight
	keys.mu.Unlock()
	if flight != nil {
		<-flight
	}
}

func TestOneQuestionForAll(t *testing.T) {
	s := newKeyServer(t, "a")
	_, keys, _ := keysOf(t, s)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := keys.keysFor(context.Background(), "a"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if s.asked.Load() != 1 {
		t.Errorf("asked %d times", s.asked.Load())
	}
}

func TestDocumentsAreBounded(t *testing.T) {
	other := newKeyServer(t, "a")
	redirects := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/other":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/round":
			redirects++
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/once":
			http.Redirect(w, r, "/set", http.StatusFound)
		case "/set":
			fmt.Fprint(w, `{"keys":[]}`)
		case "/large":
			fmt.Fprint(w, `{"keys":[`, strings.Repeat(" ", fetchBytesMax), `]}`)
		case "/many":
			fmt.Fprint(w, `{"keys":[`, strings.Repeat(`{"kty":"x"},`, keysMax), `{"kty":"x"}]}`)
		case "/deep":
			fmt.Fprint(w, `{"keys":`, strings.Repeat("[", 1000), strings.Repeat("]", 1000), `}`)
		}
	}))
	t.Cleanup(s.Close)
	f := func(path, want string) {
		t.Helper()
		_, _, err := loadKeySet(context.Background(), newFetcher(), s.URL+path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %q", path, err, want)
		}
	}
	f("/once", "")
	f("/other", "another host")
	f("/round", "on and on")
	f("/large", "more than")
	f("/many", "more than 100 keys")
	f("/deep", "deep")
	f("/missing", "no object")
	if redirects != redirectsMax+1 {
		t.Errorf("followed %d redirects", redirects)
	}
	if _, _, err := loadKeySet(context.Background(), newFetcher(), "http://keys.example/"); err == nil {
		t.Error("keys came by plain http")
	}
}
