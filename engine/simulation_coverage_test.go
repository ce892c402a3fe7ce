package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// simCoverage counts what the seeds met, so that a simulation which no longer
// gets anywhere is noticed. Shared by all workers.
type simCoverage struct {
	mu   sync.Mutex
	seen map[string]int
}

func newSimCoverage() *simCoverage { return &simCoverage{seen: map[string]int{}} }

func (c *simCoverage) saw(event string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[event]++
}

// simMust are events of which each must happen at least once in simMustSeeds seeds.
var simMust = []string{
	"commit", "commit of several", "commit unchanged", "commit refused by its precondition", "group", "group with a conflict inside",
	"round published", "round of two runs", "round abandoned", "round with conflicts", "round's row dropped", "round's row written again",
	"round with history", "round with a gap", "round below another version", "round beside a flush", "round beside a merge", "round beside another",
	"flush", "checkpoint", "log trimmed", "merge", "merge begun", "merge finished later", "merge given up", "merge of purged rows", "merge of one run, for its purged rows",
	"purge of all", "purge of history", "purge refused by its precondition", "purge while a merge was begun",
	"field added", "indexed again", "indexing begun", "indexing finished later",
	"snapshot read later", "scan read later", "snapshot held over a merge", "snapshot held over a purge", "snapshot held over a flush",
	"read as of an older LSN", "older LSN after a restart", "paged across", "scanned across", "paged across a crash", "scanned across a crash",
	"cursor gone", "closed and opened", "newest checkpoint damaged", "fsck of what a crash left",
	"power cut", "power cut while opening", "power cut while opening twice in a row", "failed while opening",
	"outcome unknown", "outcome unknown, there", "outcome unknown, not there", "process ended, power stays on",
	"crash lost an entry", "crash kept an entry", "crash tore a page", "crash lost a page", "crash kept a page", "crash cut a length",
	"fault input/output error at create", "fault input/output error at open", "fault input/output error at read", "fault input/output error at write",
	"fault input/output error at sync", "fault input/output error at sync dir", "fault input/output error at rename", "fault input/output error at remove",
	"fault input/output error at list", "fault input/output error at stat", "fault short write",
	"fault no space left on device at create", "fault no space left on device at write", "fault no space left on device at preallocate",
	"fault the power was cut at create", "fault the power was cut at write", "fault the power was cut at sync", "fault the power was cut at sync dir",
	"fault the power was cut at rename", "fault the power was cut at remove", "fault the power was cut at preallocate", "fault the power was cut at mkdir",
	"a read failed",
}

// simMustSeeds is how many seeds are enough to meet everything.
const simMustSeeds = 200

// check fails when something never happened, and shows the counts.
func (c *simCoverage) check(t *testing.T, seeds uint64) {
	t.Helper()
	var counts []string
	for _, event := range slices.Sorted(maps.Keys(c.seen)) {
		counts = append(counts, fmt.Sprintf("%9d  %s", c.seen[event], event))
	}
	t.Logf("%d seeds met\n%s", seeds, strings.Join(counts, "\n"))
	for _, event := range simMust {
		if c.seen[event] == 0 && seeds >= simMustSeeds {
			t.Errorf("in %d seeds there was no %q", seeds, event)
		}
	}
}
