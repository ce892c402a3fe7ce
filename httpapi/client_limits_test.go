package httpapi

import (
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/httpapi/access"
)

func TestWhoAsksTooOftenIsToldWhenToComeAgain(t *testing.T) {
	var ahead atomic.Int64
	start := time.Now()
	s := newBareServer(t, func(o *Options) {
		o.ClientLimits = ClientLimits{RequestsPerSecond: 0.5, Burst: 2}
		o.TrustedProxies = proxies(t, false, "127.0.0.1")
		o.Now = func() time.Time { return start.Add(time.Duration(ahead.Load())) }
	})
	f := func(from, path string, status int) *answer {
		t.Helper()
		got := s.do(t, "GET", path, "", "X-Forwarded-For: "+from)
		if got.status != status {
			t.Errorf("%s %s: got %d instead of %d", from, path, got.status, status)
		}
		return got
	}
	f("192.0.2.1", "/fhir/metadata", 200)
	f("192.0.2.1", "/fhir/metadata", 200)
	got := f("192.0.2.1", "/fhir/metadata", 429)
	if code, _ := got.outcome(t); code != "throttled" || got.header.Get("Retry-After") != "2" {
		t.Errorf("got %s, Retry-After %q", code, got.header.Get("Retry-After"))
	}
	f("192.0.2.1", "/readyz", 200) // is never refused
	f("192.0.2.2", "/fhir/metadata", 200)
	f("2001:db8::1", "/fhir/metadata", 200)
	f("2001:db8::2", "/fhir/metadata", 200)
	f("2001:db8::3", "/fhir/metadata", 429) // of the same network
	f("2001:db8:0:1::1", "/fhir/metadata", 200)
	ahead.Store(int64(2 * time.Second))
	f("192.0.2.1", "/fhir/metadata", 200)
	f("192.0.2.1", "/fhir/metadata", 429)
	if text := f("192.0.2.9", "/metrics", 200).body; !strings.Contains(text, `kiln_client_refusals_total{limit="rate"} 3`) {
		t.Error("the refusals are not counted")
	}
}

func TestAClientHasSoManyRequestsAtATime(t *testing.T) {
	c := newClientTable(ClientLimits{Concurrent: 2})
	now := time.Now()
	f := func(key string, works bool) *clientUse {
		t.Helper()
		use, _, err := c.begin(clientKey{principal: key}, now)
		if (err == nil) != works {
			t.Errorf("%s: %v", key, err)
		}
		return use
	}
	use := f("a", true)
	f("a", true)
	f("a", false)
	f("b", true)
	c.end(use)
	f("a", true)
	f("a", false)
}

// TestManyAddressesDoNotGrowTheTable asks from more addresses than are kept: those
// that ask at the moment are kept, and so is who asked last.
func TestManyAddressesDoNotGrowTheTable(t *testing.T) {
	c := newClientTable(ClientLimits{RequestsPerSecond: 1, Burst: 1, Concurrent: 1})
	now := time.Now()
	busy := addressKey(netip.MustParseAddr("192.0.2.1"))
	if _, _, err := c.begin(busy, now); err != nil {
		t.Fatal(err)
	}
	last := netip.MustParseAddr("198.18.0.0")
	for range 3 * clientsMax {
		last = last.Next()
		use, _, err := c.begin(addressKey(last), now)
		if err != nil {
			t.Fatal(err)
		}
		c.end(use)
	}
	if len(c.clients) != clientsMax || c.recent.Len() != clientsMax {
		t.Errorf("%d clients are known, %d in order", len(c.clients), c.recent.Len())
	}
	if _, _, err := c.begin(busy, now); err == nil {
		t.Error("who was busy is forgotten")
	}
	if _, _, err := c.begin(addressKey(last), now); err == nil {
		t.Error("who asked last is forgotten")
	}
}

// TestAddressesAreToldApart: whoever has an IPv6 network has all of it.
func TestAddressesAreToldApart(t *testing.T) {
	f := func(a, b string, same bool) {
		t.Helper()
		if (addressKey(netip.MustParseAddr(a)) == addressKey(netip.MustParseAddr(b))) != same {
			t.Errorf("%s and %s", a, b)
		}
	}
	f("192.0.2.1", "192.0.2.1", true)
	f("192.0.2.1", "192.0.2.2", false)
	f("2001:db8::1", "2001:db8::ffff:1", true)
	f("2001:db8::1", "2001:db8:0:1::1", false)
	f("fe80::1%eth0", "fe80::2%eth1", true)
	if addressKey(netip.Addr{}) == addressKey(netip.MustParseAddr("0.0.0.0")) {
		t.Error("an unknown address is taken for one")
	}
}

func TestAnswersGiveTheirPlaceBack(t *testing.T) {
	s := newBareServer(t, func(o *Options) { o.ClientLimits = ClientLimits{Concurrent: 1} })
	for _, path := range []string{"/fhir/metadata", "/nowhere", "/fhir/Patient/a?x", "/fhir/metadata"} {
		if got := s.do(t, "GET", path, ""); got.status == 429 {
			t.Errorf("%s: %s", path, got.body)
		}
	}
}

// refuser finds all credentials wrong, and counts how many it looked at.
type refuser struct{ looked atomic.Int64 }

func (r *refuser) Authenticate(*fasthttp.RequestCtx) (*access.Principal, error) {
	r.looked.Add(1)
	return nil, &access.CredentialsError{Code: "invalid_token", Text: "no", Cause: errors.New("no")}
}

func TestGuessedCredentialsAreNotLookedAtForEver(t *testing.T) {
	who, start := new(refuser), time.Now()
	s := newBareServer(t, func(o *Options) { o.Auth, o.Now = who, func() time.Time { return start } })
	var last *answer
	for range failuresAhead + 5 {
		last = s.do(t, "GET", "/fhir/Patient/a", "", "Authorization: Bearer x")
	}
	if last.status != 429 || who.looked.Load() != failuresAhead {
		t.Errorf("the last is %d after %d were looked at", last.status, who.looked.Load())
	}
}

func TestLimitsThatAreNoneAreRefused(t *testing.T) {
	for _, l := range []ClientLimits{{RequestsPerSecond: -1}, {Burst: -1}, {Concurrent: -1}} {
		if l.check() == nil {
			t.Errorf("%+v is taken", l)
		}
	}
}
