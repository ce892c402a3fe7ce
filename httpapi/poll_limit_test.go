package httpapi

import (
	"testing"
	"time"
)

func TestPollsAreHeldBackJobByJob(t *testing.T) {
	limit, at := new(pollLimit), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	taken := func(job int64) (n int) {
		for n < 10*pollsAhead && limit.take(job, at) {
			n++
		}
		return n
	}
	f := func(what string, job int64, want int) {
		t.Helper()
		if n := taken(job); n != want {
			t.Errorf("%s: %d polls, not %d", what, n, want)
		}
	}
	f("at once", 1, pollsAhead+1)
	f("no time later", 1, 0)
	f("another job", 2, pollsAhead+1)
	at = at.Add(time.Second)
	f("a second later", 1, int(time.Second/pollInterval))
	at = at.Add(time.Hour)
	f("much later", 1, pollsAhead+1)
	f("a job that shares a bucket", 1+pollBuckets, pollsAhead+1)
	f("no job", 0, pollsAhead+1)
}
