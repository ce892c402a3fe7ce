package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
)

type importCmd struct {
	Server string `default:"${server}" placeholder:"URL" help:"FHIR base of the server (${default})."`
	connectFlags
	importOptions
	Source string   `placeholder:"URI" help:"Name of this import. The same files under the same name are the same import: a failed one goes on, a finished one is only reported. Default: a new name."`
	Inputs []string `arg:"" name:"path|url" help:"File, directory (its *.ndjson, *.ndjson.gz, *.ndjson.zst) or URL; the server must be allowed to read it."`
}

// Run posts one $import and follows it to its end.
func (c *importCmd) Run(ctx context.Context, std streams) error {
	server, err := c.client(c.Server)
	if err != nil {
		return err
	}
	urls, err := expandInputs(c.Inputs)
	if err != nil {
		return err
	}
	// The server answers an equal request with the job it already has. That is
	// right for a repeated POST after a lost answer, and wrong for a file that
	// has changed since: each run of the command is an import of its own.
	if c.Source == "" {
		c.Source = uuid.New().URN()
	}
	body, err := c.body(urls, c.Source)
	if err != nil {
		return fmt.Errorf("cannot write the request: %w", err)
	}
	started := time.Now()
	address, err := server.kickOff(ctx, http.MethodPost, server.base+"/$import", body)
	if err != nil {
		return err
	}
	bar := newProgress(std.err, "importing")
	raw, err := server.follow(ctx, address, bar)
	bar.done()
	if err = stillRunning(err, address); err != nil {
		return fmt.Errorf("%w (what was published stays; the same command with --source %s goes on from there)", err, c.Source)
	}
	var result importResult
	if err := json.Unmarshal(raw, &result); err != nil {
		return fmt.Errorf("cannot read the result of %s: %w", address, err)
	}
	return result.report(std, raw, c.JSON, time.Since(started))
}
