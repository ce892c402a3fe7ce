package httpapi

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/time/rate"

	"kiln/httpapi/audit"
)

const (
	// strangerEventsPerSecond and strangerEventsAhead are how many requests of an address
	// have an event of their own while nobody knows who makes them. Somebody who mistypes
	// a token, and what looks at metadata now and then, is below; a flood of 10,000 a
	// second would fill 30 GB an hour.
	strangerEventsPerSecond = 1
	strangerEventsAhead     = 60

	// strangersEventsPerSecond and strangersEventsAhead bound all addresses together: 70
	// MB an hour, however many there are.
	strangersEventsPerSecond = 20
	strangersEventsAhead     = 1_000

	// strangersMax bounds the addresses that are counted by themselves, some 300 KB. What
	// more there are is counted together.
	strangersMax = 1_000

	// strangersToldEvery is how long what was left out waits to be told: a crash loses
	// that count.
	strangersToldEvery = time.Minute
)

// strangers bound what the audit has of requests by who is not known: no credentials, or
// bad ones. What has no event of its own is counted, and told by one event for each
// address. Those of known clients never come here.
type strangers struct {
	mu      sync.Mutex // guards what follows
	all     *rate.Limiter
	of      map[netip.Prefix]*stranger
	rest    stranger // those beyond strangersMax
	told    time.Time
	leftOut uint64
}

type stranger struct {
	events   *rate.Limiter // nil: no bound of its own
	left     uint64        // since the last summary
	since    time.Time     // the first of those
	statuses map[int]uint64
}

func newStrangers(now time.Time) *strangers {
	return &strangers{all: rate.NewLimiter(strangersEventsPerSecond, strangersEventsAhead), of: map[netip.Prefix]*stranger{}, told: now}
}

// takes tells whether a request of an address gets an event of its own; else it is counted.
func (s *strangers) takes(from netip.Prefix, status int, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.of[from]
	if one == nil && len(s.of) < strangersMax {
		one = &stranger{events: rate.NewLimiter(strangerEventsPerSecond, strangerEventsAhead)}
		s.of[from] = one
	}
	if one == nil {
		one = &s.rest
	}
	if (one.events == nil || one.events.AllowN(now, 1)) && s.all.AllowN(now, 1) {
		return true
	}
	if one.left == 0 {
		one.since, one.statuses = now, map[int]uint64{}
	}
	one.left++
	one.statuses[status]++
	s.leftOut++
	return false
}

// summaries are the events for what was left out since they were told last; none before
// it is time, unless asked for now. Addresses that have come to rest are forgotten.
func (s *strangers) summaries(now time.Time, atOnce bool) (all []*audit.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if since := now.Sub(s.told); !atOnce && since >= 0 && since < strangersToldEvery {
		return nil
	}
	s.told = now
	for from, one := range s.of {
		if one.left > 0 {
			all = append(all, one.summary(from.String(), now))
		} else if one.events.TokensAt(now) >= strangerEventsAhead {
			delete(s.of, from)
		}
	}
	if s.rest.left > 0 {
		all = append(all, s.rest.summary("", now))
	}
	return all
}

// summary is the event for what one has left out; address "": many have.
func (one *stranger) summary(address string, now time.Time) *audit.Event {
	var statuses []string
	for _, status := range slices.Sorted(maps.Keys(one.statuses)) {
		statuses = append(statuses, fmt.Sprintf("%d: %d", status, one.statuses[status]))
	}
	e := &audit.Event{
		Recorded: now, Action: audit.ActionExecute, Type: audit.TypeSecurityAlert, Interaction: "operation", Name: "left-out",
		Status: fasthttp.StatusUnauthorized, Address: address, LeftOut: one.left, Since: one.since, Statuses: strings.Join(statuses, ", "),
	}
	one.left, one.statuses = 0, nil
	return e
}

// isLeftOut tells whether a request has no event of its own: nobody knows who makes it, on
// a server that asks for that, and there were many of its address.
func (x *exchange) isLeftOut(e *audit.Event) bool {
	return x.server.opts.Auth != nil && x.who == nil && e.Subject == "" &&
		!x.server.strangers.takes(addressKey(x.origin().addr).network, e.Status, x.now())
}

// tellStrangers writes down how much was left out, when it is time. While events cannot
// be written it goes on being counted.
func (s *Server) tellStrangers(atOnce bool) {
	if s.opts.Audit == nil || !s.opts.Audit.HasRoom() {
		return
	}
	for _, e := range s.strangers.summaries(s.opts.Now(), atOnce) {
		s.opts.Audit.Write(e)
	}
}

func (s *strangers) count() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leftOut
}
