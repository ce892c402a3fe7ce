package httpapi

import (
	"testing"
	"time"
)

func TestLogLimitCountsWhatItLeavesOut(t *testing.T) {
	l := newLogLimit()
	now := time.Unix(1000, 0)
	f := func(what string, status int, wantOK bool, wantSkipped int) {
		t.Helper()
		if ok, skipped := l.take(status, now); ok != wantOK || skipped != wantSkipped {
			t.Errorf("%s: got %v, %d", what, ok, skipped)
		}
	}
	for range logLinesPerInterval {
		f("first", 507, true, 0)
	}
	f("too many", 507, false, 0)
	f("too many", 507, false, 0)
	f("another status", 500, true, 0)
	now = now.Add(logInterval)
	f("later", 507, true, 2)
	f("later", 507, true, 0)
	now = now.Add(-time.Hour)
	f("a clock that went back", 507, true, 0)
}
