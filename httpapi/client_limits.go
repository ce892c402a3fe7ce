package httpapi

import (
	"container/list"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"
	"golang.org/x/time/rate"

	"kiln/httpapi/auth"
)

const (
	// clientsMax bounds the memory for clients that are told apart, about 4 MB. The one
	// that has not asked for the longest time is forgotten, and begins anew.
	clientsMax = 10_000

	// networkBits is the part of an IPv6 address that a client cannot choose.
	networkBits = 64

	// failuresPerSecond and failuresAhead are how often credentials that prove nothing
	// may come from an address. Checking them costs more than refusing them, and whoever
	// guesses should not get far.
	failuresPerSecond = 10
	failuresAhead     = 100
)

// ClientLimits bound what one client may ask for: the principal, or the address where
// nobody knows who asks. 0: no bound.
type ClientLimits struct {
	RequestsPerSecond float64
	Burst             int // requests at once after a pause; 0: a second's, 1 at least
	Concurrent        int // requests at a time
}

func (l *ClientLimits) check() error {
	if l.RequestsPerSecond < 0 || math.IsNaN(l.RequestsPerSecond) || math.IsInf(l.RequestsPerSecond, 0) || l.Burst < 0 || l.Concurrent < 0 {
		return fmt.Errorf("cannot limit clients to %v requests a second, %d at once, %d at a time", l.RequestsPerSecond, l.Burst, l.Concurrent)
	}
	return nil
}

func (l *ClientLimits) burst() int {
	if l.Burst > 0 {
		return l.Burst
	}
	return int(max(1, min(math.Ceil(l.RequestsPerSecond), math.MaxInt32)))
}

// clientKey tells clients apart: a principal's key, or the network where nobody knows
// who asks. Every request makes one, so it takes no memory of its own.
type clientKey struct {
	principal string
	network   netip.Prefix
}

// clientTable has what each client has used up.
type clientTable struct {
	limits ClientLimits

	mu      sync.Mutex // guards what follows
	clients map[clientKey]*clientUse
	recent  *list.List // of *clientUse, who asked last in front
	refused struct{ rate, concurrent, failures uint64 }
}

type clientUse struct {
	key      clientKey
	rate     *rate.Limiter // nil: no bound
	failures *rate.Limiter // nil: none yet
	active   int
	at       *list.Element
}

func newClientTable(limits ClientLimits) *clientTable {
	return &clientTable{limits: limits, clients: map[clientKey]*clientUse{}, recent: list.New()}
}

// use finds a client, and makes room for it. The caller holds c.mu.
func (c *clientTable) use(key clientKey) *clientUse {
	if u := c.clients[key]; u != nil {
		c.recent.MoveToFront(u.at)
		return u
	}
	if len(c.clients) >= clientsMax {
		c.forget()
	}
	u := &clientUse{key: key}
	if l := &c.limits; l.RequestsPerSecond > 0 {
		u.rate = rate.NewLimiter(rate.Limit(l.RequestsPerSecond), l.burst())
	}
	u.at = c.recent.PushFront(u)
	c.clients[key] = u
	return u
}

// forget drops the client that has not asked for the longest time and asks nothing
// now. There is one: fewer connections may be open than clients are known.
func (c *clientTable) forget() {
	for at := c.recent.Back(); at != nil; at = at.Prev() {
		if u := at.Value.(*clientUse); u.active == 0 {
			c.recent.Remove(at)
			delete(c.clients, u.key)
			return
		}
	}
}

// begin counts a request. A refused one is a *problem; its wait is when to come again.
func (c *clientTable) begin(key clientKey, now time.Time) (u *clientUse, wait time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u = c.use(key)
	if c.limits.Concurrent > 0 && u.active >= c.limits.Concurrent {
		c.refused.concurrent++
		return nil, time.Second, &problem{fasthttp.StatusTooManyRequests, codeThrottled, fmt.Sprintf("%d of your requests are being handled; a client may have no more at a time.", u.active)}
	}
	if u.rate != nil {
		if wait := waitOf(u.rate, now); wait > 0 {
			c.refused.rate++
			return nil, wait, &problem{fasthttp.StatusTooManyRequests, codeThrottled, "You ask more often than a client may; come again later, as Retry-After says."}
		}
	}
	u.active++
	return u, 0, nil
}

// end gives back what begin counted. Who is active is not forgotten meanwhile.
func (c *clientTable) end(u *clientUse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u.active--
}

// waitOf takes one from a limiter; else it is how long until there is one.
func waitOf(l *rate.Limiter, now time.Time) time.Duration {
	r := l.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// mayTry says whether credentials from an address are looked at.
func (c *clientTable) mayTry(key clientKey, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.clients[key]
	if u == nil || u.failures == nil || u.failures.TokensAt(now) >= 1 {
		return nil
	}
	c.refused.failures++
	return &problem{fasthttp.StatusTooManyRequests, codeThrottled, "Too many credentials that prove nothing came from your address; come again later."}
}

// failed notes credentials that proved nothing.
func (c *clientTable) failed(key clientKey, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.use(key)
	if u.failures == nil {
		u.failures = rate.NewLimiter(failuresPerSecond, failuresAhead)
	}
	u.failures.AllowN(now, 1)
}

// addressKey tells addresses apart. Whoever has an IPv6 network has all of it.
func addressKey(addr netip.Addr) clientKey {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = networkBits
	}
	return clientKey{network: netip.PrefixFrom(addr.WithZone(""), bits).Masked()}
}

// limit counts the request for whoever makes it, and refuses one too many. What says
// whether the server is up is never refused.
func (x *exchange) limit() error {
	l := &x.server.opts.ClientLimits
	if l.Concurrent == 0 && l.RequestsPerSecond == 0 || x.isForMachines() {
		return nil
	}
	key := addressKey(x.origin().addr)
	if x.who != nil {
		key = clientKey{principal: x.who.Key()}
	}
	use, wait, err := x.server.clients.begin(key, x.now())
	if err != nil {
		x.retryAfter = retrySeconds(wait)
		return err
	}
	x.limitedAs = use
	return nil
}

// unlimit gives back what limit counted.
func (x *exchange) unlimit() {
	if x.limitedAs != nil {
		x.server.clients.end(x.limitedAs)
	}
}

func (x *exchange) isForMachines() bool {
	switch x.addr.place {
	case placeHealth, placeReady, placeMetrics:
		return true
	}
	return false
}

// retrySeconds rounds up, as Retry-After has whole seconds.
func retrySeconds(wait time.Duration) string {
	return strconv.FormatInt(int64(max(1, math.Ceil(wait.Seconds()))), 10)
}

// writeTokenMetrics tells how often a token needed no check of its signature.
func (s *Server) writeTokenMetrics(w io.Writer) {
	if a, ok := s.opts.Auth.(*auth.Authenticator); ok {
		known, anew := a.Checks()
		metrics.WriteCounterUint64(w, `kiln_auth_tokens_total{checked="before"}`, known)
		metrics.WriteCounterUint64(w, `kiln_auth_tokens_total{checked="anew"}`, anew)
	}
}

func (c *clientTable) writeMetrics(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	metrics.WriteGaugeUint64(w, "kiln_clients_known", uint64(len(c.clients)))
	metrics.WriteCounterUint64(w, `kiln_client_refusals_total{limit="rate"}`, c.refused.rate)
	metrics.WriteCounterUint64(w, `kiln_client_refusals_total{limit="concurrent"}`, c.refused.concurrent)
	metrics.WriteCounterUint64(w, `kiln_client_refusals_total{limit="credentials"}`, c.refused.failures)
}
