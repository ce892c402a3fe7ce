package main

import (
	"testing"
	"time"
)

func TestPaceTellsRateAndTimeLeft(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	p := &pace{}
	f := func(after time.Duration, done, total float64, want string) {
		t.Helper()
		if got := p.text(done, total, start.Add(after)); got != want {
			t.Errorf("after %s: %q, want %q", after, got, want)
		}
	}
	// What was read before the first look says nothing about the rate.
	f(0, 400e6, 1000e6, "400.0 of 1000.0 MB")
	f(500*time.Millisecond, 410e6, 1000e6, "410.0 of 1000.0 MB")
	f(2*time.Second, 500e6, 1000e6, "500.0 of 1000.0 MB, 50.0 MB/s, 11 s left")
	f(4*time.Second, 1000e6, 1000e6, "1000.0 of 1000.0 MB, 150.0 MB/s")
	p = &pace{}
	f(0, 0, 1e12, "0.0 of 1000000.0 MB")
	f(2*time.Second, 0, 1e12, "0.0 of 1000000.0 MB") // nothing moves: no rate, no estimate
	f(10*time.Second, 1e9, 1e12, "1000.0 of 1000000.0 MB, 100.0 MB/s, 2 h 46 min left")
	f(100*time.Second, 1e11, 1e12, "100000.0 of 1000000.0 MB, 1000.0 MB/s, 15 min 1 s left")
}

func TestProgressTextsOfTheServer(t *testing.T) {
	f := func(text string, done, total float64, ok bool) {
		t.Helper()
		gotDone, gotTotal, gotOK := readBytes(text)
		if gotDone != done || gotTotal != total || gotOK != ok {
			t.Errorf("%q: %v of %v, %v", text, gotDone, gotTotal, gotOK)
		}
	}
	f("43.1% (220 of 512 bytes)", 220, 512, true)
	f("0.0% (0 of 512 bytes)", 0, 512, true)
	f("43.1%", 0, 0, false)
	f("43.1% (2 of 5 files)", 0, 0, false)
	f("starting: waiting for its turn", 0, 0, false)
	f("220 bytes read", 0, 0, false)
}
