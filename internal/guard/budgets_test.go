package guard

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const budgetsFile = "testdata/budgets.txt"

const budgetsHead = `# What one operation of each hot path may take: allocations, bytes allocated, and
# instructions counted by valgrind ("-": not counted). Written by
# make guard UPDATE=1; each path's tolerance stands beside it in the tests.
`

// cost is what one operation takes.
type cost struct {
	allocs, bytes float64
	instructions  float64 // negative: not counted
}

// budgets are the lines of the file by path, and the Go version and processor that
// the instructions were counted with.
type budgets struct {
	counted string
	paths   map[string]cost
}

func readBudgets(tb testing.TB) *budgets {
	tb.Helper()
	b := &budgets{paths: map[string]cost{}}
	text, err := os.ReadFile(budgetsFile)
	if err != nil {
		tb.Fatalf("cannot read the budgets: %v", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		if counted, ok := strings.CutPrefix(line, "counted with "); ok {
			b.counted = counted
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 4 {
			tb.Fatalf("%s: %q is not a path, allocations, bytes and instructions", budgetsFile, line)
		}
		b.paths[fields[0]] = cost{number(tb, fields[1]), number(tb, fields[2]), number(tb, fields[3])}
	}
	return b
}

// number parses a field; "-" is -1.
func number(tb testing.TB, text string) float64 {
	tb.Helper()
	if text == "-" {
		return -1
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		tb.Fatalf("%s: %q is not a number", budgetsFile, text)
	}
	return n
}

// write puts the paths in the order of the table of paths.
func (b *budgets) write(tb testing.TB) {
	tb.Helper()
	out := []byte(budgetsHead)
	if b.counted != "" {
		out = fmt.Appendf(out, "counted with %s\n", b.counted)
	}
	for i := range hotPaths {
		name := hotPaths[i].name
		c, ok := b.paths[name]
		if !ok {
			continue
		}
		instructions := "-"
		if c.instructions >= 0 {
			instructions = strconv.FormatFloat(c.instructions, 'f', 0, 64)
		}
		out = fmt.Appendf(out, "%-18s %9.2f %11.1f %9s\n", name, c.allocs, c.bytes, instructions)
	}
	if err := os.WriteFile(budgetsFile, out, 0o644); err != nil {
		tb.Fatalf("cannot write the budgets: %v", err)
	}
}

// check compares what was measured with the budget, which may be exceeded by the
// share slack and by least, what rounding hides.
func check(tb testing.TB, path, what string, got, budget, slack, least float64) {
	tb.Helper()
	switch {
	case got > budget*(1+slack)+least:
		tb.Errorf("%s: %.2f %s an operation, %.2f budgeted: %s. If that must be so, write the budgets anew: make guard UPDATE=1",
			path, got, what, budget, rise(got, budget))
	case got < budget*(1-slack)-least:
		tb.Logf("%s: %.2f %s an operation, %.2f budgeted: %s. Hold it: make guard UPDATE=1", path, got, what, budget, rise(got, budget))
	}
}

func rise(got, budget float64) string {
	if budget == 0 {
		return fmt.Sprintf("%+.2f", got-budget)
	}
	return fmt.Sprintf("%+.2f, %+.1f %%", got-budget, 100*(got/budget-1))
}

func TestEveryPathHasABudget(t *testing.T) {
	b := readBudgets(t)
	for i := range hotPaths {
		if _, ok := b.paths[hotPaths[i].name]; !ok {
			t.Errorf("%s has no budget: make guard UPDATE=1", hotPaths[i].name)
		}
	}
	for name := range b.paths {
		if !slices.ContainsFunc(hotPaths, func(p hotPath) bool { return p.name == name }) {
			t.Errorf("%s has a budget and is no path: make guard UPDATE=1", name)
		}
	}
}
