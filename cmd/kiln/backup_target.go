package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"kiln/bulk/backup"
)

// What kiln backup does with a target alone: list, check and prune.

// backupLine is one backup of --list --json.
type backupLine struct {
	ID       string    `json:"id"`
	Instant  time.Time `json:"instant"`
	LSN      uint64    `json:"lsn"`
	Versions uint64    `json:"versions"`
	Bytes    int64     `json:"bytes"`
	StoreID  string    `json:"storeId"`
	Follows  string    `json:"follows,omitempty"`
	Kiln     string    `json:"kiln"`
}

func (c *backupCmd) list(ctx context.Context, std streams) error {
	target, err := c.open(c.files, c.Target)
	if err != nil {
		return err
	}
	damaged := 0
	manifests, err := backup.List(ctx, target, func(err error) {
		damaged++
		fmt.Fprintf(std.err, "kiln: %v\n", err)
	})
	if err != nil {
		return err
	}
	lines := []backupLine{}
	for _, m := range manifests {
		lines = append(lines, backupLine{
			ID: m.ID, Instant: m.Instant, LSN: m.LSN, Versions: m.Versions, Bytes: m.Bytes(), StoreID: m.StoreID, Follows: m.Follows, Kiln: m.Kiln,
		})
	}
	if c.JSON {
		err = printJSON(std.out, lines)
	} else {
		printList(std.out, lines)
	}
	if err == nil && damaged > 0 {
		err = &exitError{code: exitDamage, err: fmt.Errorf("%d backups in %s cannot be read", damaged, c.Target)}
	}
	return err
}

func printList(out io.Writer, lines []backupLine) {
	if len(lines) == 0 {
		fmt.Fprintln(out, "no backups")
	}
	for _, l := range lines {
		fmt.Fprintf(out, "%s  LSN %d, %d versions, %d bytes, store %s", l.ID, l.LSN, l.Versions, l.Bytes, l.StoreID)
		if l.Follows != "" {
			fmt.Fprintf(out, ", log since %s", l.Follows)
		}
		fmt.Fprintln(out)
	}
}

func (c *backupCmd) verify(ctx context.Context, std streams) error {
	target, err := c.open(c.files, c.Target)
	if err != nil {
		return err
	}
	bar := newProgress(std.err, "checking")
	result, err := backup.Verify(ctx, target, newPace(c.Rate, bar), func(err error) {
		fmt.Fprintf(std.err, "kiln: %v\n", err)
	})
	bar.done()
	if err != nil {
		return fmt.Errorf("cannot check %s: %w", c.Target, err)
	}
	if c.JSON {
		err = printJSON(std.out, result)
	} else {
		_, err = fmt.Fprintf(std.out, "%s: read %d backups, %d files, %d bytes\n", c.Target, result.Backups, result.Files, result.Bytes)
	}
	if err == nil && result.Damaged > 0 {
		err = &exitError{code: exitDamage, err: fmt.Errorf("damage found in %d places of %s", result.Damaged, c.Target)}
	}
	return err
}

func (c *backupCmd) prune(ctx context.Context, std streams) error {
	pruned, err := c.removeOld(ctx)
	if err != nil {
		return damageOr(err)
	}
	if c.JSON {
		return printJSON(std.out, pruned)
	}
	printPruned(std.out, pruned)
	return nil
}

func (c *backupCmd) removeOld(ctx context.Context) (*backup.Pruned, error) {
	target, err := c.open(c.files, c.Target)
	if err != nil {
		return nil, err
	}
	return backup.Prune(ctx, target, c.Keep)
}

func printPruned(out io.Writer, p *backup.Pruned) {
	fmt.Fprintf(out, "removed %d old backups, %d files, %d bytes\n", len(p.Backups), p.Files, p.Bytes)
}
