package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	// A download that breaks is continued; one that breaks this often in a row
	// without a single new byte is given up.
	idleBreaksMax = 5

	copyBytes = 256 << 10
)

// amount is what was downloaded.
type amount struct {
	lines, bytes int64
}

// downloadAll fetches every file of a manifest into dir and checks the counts.
// What a former command has left there is not fetched again.
func (c *client) downloadAll(ctx context.Context, files []manifestFile, dir string, bar *progress) (amount, error) {
	defer bar.done()
	var total amount
	var size int64 // of all; 0: some server does not say
	for _, file := range files {
		size += file.Bytes
	}
	for i, file := range files {
		got, err := c.download(ctx, file, dir, func(bytes int64) { bar.bytes(float64(total.bytes+bytes), float64(size)) })
		if err != nil {
			return total, err
		}
		total.lines += got.lines
		total.bytes += got.bytes
		if size == 0 {
			bar.share(float64(i+1), float64(len(files)))
		}
	}
	return total, nil
}

// download fetches one file, or what is missing of it. It has its final name only
// when it is complete. tell hears how much of it is here.
func (c *client) download(ctx context.Context, file manifestFile, dir string, tell func(bytes int64)) (amount, error) {
	name, err := localName(file.URL)
	if err != nil {
		return amount{}, err
	}
	final := filepath.Join(dir, name)
	if got, err := countFile(final); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return got, fmt.Errorf("cannot read what is here already: %w", err)
		}
		return file.check(got)
	}
	part, err := os.OpenFile(final+".part", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return amount{}, fmt.Errorf("cannot make a file for %s: %w", file.URL, err)
	}
	got, err := c.complete(ctx, file, part, tell)
	if err = errors.Join(err, part.Close()); err != nil {
		return got, fmt.Errorf("cannot download %s: %w", file.URL, err)
	}
	if got, err = file.check(got); err != nil {
		return got, err
	}
	if err := os.Rename(part.Name(), final); err != nil {
		return got, fmt.Errorf("cannot name the file of %s: %w", file.URL, err)
	}
	return got, nil
}

// complete goes on behind what a former command has written. More than the file
// has is of another file, and written anew.
func (c *client) complete(ctx context.Context, file manifestFile, part *os.File, tell func(int64)) (amount, error) {
	got, err := copyCounting(io.Discard, part, tell)
	if err == nil && file.Bytes > 0 && got.bytes > file.Bytes {
		got, err = amount{}, startAgain(part)
	}
	if err != nil || file.Bytes > 0 && got.bytes == file.Bytes {
		return got, err
	}
	if got, err = c.fetch(ctx, file, part, got, tell); err != nil {
		return got, err
	}
	return got, part.Sync()
}

// countFile reads a file that is here already.
func countFile(name string) (amount, error) {
	file, err := os.Open(name)
	if err != nil {
		return amount{}, err
	}
	defer file.Close()
	return copyCounting(io.Discard, file, nil)
}

// check compares what is here with what the manifest says. A Parquet file has no
// lines: the manifest's count, if any, is taken for its.
func (f *manifestFile) check(got amount) (amount, error) {
	if f.isParquet() {
		got.lines = 0
		if f.Count != nil {
			got.lines = *f.Count
		}
	}
	switch {
	case f.Bytes > 0 && got.bytes != f.Bytes:
		return got, fmt.Errorf("%s has %d bytes, but the manifest says %d", f.URL, got.bytes, f.Bytes)
	case f.Count != nil && *f.Count != got.lines:
		return got, fmt.Errorf("%s has %d lines, but the manifest says %d", f.URL, got.lines, *f.Count)
	}
	return got, nil
}

func (f *manifestFile) isParquet() bool {
	name, err := localName(f.URL)
	return err == nil && strings.HasSuffix(name, ".parquet")
}

// localName is the last part of the address; the server has no say in where
// files go.
func localName(address string) (string, error) {
	parsed, err := url.Parse(address)
	if err != nil {
		return "", fmt.Errorf("cannot read the address of a file: %w", err)
	}
	name := path.Base(parsed.Path)
	if name == "." || name == ".." || strings.ContainsAny(name, `/\`) {
		return "", fmt.Errorf("the address %q has no file name", address)
	}
	return name, nil
}

// fetch copies what is missing of a file behind got, going on after a broken
// connection from where it broke.
func (c *client) fetch(ctx context.Context, file manifestFile, part *os.File, got amount, tell func(int64)) (amount, error) {
	for idle := 0; ; idle++ {
		before := got.bytes
		done, err := c.fetchFrom(ctx, file, part, &got, tell)
		if done {
			return got, nil
		}
		if got.bytes > before {
			idle = 0
		}
		var final *finalError
		if ctx.Err() != nil || errors.As(err, &final) || idle >= idleBreaksMax {
			return got, err
		}
	}
}

// finalError is a refusal that asking again does not change.
type finalError struct{ error }

// fetchFrom asks for the bytes that are still missing; done when all are here.
func (c *client) fetchFrom(ctx context.Context, file manifestFile, part *os.File, got *amount, tell func(int64)) (done bool, err error) {
	header := map[string]string{"Accept": "application/fhir+ndjson"}
	if file.isParquet() {
		header["Accept"] = parquetFormat
	}
	if isLoopback(file.URL) {
		header["Accept-Encoding"] = "identity" // compressing takes longer than copying in memory
	}
	if got.bytes > 0 {
		header["Range"] = "bytes=" + strconv.FormatInt(got.bytes, 10) + "-"
	}
	answer, err := c.do(ctx, http.MethodGet, file.URL, header, nil)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode == http.StatusOK && got.bytes > 0:
		// No ranges: from the start again.
		*got = amount{}
		if err := startAgain(part); err != nil {
			return false, &finalError{err}
		}
	case answer.StatusCode == http.StatusOK:
	case answer.StatusCode == http.StatusPartialContent && got.bytes > 0:
		if !strings.HasPrefix(answer.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(got.bytes, 10)+"-") {
			return false, &finalError{fmt.Errorf("the server sent range %q instead of the one asked for", answer.Header.Get("Content-Range"))}
		}
	case answer.StatusCode == http.StatusRequestedRangeNotSatisfiable && answer.Header.Get("Content-Range") == "bytes */"+strconv.FormatInt(got.bytes, 10):
		return true, nil // nothing was missing
	default:
		text, err := readAnswer(answer)
		return false, &finalError{errors.Join(errorFrom(answer, text), err)}
	}
	before := *got
	more, err := copyCounting(part, answer.Body, func(bytes int64) { tell(before.bytes + bytes) })
	got.bytes, got.lines = before.bytes+more.bytes, before.lines+more.lines
	return err == nil, err
}

// isLoopback tells an address of this machine.
func isLoopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// startAgain empties a file.
func startAgain(file *os.File) error {
	_, err := file.Seek(0, io.SeekStart)
	return errors.Join(err, file.Truncate(0))
}

// copyCounting copies to the end of a body, which Go's client only reports
// as reached when the announced length has come. tell, if any, hears how much.
func copyCounting(to io.Writer, body io.Reader, tell func(int64)) (got amount, err error) {
	buffer := make([]byte, copyBytes)
	for {
		n, err := body.Read(buffer)
		if _, writeErr := to.Write(buffer[:n]); writeErr != nil {
			return got, &finalError{writeErr}
		}
		got.bytes += int64(n)
		got.lines += int64(bytes.Count(buffer[:n], []byte{'\n'}))
		if tell != nil {
			tell(got.bytes)
		}
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}
