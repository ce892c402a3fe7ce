package main

import "github.com/alecthomas/kong"

// laterCmd is a command that is promised and not there yet. Error texts and
// documents name some of them, so they must not look like typing errors.
type laterCmd struct {
	Args []string `arg:"" optional:"" passthrough:""`
}

// Run refuses.
func (c *laterCmd) Run(parsed *kong.Context) error {
	return usageError("%s is not supported yet by version %s", parsed.Selected().Name, version)
}
