package guard

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// The environment says what is done: nothing, and allocations are checked.
const (
	envUpdate = "KILN_GUARD_UPDATE" // not empty: the budgets are written anew
	envCount  = "KILN_GUARD_COUNT"  // not empty: instructions are counted too
	envWork   = "KILN_GUARD_WORK"   // PATH TIMES: the work that valgrind watches
)

const (
	// warmUps fill pools and caches.
	warmUps = 2
	// measurements are made, and the lowest counts: what goes on beside (a timer, the
	// runtime) only adds.
	measurements = 3
	// sizeClassBytes may be added by a struct that grew into the next size class; an
	// allocation more is seen by their number.
	sizeClassBytes = 128
)

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations are others under the race detector; make check runs this without")
	}
	b := readBudgets(t)
	for i := range hotPaths {
		p := &hotPaths[i]
		t.Run(p.name, func(t *testing.T) {
			got := p.allocations(t)
			old, known := b.paths[p.name]
			if os.Getenv(envUpdate) != "" {
				if !known {
					old.instructions = -1
				}
				b.paths[p.name] = cost{got.allocs, got.bytes, old.instructions}
				return
			}
			check(t, p.name, "allocations", got.allocs, old.allocs, p.slack, 0.006)
			check(t, p.name, "bytes", got.bytes, old.bytes, p.slack, sizeClassBytes)
		})
	}
	if os.Getenv(envUpdate) != "" {
		b.write(t)
	}
}

// allocations measures with one processor and without collections, which empty
// pools.
func (p *hotPath) allocations(tb testing.TB) cost {
	work := p.open(tb)
	for range warmUps {
		work()
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	lowest := cost{allocs: -1}
	for range measurements {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range p.times {
			work()
		}
		runtime.ReadMemStats(&after)
		ops := float64(p.times * p.ops)
		got := cost{allocs: float64(after.Mallocs-before.Mallocs) / ops, bytes: float64(after.TotalAlloc-before.TotalAlloc) / ops}
		if lowest.allocs < 0 || got.allocs < lowest.allocs {
			lowest = got
		}
	}
	return lowest
}

// TestInstructions counts what a run of this program takes that does the work many
// times and takes away what one takes that does it once.
func TestInstructions(t *testing.T) {
	if os.Getenv(envCount) == "" {
		t.Skipf("counting instructions takes minutes: make guard, or %s=1", envCount)
	}
	if _, err := exec.LookPath("valgrind"); err != nil {
		t.Skipf("instructions are not counted, as there is no valgrind: %v", err)
	}
	b := readBudgets(t)
	update := os.Getenv(envUpdate) != ""
	if here := countedHere(); here != b.counted && !update {
		t.Skipf("the instructions were counted with %s, and this is %s: other code. Count anew before a change: make guard UPDATE=1", b.counted, here)
	}
	for i := range hotPaths {
		p := &hotPaths[i]
		t.Run(p.name, func(t *testing.T) {
			got := p.instructions(t)
			if update {
				old := b.paths[p.name]
				b.paths[p.name] = cost{old.allocs, old.bytes, got}
				return
			}
			check(t, p.name, "instructions", got, b.paths[p.name].instructions, p.instructionSlack, 1)
		})
	}
	if update {
		b.counted = countedHere()
		b.write(t)
	}
}

// countedHere is what the machine code depends on. A patch release of Go counts as
// the same.
func countedHere() string {
	version := strings.Join(strings.SplitN(runtime.Version(), ".", 3)[:2], ".")
	return version + " " + runtime.GOARCH
}

func (p *hotPath) instructions(tb testing.TB) float64 {
	few, many := p.counted(tb, p.countFrom), p.counted(tb, p.countFrom+p.countTimes)
	return float64(many-few) / float64(p.countTimes*p.ops)
}

var instructionRefs = regexp.MustCompile(`I\s+refs:\s+([0-9,]+)`)

// counted is how many instructions this program takes to do the work so many times.
func (p *hotPath) counted(tb testing.TB, times int) int64 {
	tb.Helper()
	cmd := exec.Command("valgrind", "--tool=cachegrind", "--cache-sim=no", "--branch-sim=no", "--cachegrind-out-file=/dev/null",
		os.Args[0], "-test.run", "^TestWork$", "-test.count", "1")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1", fmt.Sprintf("%s=%s %d", envWork, p.name, times))
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("cannot count %s: %v\n%s", p.name, err, out)
	}
	found := instructionRefs.FindSubmatch(out)
	if found == nil {
		tb.Fatalf("valgrind counted nothing:\n%s", out)
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(string(found[1]), ",", ""), 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// TestWork is what valgrind watches.
func TestWork(t *testing.T) {
	name, text, ok := strings.Cut(os.Getenv(envWork), " ")
	if !ok {
		t.Skip("only for TestInstructions")
	}
	times, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range hotPaths {
		if p := &hotPaths[i]; p.name == name {
			work := p.open(t)
			for range times {
				work()
			}
			return
		}
	}
	t.Fatalf("there is no path %s", name)
}
