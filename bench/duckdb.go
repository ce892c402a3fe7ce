package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/gofrs/flock"
)

//go:embed duckdb/package.json duckdb/duckdb.mjs
var duckdbProgram embed.FS

// duckdb is a process with a database of its own, which runs one statement after the
// other. DuckDB takes all cores and as much memory as it comes with.
type duckdb struct {
	cmd    *exec.Cmd
	path   string // of the database
	stdin  io.WriteCloser
	answer *json.Decoder
	stderr bytes.Buffer // the process's until it has ended
}

// duckdbAnswer is what a statement gave. Numbers beyond 53 bits and dates are texts.
type duckdbAnswer struct {
	Rows      [][]any
	Seconds   float64
	Processor float64
	Error     string
}

func (a *duckdbAnswer) took() time.Duration { return time.Duration(a.Seconds * float64(time.Second)) }

// duckdbFiles are those of duckdbProgram.
var duckdbFiles = []string{"package.json", "duckdb.mjs"}

// duckdbDir is where the program and what it needs go: where this user's
// programs keep what they can make again.
func duckdbDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	hash := xxhash.New()
	for _, name := range duckdbFiles {
		text, err := duckdbProgram.ReadFile("duckdb/" + name)
		if err != nil {
			return "", err
		}
		_, _ = hash.Write(text) // never fails
	}
	return filepath.Join(cache, "kiln-bench", fmt.Sprintf("duckdb-%016x", hash.Sum64())), nil
}

// duckdbInstalled tells whether installDuckDB has nothing to do.
func duckdbInstalled() bool {
	dir, err := duckdbDir()
	if err != nil {
		return false
	}
	// npm writes this file when everything is in place.
	_, err = os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json"))
	return err == nil
}

// installDuckDB installs it, unless it is there.
func installDuckDB(ctx context.Context) (dir string, err error) {
	if dir, err = duckdbDir(); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	if err := lock.Lock(); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if duckdbInstalled() {
		return dir, nil
	}
	for _, name := range duckdbFiles {
		text, err := duckdbProgram.ReadFile("duckdb/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(ctx, "npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot install DuckDB (it takes Node and npm): %w\n%s", err, out)
	}
	return dir, nil
}

// startDuckDB opens a new database in the file.
func startDuckDB(ctx context.Context, path string) (*duckdb, error) {
	dir, err := installDuckDB(ctx)
	if err != nil {
		return nil, err
	}
	d := &duckdb{cmd: exec.CommandContext(ctx, "node", "duckdb.mjs", path), path: path}
	d.cmd.Dir, d.cmd.Stderr = dir, &d.stderr
	if d.stdin, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	d.answer = json.NewDecoder(stdout)
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start DuckDB: %w", err)
	}
	// Nobody asks for the rows in the order of the lines, and they may come faster so.
	if _, err := d.run("set preserve_insertion_order = false"); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// run runs a statement; with values it is prepared, once.
func (d *duckdb) run(sql string, values ...any) (*duckdbAnswer, error) {
	request, err := json.Marshal(struct {
		SQL    string `json:"sql"`
		Values []any  `json:"values,omitempty"`
	}{sql, values})
	if err != nil {
		return nil, err
	}
	_, err = d.stdin.Write(append(request, '\n'))
	answer := &duckdbAnswer{}
	if err == nil {
		err = d.answer.Decode(answer)
	}
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot run %.200q in DuckDB: %w", sql, err)
	}
	return answer, nil
}

// count runs a statement that gives one number.
func (d *duckdb) count(sql string) (int64, error) {
	answer, err := d.run(sql)
	if err != nil {
		return 0, err
	}
	return answer.number()
}

// number is the one that the answer consists of.
func (a *duckdbAnswer) number() (n int64, err error) {
	if len(a.Rows) != 1 || len(a.Rows[0]) != 1 {
		return 0, fmt.Errorf("cannot read a number out of %.200v", a.Rows)
	}
	_, err = fmt.Sscan(fmt.Sprint(a.Rows[0][0]), &n)
	return n, err
}

// stop closes the database and removes its files.
func (d *duckdb) stop() error {
	err := errors.Join(d.stdin.Close(), d.cmd.Wait())
	if err != nil {
		err = fmt.Errorf("cannot stop DuckDB: %w\n%s", err, d.stderr.Bytes())
	}
	return errors.Join(err, os.RemoveAll(d.path), os.RemoveAll(d.path+".wal"))
}

// sqlText quotes a text for SQL.
func sqlText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
