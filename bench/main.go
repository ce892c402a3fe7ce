package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"
)

type commands struct {
	Import  importCommand  `cmd:"" help:"Import into an empty store: resources/s, MB/s, bytes on disk, peak memory."`
	Export  exportCommand  `cmd:"" help:"Export everything at system level and download it."`
	Read    readCommand    `cmd:"" help:"Read random resources: requests/s and latencies."`
	Write   writeCommand   `cmd:"" help:"Create and update resources: requests/s and latencies."`
	History historyCommand `cmd:"" help:"Read histories of single resources, and page through the system's."`
	Search  searchCommand  `cmd:"" help:"Search: counts and first pages, beside PostgreSQL."`
	Grow    growCommand    `cmd:"" help:"Imports, reads, searches, starts, memory and disk of stores that hold the data once and many times."`
	Mixed   mixedCommand   `cmd:"" help:"Create, update, read and page through histories, without and then beside an import: latencies of both."`
	Merge   mergeCommand   `cmd:"" help:"Read, search and create at a fixed rate, by turns while nothing and while runs are merged: latencies and their ratios."`
	Bundle  bundleCommand  `cmd:"" help:"Transaction Bundles of new resources: requests/s and latencies."`
	Crud    crudCommand    `cmd:"" help:"Create, read, update and delete, mixed: requests/s and latencies."`
	All     allCommand     `cmd:"" help:"Run all of them, one after the other, and make the report."`
	Report  reportCommand  `cmd:"" help:"Make tables and a page with plots of what benches wrote."`
	Secure  secureCommand  `cmd:"" help:"Read and create on servers with tokens, TLS, audit and limits, in turns with an open one: what each costs."`
	Bare    bareCommand    `cmd:"" hidden:"" help:"Serve one body from memory: what bench read compares with."`
}

// settings are what every benchmark takes.
type settings struct {
	Data     string `help:"Directory of *.ndjson, *.ndjson.gz and *.ndjson.zst, searched with its folders. Without it, data is generated." type:"existingdir"`
	Patients int    `help:"Patients to generate when there is no --data." default:"300"`
	Seed     uint64 `help:"Seed of everything random." default:"1"`
	JSON     string `help:"Also write the report to this file." name:"json"`
	Kiln     string `help:"Binary to measure. Without it, the one of this source tree is built." type:"existingfile"`
	Work     string `help:"Directory on the disk to measure. Without it, a temporary one." type:"path"`
	Keep     bool   `help:"Leave the work directory in place."`
	Encrypt  bool   `help:"Keep the store encrypted, under a key beside it."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cli commands
	run := kong.Parse(&cli, kong.Name("bench"), kong.Description("Measures a whole Kiln server."), kong.UsageOnError())
	run.BindTo(ctx, (*context.Context)(nil))
	if err := run.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// bench is one benchmark under way.
type bench struct {
	settings
	dir    string // the work directory of this run
	binary string
	keys   string // name of a file; "": stores are plain
	report *report
	// servers are those that were started, to be killed when the benchmark fails.
	servers []*server
}

// runBench sets a benchmark up, lets it be measured, and writes its report.
func (s settings) runBench(ctx context.Context, name string, measure func(b *bench) error) error {
	b, cleanUp, err := s.setUp(ctx, name)
	if err != nil {
		return err
	}
	defer cleanUp()
	if err := measure(b); err != nil {
		return err
	}
	return b.report.save(s.JSON)
}

// setUp makes the work directory and the binary. Call the returned function at
// the end.
func (s settings) setUp(ctx context.Context, name string) (*bench, func(), error) {
	if s.Work != "" {
		if err := os.MkdirAll(s.Work, 0o755); err != nil {
			return nil, nil, err
		}
	}
	dir, err := os.MkdirTemp(s.Work, "kiln-bench-")
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a work directory: %w", err)
	}
	b := &bench{settings: s, dir: dir, binary: s.Kiln, report: newReport(name, dir)}
	cleanUp := func() {
		for _, s := range b.servers {
			s.kill()
		}
		if s.Keep {
			fmt.Fprintln(os.Stderr, "kept", dir)
			return
		}
		os.RemoveAll(dir)
	}
	if s.Encrypt {
		var key [32]byte
		_, _ = rand.Read(key[:]) // never fails
		b.keys = filepath.Join(dir, "encryption.key")
		if err := os.WriteFile(b.keys, fmt.Appendf(nil, "%x\n", key), 0o600); err != nil {
			cleanUp()
			return nil, nil, err
		}
	}
	if b.binary == "" {
		b.binary = filepath.Join(dir, "kiln")
		if err := build(ctx, b.binary); err != nil {
			cleanUp()
			return nil, nil, err
		}
	}
	return b, cleanUp, nil
}
