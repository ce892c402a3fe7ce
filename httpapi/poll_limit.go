package httpapi

import (
	"sync"
	"time"
)

// pollLimit holds back who asks for the status of one export without a pause.
// Jobs share a bucket pollBuckets apart; the one that is asked for last has it, so
// that sharing only ever allows more.
type pollLimit struct {
	mu      sync.Mutex // guards what follows
	buckets [pollBuckets]pollBucket
}

// pollBucket is what a job's polls have used up: their time, pollInterval each,
// is paid until an instant.
type pollBucket struct {
	job  int64
	paid int64 // UTC nanoseconds
}

// take counts a poll; false: it is one too many.
func (l *pollLimit) take(job int64, at time.Time) bool {
	now := at.UnixNano()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.buckets[uint64(job)%pollBuckets]
	if b.job != job {
		*b = pollBucket{job: job}
	}
	b.paid = max(b.paid, now)
	if b.paid-now > int64(pollsAhead*pollInterval) {
		return false
	}
	b.paid += int64(pollInterval)
	return true
}
