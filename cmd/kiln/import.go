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
	importOptions
	Inputs []string `arg:"" name:"path|url" help:"File, directory (its *.ndjson, *.ndjson.gz, *.ndjson.zst) or URL; the server must be allowed to read it."`
}

// Run posts one $import and follows it to its end.
func (c *importCmd) Run(ctx context.Context, std streams) error {
	server, err := newClient(c.Server)
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
	body, err := c.body(urls, uuid.New().URN())
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
	if err != nil {
		return stillRunning(err, address)
	}
	var result importResult
	if err := json.Unmarshal(raw, &result); err != nil {
		return fmt.Errorf("cannot read the result of %s: %w", address, err)
	}
	return result.report(std, raw, c.JSON, time.Since(started))
}
