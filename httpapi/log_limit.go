package httpapi

import (
	"sync"
	"time"
)

// logLimit keeps a failure that every request meets (a full disk) from filling
// the log, which may lie on the same disk: of each status so many lines an
// interval, then a count.
type logLimit struct {
	mu     sync.Mutex
	kinds  map[int]*logWindow // by status; guarded by mu
	every  time.Duration
	allows int
}

type logWindow struct {
	began   time.Time
	lines   int
	skipped int
}

func newLogLimit() *logLimit {
	return &logLimit{kinds: map[int]*logWindow{}, every: logInterval, allows: logLinesPerInterval}
}

// take says whether a line about a status may be written now, and how many were
// left out since the last one.
func (l *logLimit) take(status int, now time.Time) (ok bool, skipped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.kinds[status]
	if w == nil {
		w = &logWindow{began: now}
		l.kinds[status] = w
	}
	if age := now.Sub(w.began); age >= l.every || age < 0 {
		w.began, w.lines = now, 0
	}
	if w.lines >= l.allows {
		w.skipped++
		return false, 0
	}
	w.lines++
	skipped, w.skipped = w.skipped, 0
	return true, skipped
}
