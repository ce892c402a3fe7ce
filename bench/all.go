package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type allCommand struct {
	Data    string   `help:"Directory of NDJSON files. Without it, data is generated." type:"existingdir"`
	Short   bool     `help:"Measure little of each, on few generated patients: to see that all works, in less than five minutes."`
	Only    []string `help:"Run only these benches."`
	Out     string   `help:"Directory for the reports (JSON) and the page with plots (report.html)." default:"bench/out" type:"path"`
	Results string   `help:"Write the tables to this file, too." type:"path"`
	Kiln    string   `help:"Binary to measure. Without it, the one of this source tree is built." type:"existingfile"`
	Work    string   `help:"Directory on the disk to measure. Without it, a temporary one." type:"path"`
	missing []string // flags that cannot be had here
}

// scenario is a bench with its arguments; "": it is not in that set. Each has rounds
// enough to have a spread: 5 and more in the full set.
type scenario struct {
	name        string
	short, full string
}

// The flags that need another program.
const (
	withPostgres = "--compare-postgres"
	withDuckDB   = "--compare-duckdb"
)

// scenarios in the order of what a reader asks first.
var scenarios = []scenario{
	{"import", "--runs 3 --again --versions 10 --compare-postgres --compare-duckdb --floors",
		"--runs 5 --again --versions 10 --compare-postgres --compare-duckdb --floors"},
	{"export", "--runs 3 --compare-postgres --compare-duckdb --floors --parts",
		"--runs 5 --compare-postgres --compare-duckdb --floors --parts --by-patient 5 --group 1 --group 10 --group 100 --codings"},
	{"read", "--for 2s --rounds 3", "--for 25s --rounds 5"},
	{"write", "--for 1500ms --rounds 3 --compare-postgres --floors", "--for 15s --rounds 5 --compare-postgres --floors"},
	{"bundle", "--for 2s --rounds 3", "--for 15s --rounds 5"},
	{"crud", "--for 3s --rounds 3", "--for 25s --rounds 5"},
	{"history", "--for 3s --rounds 3 --changed 200 --pages 50", "--for 15s --rounds 5 --pages 200"},
	{"search", "--repetitions 5 --rounds 3 --compare-postgres --compare-duckdb", "--repetitions 100 --rounds 5 --compare-postgres --compare-duckdb"},
	{"grow", "--sizes 1,4 --runs 2 --for 1s", "--sizes 1,4,11,16 --runs 5 --for 3s"},
	{"mixed", "--for 2s --rounds 2 --copies 1", "--for 8s --rounds 5 --copies 2"},
	{"merge", "--copies 12 --rounds 2 --for 2s", "--copies 20 --rounds 5"},
	{"secure", "--for 600ms --rounds 2", "--for 5s --rounds 5"},
}

// shortPatients are few enough for five minutes in all.
const shortPatients = "40"

// Run runs the benches one after the other, each in a process of its own, and makes
// the report of those that ended well.
func (c *allCommand) Run(ctx context.Context) error {
	for _, name := range c.Only {
		if !slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == name }) {
			return fmt.Errorf("cannot run %q: there is no such bench", name)
		}
	}
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return err
	}
	c.missing = missing(ctx)
	if c.Kiln == "" {
		dir, err := os.MkdirTemp(c.Work, "kiln-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		c.Kiln = filepath.Join(dir, "kiln")
		if err := build(ctx, c.Kiln); err != nil {
			return err
		}
	}
	var written []string
	var failed error
	for i := range scenarios {
		arguments := c.arguments(&scenarios[i], c.missing)
		if arguments == nil {
			continue
		}
		if ctx.Err() != nil {
			break // what was measured before is reported all the same
		}
		path := filepath.Join(c.Out, scenarios[i].name+".json")
		if err := c.run(ctx, scenarios[i].name, arguments, path); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		written = append(written, path)
	}
	report := reportCommand{Files: written, HTML: filepath.Join(c.Out, "report.html"), Markdown: c.Results}
	return errors.Join(failed, report.Run())
}

// run runs one of them in a process of its own.
func (c *allCommand) run(ctx context.Context, name string, arguments []string, path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	fmt.Printf("\n=== bench %s\n", strings.Join(arguments, " "))
	cmd := exec.CommandContext(ctx, self, append(slices.Clone(arguments), "--json", path, "--kiln", c.Kiln)...)
	if c.Work != "" {
		cmd.Args = append(cmd.Args, "--work", c.Work)
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("bench %s failed: %w", name, err)
	}
	fmt.Printf("\n=== bench %s took %.0f s\n", name, time.Since(start).Seconds())
	return nil
}

// arguments of a bench, without the flags that need what is missing; nil: it is not
// to be run.
func (c *allCommand) arguments(s *scenario, missing []string) []string {
	flags := s.full
	if c.Short {
		flags = s.short
	}
	if flags == "" || len(c.Only) > 0 && !slices.Contains(c.Only, s.name) {
		return nil
	}
	arguments := []string{s.name}
	for _, flag := range strings.Fields(flags) {
		if !slices.Contains(missing, flag) {
			arguments = append(arguments, flag)
		}
	}
	switch {
	case c.Data != "":
		arguments = append(arguments, "--data", c.Data)
	case c.Short:
		arguments = append(arguments, "--patients", shortPatients)
	}
	return arguments
}

// missing lists the flags whose program is neither here nor can be installed, and says so.
func missing(ctx context.Context) (flags []string) {
	for _, other := range []struct {
		flag    string
		install func(context.Context) error
	}{
		{withPostgres, installPostgres},
		{withDuckDB, func(ctx context.Context) error {
			_, err := installDuckDB(ctx)
			return err
		}},
	} {
		if err := other.install(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "bench: left out %s: %v\n", other.flag, err)
			flags = append(flags, other.flag)
		}
	}
	return flags
}
