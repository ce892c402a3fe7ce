package main

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"
)

// runInto runs an export whose files the server writes into its storage account. They
// stay there: the manifest's addresses have no signature, and this command no
// credential. It tells where they are, and what the server says is in them.
func (c *exportCmd) runInto(ctx context.Context, server *client, address string, std streams) error {
	started := time.Now()
	status, err := server.kickOff(ctx, "GET", address, nil)
	if err != nil {
		return err
	}
	list, pages, err := server.manifest(ctx, status, newProgress(std.err, "exporting"))
	if err != nil {
		return stillRunning(err, status)
	}
	total, folder, err := list.stored(c.Container)
	if err != nil {
		return fmt.Errorf("%w (the export stays at %s)", err, status)
	}
	if c.JSON {
		_, err = fmt.Fprintf(std.out, "%s\n", strings.Join(pages, "\n"))
	} else {
		took := time.Since(started)
		_, err = fmt.Fprintf(std.out, "exported %d resources (%d bytes) into %d blobs in %s (%s)\n", total.lines, total.bytes, len(list.Output)+len(list.Deleted), rounded(took), rate(total.lines, took))
		if err == nil && folder != "" {
			_, err = fmt.Fprintf(std.out, "they are in %s; a DELETE of %s removes them\n", folder, status)
		}
	}
	if err == nil && len(list.Error) > 0 {
		err = &exitError{code: exitRefused, err: fmt.Errorf("the server could not do all that was asked: see %s", list.Error[0].URL)}
	}
	return err
}

// stored sums what a manifest tells of files in a container, and gives the one folder
// that they lie in, "" when there are none. A file elsewhere, or without its count,
// is an error: the server did something else than was asked.
func (m *manifest) stored(container string) (total amount, folder string, err error) {
	for _, file := range append(m.Output[:len(m.Output):len(m.Output)], m.Deleted...) {
		u, err := url.Parse(file.URL)
		if err != nil {
			return total, "", fmt.Errorf("cannot read the address of a file: %w", err)
		}
		at := path.Dir(u.Path)
		u.Path, u.RawQuery = at, ""
		switch {
		case path.Base(path.Dir(at)) != container:
			return total, "", fmt.Errorf("%s is not in the container %q: the server may have no storage account", file.URL, container)
		case folder != "" && folder != u.String():
			return total, "", fmt.Errorf("%s is not in the folder of the others, %s", file.URL, folder)
		case file.Count == nil:
			return total, "", fmt.Errorf("the manifest has no count of %s", file.URL)
		}
		folder = u.String()
		total.bytes += file.Bytes
	}
	for _, file := range m.Output {
		total.lines += *file.Count
	}
	return total, folder, nil
}
