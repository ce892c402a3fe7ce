package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"kiln/engine"
)

type fsckCmd struct {
	DataDir string `required:"" type:"path" placeholder:"DIR" help:"Data directory that no server has open."`
	JSON    bool   `name:"json" help:"Print each damage as one JSON object a line."`
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
	err = engine.FsckWith(ctx, engine.FsckOptions{FS: fsys, Dir: c.DataDir, Temp: temp, Terms: true, Report: func(p engine.Problem) {
		found++
		c.print(std, p)
	}})
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

// print shows one damage.
func (c *fsckCmd) print(std streams, p engine.Problem) {
	if !c.JSON {
		fmt.Fprintf(std.out, "%s: offset %d: %s\n", p.File, p.Offset, p.What)
		return
	}
	line, _ := json.Marshal(struct { // strings and a number are always JSON
		File   string `json:"file"`
		Offset int64  `json:"offset"`
		What   string `json:"what"`
	}{p.File, p.Offset, p.What})
	fmt.Fprintf(std.out, "%s\n", line)
}
