package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"kiln/bulk/backup"
)

type restoreCmd struct {
	DataDir  string `required:"" type:"path" placeholder:"DIR" help:"Where the store is made: missing or empty, or left by a restore that was stopped. Nothing is ever overwritten."`
	Backup   string `placeholder:"ID" help:"Which backup, as kiln backup --list shows them; the beginning of an id will do (the newest)."`
	LSN      uint64 `name:"lsn" placeholder:"N" help:"Restore the store as of this record of its log, where backups and the log between them reach."`
	Time     string `placeholder:"TIME" help:"Restore the store as of this instant, such as 2026-01-31T14:05:00Z, likewise."`
	NoVerify bool   `help:"Do not read again what was written. Checksums are compared while copying in any case."`
	Rate     string `placeholder:"BYTES" help:"Read at most so much a second, such as 50MB."`
	JSON     bool   `name:"json" help:"Print the result as JSON."`
	blobFlags
	keyFlags
	Source string `arg:"" help:"Directory, or address of a blob container or a folder in one, that kiln backup wrote to."`
}

// Run makes a data directory of a backup.
func (c *restoreCmd) Run(ctx context.Context, std streams) error {
	at := backup.Moment{Backup: c.Backup, LSN: c.LSN}
	if c.Time != "" {
		var err error
		if at.Time, err = time.Parse(time.RFC3339Nano, c.Time); err != nil {
			return usageError("--time %q is no instant such as 2026-01-31T14:05:00Z", c.Time)
		}
	}
	if c.LSN > 0 && c.Time != "" {
		return usageError("--lsn and --time exclude each other")
	}
	if _, err := parseRate(c.Rate); err != nil {
		return err
	}
	fsys, err := c.fs(ctx, std)
	if err != nil {
		return err
	}
	source, err := c.open(fsys, c.Source)
	if err != nil {
		return err
	}
	started := time.Now()
	bar := newProgress(std.err, "restoring")
	result, err := backup.Restore(ctx, backup.RestoreOptions{
		Source: source, FS: fsys, Dir: filepath.ToSlash(c.DataDir), NewID: rand.Uint64, At: at, Check: !c.NoVerify, Pace: newPace(c.Rate, bar),
	})
	bar.done()
	switch {
	case ctx.Err() != nil && result == nil:
		return errors.New("interrupted; the same command goes on from the run files that were copied")
	case err != nil:
		return damageOr(err)
	case c.JSON:
		return printJSON(std.out, result)
	}
	how := "read again and sound"
	if !result.Checked {
		how = "not read again"
	}
	_, err = fmt.Fprintf(std.out, "restored %s as of LSN %d (%s) from backup %s in %s: %d run files, %d bytes, %s\n",
		c.DataDir, result.LSN, result.Instant.Format(time.RFC3339Nano), result.Backup, rounded(time.Since(started)), result.Runs, result.Bytes, how)
	return err
}
