package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed postgres.sh
var postgresScript []byte

// postgres is a private cluster below the work directory, reached through a
// socket there. postgres.sh says how it is set up.
type postgres struct {
	script, dir string
	socket      string
}

// How a cluster is set up.
const (
	forBulk   = "bulk"     // memory and checkpoint distance for a bulk load
	asItComes = "defaults" // nothing but the place of the socket
)

// installPostgres sees that its programs are there.
func installPostgres(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "bash", "-s", "install")
	cmd.Stdin = bytes.NewReader(postgresScript)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot have PostgreSQL: %w\n%s", err, out)
	}
	return nil
}

func startPostgres(ctx context.Context, workDir, settings string) (*postgres, error) {
	p := &postgres{script: filepath.Join(workDir, "postgres.sh"), dir: filepath.Join(workDir, "postgres")}
	if err := os.WriteFile(p.script, postgresScript, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "bash", p.script, "start", p.dir, settings)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot start PostgreSQL: %w", err)
	}
	p.socket = strings.TrimSpace(string(out))
	return p, nil
}

func (p *postgres) stop() error {
	out, err := exec.Command("bash", p.script, "stop", p.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot stop PostgreSQL: %w\n%s", err, out)
	}
	return nil
}

// psql runs statements as one session and gives the last line it printed.
func (p *postgres) psql(ctx context.Context, statements ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "psql", "-h", p.socket, "-U", "postgres", "-d", "postgres", "-X", "-qAt", "-v", "ON_ERROR_STOP=1", "-f", "-")
	cmd.Stdin = strings.NewReader(strings.Join(statements, ";\n") + ";\n")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot run psql: %w\n%s", err, stderr.Bytes())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1], nil
}

type copyResult struct {
	rows                   int64
	took, indexTook        time.Duration // indexTook 0: none was built
	cpuSeconds             float64       // of the server processes that did the COPY
	tableBytes, indexBytes int64
}

// copyFiles loads the files into a new table. With several connections each
// takes about the same number of bytes, whole files only.
func (p *postgres) copyFiles(ctx context.Context, files []string, connections int, index bool) (r copyResult, err error) {
	// Nothing of the run before may still be written out while this one is measured.
	if _, err = p.psql(ctx, "drop table if exists resources", "create table resources (doc jsonb not null)", "checkpoint"); err != nil {
		return r, err
	}
	parts, err := balance(files, connections)
	if err != nil {
		return r, err
	}
	start := time.Now()
	if r.cpuSeconds, err = p.copyParts(ctx, parts); err != nil {
		return r, err
	}
	r.took = time.Since(start)
	if r.rows, err = p.number(ctx, "select count(*) from resources"); err != nil {
		return r, err
	}
	if r.tableBytes, err = p.number(ctx, "select pg_total_relation_size('resources')"); err != nil || !index {
		return r, err
	}
	start = time.Now()
	if _, err = p.psql(ctx, "create index resources_doc on resources using gin (doc jsonb_path_ops)"); err != nil {
		return r, err
	}
	r.indexTook = time.Since(start)
	r.indexBytes, err = p.number(ctx, "select pg_relation_size('resources_doc')")
	return r, err
}

// copyParts copies each part over a connection of its own, all at once.
func (p *postgres) copyParts(ctx context.Context, parts [][]string) (cpuSeconds float64, err error) {
	type outcome struct {
		cpuSeconds float64
		err        error
	}
	done := make(chan outcome, len(parts))
	for _, part := range parts {
		go func() {
			stat, err := p.psql(ctx, copyStatements(part)...)
			if err != nil {
				done <- outcome{0, err}
				return
			}
			seconds, err := processorSeconds(stat)
			done <- outcome{seconds, err}
		}()
	}
	for range parts {
		ended := <-done
		cpuSeconds += ended.cpuSeconds
		err = errors.Join(err, ended.err)
	}
	return cpuSeconds, err
}

// processorSeconds reads user and system ticks (1/100 s) out of a /proc/PID/stat:
// fields 14 and 15, counted from the name in parentheses as the second.
func processorSeconds(stat string) (float64, error) {
	_, rest, _ := strings.Cut(stat, ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("cannot read processor time out of %q", stat)
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return float64(user+system) / 100, err
}

func (p *postgres) number(ctx context.Context, query string) (int64, error) {
	text, err := p.psql(ctx, query)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// copyStatements is one transaction, and then the session's own processor
// time. CSV with a quote and a delimiter that no
// JSON text holds takes every line as it is.
func copyStatements(files []string) []string {
	statements := []string{"begin"}
	for _, path := range files {
		name := strings.ReplaceAll(path, "'", "''")
		statements = append(statements, "copy resources from '"+name+"' with (format csv, quote e'\\x01', delimiter e'\\x02')")
	}
	return append(statements, "commit", "select pg_read_file('/proc/self/stat')")
}

// balance deals the files out, the largest first, to the part with the least.
func balance(files []string, parts int) ([][]string, error) {
	type sized struct {
		path string
		size int64
	}
	var all []sized
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		all = append(all, sized{path, info.Size()})
	}
	slices.SortStableFunc(all, func(a, b sized) int { return int(b.size - a.size) })
	dealt, sums := make([][]string, min(parts, len(files))), make([]int64, min(parts, len(files)))
	for _, file := range all {
		least := slices.Index(sums, slices.Min(sums))
		dealt[least] = append(dealt[least], file.path)
		sums[least] += file.size
	}
	return dealt, nil
}
