package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type exportCmd struct {
	Server     string   `default:"${server}" placeholder:"URL" help:"FHIR base of the server (${default})."`
	Out        string   `type:"path" default:"." placeholder:"DIR" help:"Directory for the files; it may not hold other *.ndjson (the current one)."`
	Level      string   `default:"system" placeholder:"LEVEL" help:"system (the only one yet), patient or group/ID."`
	Type       []string `placeholder:"TYPE,..." help:"Only these resource types."`
	Since      string   `placeholder:"TIME" help:"Only what changed at this instant or later."`
	TypeFilter []string `sep:"none" placeholder:"QUERY" help:"Search that limits a type; repeatable (not supported yet)."`
	Delete     bool     `help:"Delete the export on the server once its files are here."`
	JSON       bool     `name:"json" help:"Print the manifest."`
}

// manifest is the final object of an $export.
type manifest struct {
	Output []manifestFile `json:"output"`
}

type manifestFile struct {
	Type  string `json:"type"`
	URL   string `json:"url"`
	Count *int64 `json:"count"`
}

// Run runs an export to its end and downloads its files.
func (c *exportCmd) Run(ctx context.Context, std streams) error {
	server, address, err := c.check()
	if err != nil {
		return err
	}
	started := time.Now()
	status, err := server.kickOff(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	bar := newProgress(std.err, "exporting")
	raw, err := server.follow(ctx, status, bar)
	bar.done()
	if err != nil {
		return stillRunning(err, status)
	}
	var list manifest
	if err := json.Unmarshal(raw, &list); err != nil {
		return fmt.Errorf("cannot read the manifest of %s: %w", status, err)
	}
	total, err := server.downloadAll(ctx, list.Output, c.Out, newProgress(std.err, "downloading"))
	if err != nil {
		return fmt.Errorf("%w (the export stays at %s)", err, status)
	}
	if c.Delete {
		if err := server.deleteJob(ctx, status); err != nil {
			return err
		}
	}
	if c.JSON {
		_, err = fmt.Fprintf(std.out, "%s\n", raw)
		return err
	}
	took := time.Since(started)
	_, err = fmt.Fprintf(std.out, "exported %d resources (%d bytes) into %d files in %s in %s (%s)\n",
		total.lines, total.bytes, len(list.Output), c.Out, rounded(took), rate(total.lines, took))
	return err
}

// check refuses what cannot work before anything is started, and gives the
// kick-off address.
func (c *exportCmd) check() (*client, string, error) {
	if c.Level != "system" {
		return nil, "", usageError("--level %s is not supported yet; use system", c.Level)
	}
	if len(c.TypeFilter) > 0 {
		return nil, "", usageError("--type-filter is not supported yet")
	}
	server, err := newClient(c.Server)
	if err != nil {
		return nil, "", err
	}
	old, err := filepath.Glob(filepath.Join(escapeGlob(c.Out), "*.ndjson"))
	if err != nil {
		return nil, "", fmt.Errorf("cannot list %q: %w", c.Out, err)
	}
	if len(old) > 0 {
		// Files of two exports in one directory cannot be told apart later.
		return nil, "", usageError("%q already holds %s: choose another --out", c.Out, filepath.Base(old[0]))
	}
	if err := os.MkdirAll(c.Out, 0o777); err != nil {
		return nil, "", fmt.Errorf("cannot make the output directory: %w", err)
	}
	query := url.Values{}
	if len(c.Type) > 0 {
		query.Set("_type", strings.Join(c.Type, ","))
	}
	if c.Since != "" {
		query.Set("_since", c.Since)
	}
	address := server.base + "/$export"
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	return server, address, nil
}

// escapeGlob makes a path match itself in filepath.Glob.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

func (c *client) deleteJob(ctx context.Context, status string) error {
	answer, err := c.do(ctx, http.MethodDelete, status, nil, nil)
	if err != nil {
		return err
	}
	text, err := readAnswer(answer)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusAccepted {
		return errorFrom(answer, text)
	}
	return nil
}
