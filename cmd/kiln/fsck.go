package main

import (
	"context"
	"fmt"

	"kiln/engine"
	"kiln/internal/vfs"
)

type fsckCmd struct {
	DataDir string `required:"" type:"path" placeholder:"DIR" help:"Data directory that no server has open."`
}

// Run reads everything and prints each damage found.
func (c *fsckCmd) Run(ctx context.Context, std streams) error {
	if err := mustExist(c.DataDir); err != nil {
		return err
	}
	found := 0
	err := engine.Fsck(ctx, vfs.OS(), c.DataDir, func(p engine.Problem) {
		found++
		fmt.Fprintf(std.out, "%s: offset %d: %s\n", p.File, p.Offset, p.What)
	})
	if err != nil {
		return fmt.Errorf("cannot check %q: %w", c.DataDir, err)
	}
	if found > 0 {
		return &exitError{code: exitDamage, err: fmt.Errorf("damage found in %d places of %q", found, c.DataDir)}
	}
	_, err = fmt.Fprintf(std.out, "%s: sound\n", c.DataDir)
	return err
}
