package httpapi

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A flood of who is not known has some events and one that counts the rest; who is known
// has all of its own.
func TestAFloodOfStrangersIsCounted(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := newRecorded(t, func(o *Options) {
		o.Auth, o.Now = clients(t), func() time.Time { return at }
	})
	const each = 2 * strangerEventsAhead
	for range each {
		r.as(t, "", "GET", "/fhir/Patient/a", "")
		r.as(t, "reader", "GET", "/fhir/Patient/a", "")
		r.as(t, "nobody", "GET", "/fhir/Patient/a", "")
	}
	r.as(t, "guessed", "GET", "/fhir/Patient/a", "")
	r.tellStrangers(false) // it is not time
	r.tellStrangers(true)
	r.tellStrangers(true) // nothing new
	got := map[string]int{}
	for _, line := range r.lines(t) {
		got[summary(t, line)]++
	}
	if got["read R 404 Patient/a a"] != each || got["read R 403 Patient/a a"] != each || got["read R 401 Patient/a a"] != strangerEventsAhead || len(got) != 3 {
		t.Errorf("got %v", got)
	}
	const left = each + 1 - strangerEventsAhead
	if len(r.more) != 1 || !strings.Contains(r.more[0], fmt.Sprintf(`{"type":"requests","valueString":"%d"},{"type":"since","valueString":"2026-01-02T03:04:05.000Z"},{"type":"statuses","valueString":"401: %d"}`, left, left)) ||
		!strings.Contains(r.more[0], `"code":"110113"`) || !strings.Contains(r.more[0], `"address":"127.0.0.1/32"`) {
		t.Errorf("got %v", r.more)
	}
	if r.strangers.count() != left {
		t.Errorf("%d are counted", r.strangers.count())
	}
}

// On an open server nobody is known, and all have their events.
func TestAnOpenServerLeavesNothingOut(t *testing.T) {
	r := newRecorded(t, nil)
	for range 2 * strangerEventsAhead {
		r.do(t, "GET", "/fhir/Patient/a", "")
	}
	r.tellStrangers(true)
	if n := len(r.lines(t)); n != 2*strangerEventsAhead || len(r.more) > 0 {
		t.Errorf("%d events of requests, and %v", n, r.more)
	}
}

// However many addresses a flood comes from, no request of it is lost: it has an event,
// or is counted; and the events and what is remembered are bounded.
func TestFloodsFromManyAddressesAreBounded(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newStrangers(now)
	var single, summaries, counted uint64
	tell := func(atOnce bool) {
		for _, e := range s.summaries(now, atOnce) {
			summaries++
			counted += e.LeftOut
		}
	}
	const minutes, requests = 60, 10_000
	n := 0
	for range minutes {
		for i := range requests {
			n++
			from := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
			if s.takes(from, 401, now) {
				single++
			}
			if i%1000 == 0 {
				now = now.Add(6 * time.Second)
				tell(false)
			}
		}
	}
	tell(true)
	if single+counted != minutes*requests || counted != s.count() {
		t.Errorf("%d events and %d counted, of %d", single, counted, minutes*requests)
	}
	if most := uint64(strangersEventsAhead + 3600*strangersEventsPerSecond); single > most || summaries > (minutes+1)*(strangersMax+1) || len(s.of) > strangersMax {
		t.Errorf("%d events, %d summaries, %d addresses remembered", single, summaries, len(s.of))
	}
	now = now.Add(time.Hour)
	if tell(true); len(s.of) > 0 {
		t.Errorf("%d addresses are remembered an hour later", len(s.of))
	}
}

// What an hour of a flood from one address writes.
func TestAnHourOfAFlood(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newStrangers(now)
	from := netip.MustParsePrefix("192.0.2.1/32")
	var events int
	for range 3600 {
		now = now.Add(time.Second)
		for range 100 {
			if s.takes(from, 401, now) {
				events++
			}
		}
		events += len(s.summaries(now, false))
	}
	if events > 3600+strangerEventsAhead+60 {
		t.Errorf("%d events", events)
	}
}
