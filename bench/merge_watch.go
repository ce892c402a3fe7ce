package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// watchEvery is how often the folder of runs is looked at.
	watchEvery = 10 * time.Millisecond
	// watchQuiet: when no run was being written for so long, there is nothing left to merge.
	watchQuiet = 300 * time.Millisecond
)

// mergeWatch looks from outside at what a server merges: runs that are being
// written have names of their own.
type mergeWatch struct {
	dir string // of the runs

	mu      sync.Mutex // guards what follows
	lengths map[string]int64
	written int64
	busy    time.Duration // with a run under way
}

// follow looks until ctx ends. It calls quiet when merges have ended.
func (w *mergeWatch) follow(ctx context.Context, quiet func()) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	last := time.Now() // when a run was last seen that grows
	for before := last; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if w.look(now.Sub(before)) {
				last = now
			}
			if before = now; now.Sub(last) > watchQuiet {
				quiet()
			}
		}
	}
}

// look adds up what was written since the last look; false when no run is under way.
func (w *mergeWatch) look(since time.Duration) (busy bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	entries, _ := os.ReadDir(w.dir)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".run.tmp") {
			continue
		}
		busy = true
		if info, err := e.Info(); err == nil {
			w.written += info.Size() - w.lengths[e.Name()]
			w.lengths[e.Name()] = info.Size()
		}
	}
	if busy {
		w.busy += since
	}
	return busy
}

// reset begins to count anew.
func (w *mergeWatch) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written, w.busy = 0, 0
}

func (w *mergeWatch) counted() (written int64, busy time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written, w.busy
}

func newMergeWatch(dataDir string) *mergeWatch {
	return &mergeWatch{dir: runsOf(dataDir), lengths: map[string]int64{}}
}

// runsOf is where a data directory has its runs.
func runsOf(dataDir string) string { return filepath.Join(dataDir, "runs") }
