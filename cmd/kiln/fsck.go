package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"kiln/bulk"
	"kiln/engine"
)

type fsckCmd struct {
	DataDir   string `required:"" type:"path" placeholder:"DIR" help:"Data directory that no server has open."`
	ExportDir string `type:"path" placeholder:"DIR" help:"The server's --export-dir, if it has one: files of exports are checked there (default: in the data directory)."`
	JSON      bool   `name:"json" help:"Print each damage as one JSON object a line; files that no job names have a note."`
	keyFlags
}

// Run reads everything and prints each damage found.
func (c *fsckCmd) Run(ctx context.Context, std streams) error {
	if err := mustExist(c.DataDir); err != nil {
		return err
	}
	fsys, err := c.fs(ctx, std)
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "kiln-fsck-")
	if err != nil {
		return fmt.Errorf("cannot check %q: %w", c.DataDir, err)
	}
	found := 0
	damage := func(p engine.Problem) {
		found++
		c.print(std, p, false)
	}
	err = engine.Fsck(ctx, engine.FsckOptions{
		FS: fsys, Dir: c.DataDir, Temp: temp, Terms: true, Report: damage,
		Jobs: func(jobs *engine.FsckJobs) error {
			check := bulk.FilesCheck{Jobs: jobs, Dir: c.DataDir, ExportDir: c.ExportDir, Damage: damage, Note: func(p engine.Problem) { c.print(std, p, true) }}
			return check.Run(ctx)
		},
	})
	if err = errors.Join(err, os.RemoveAll(temp)); err != nil {
		return fmt.Errorf("cannot check %q: %w", c.DataDir, err)
	}
	if found > 0 {
		return &exitError{code: exitDamage, err: fmt.Errorf("damage found in %d places of %q", found, c.DataDir)}
	}
	if c.JSON {
		return nil
	}
	_, err = fmt.Fprintf(std.out, "%s: sound\n", c.DataDir)
	return err
}

// print shows one damage, or a note, which is none.
func (c *fsckCmd) print(std streams, p engine.Problem, note bool) {
	switch {
	case !c.JSON && note:
		fmt.Fprintf(std.out, "note: %s: %s\n", p.File, p.What)
		return
	case !c.JSON:
		fmt.Fprintf(std.out, "%s: offset %d: %s\n", p.File, p.Offset, p.What)
		return
	}
	line, _ := json.Marshal(struct { // strings, a number and a bool are always JSON
		File   string `json:"file"`
		Offset int64  `json:"offset"`
		What   string `json:"what"`
		Note   bool   `json:"note,omitempty"`
	}{p.File, p.Offset, p.What, note})
	fmt.Fprintf(std.out, "%s\n", line)
}
