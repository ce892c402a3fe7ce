package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
func (c *client) downloadAll(ctx context.Context, files []manifestFile, dir string, bar *progress) (amount, error) {
	defer bar.done()
	var total amount
	for i, file := range files {
		got, err := c.download(ctx, file, dir)
		if err != nil {
			return total, err
		}
		total.lines += got.lines
		total.bytes += got.bytes
		bar.share(float64(i+1), float64(len(files)))
	}
	return total, nil
}

// download fetches one file. It has its final name only when it is complete.
func (c *client) download(ctx context.Context, file manifestFile, dir string) (amount, error) {
	name, err := localName(file.URL)
	if err != nil {
		return amount{}, err
	}
	part, err := os.Create(filepath.Join(dir, name+".part"))
	if err != nil {
		return amount{}, fmt.Errorf("cannot make a file for %s: %w", file.URL, err)
	}
	got, err := c.fetch(ctx, file.URL, part)
	if err = errors.Join(err, part.Close()); err != nil {
		return got, fmt.Errorf("cannot download %s: %w", file.URL, err)
	}
	if file.Count != nil && *file.Count != got.lines {
		return got, fmt.Errorf("%s has %d lines, but the manifest says %d", file.URL, got.lines, *file.Count)
	}
	if err := os.Rename(part.Name(), filepath.Join(dir, name)); err != nil {
		return got, fmt.Errorf("cannot name the file of %s: %w", file.URL, err)
	}
	return got, nil
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

// fetch copies the whole of address into part, going on after a broken
// connection from where it broke.
func (c *client) fetch(ctx context.Context, address string, part *os.File) (amount, error) {
	var got amount
	for idle := 0; ; idle++ {
		before := got.bytes
		done, err := c.fetchFrom(ctx, address, part, &got)
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
func (c *client) fetchFrom(ctx context.Context, address string, part *os.File, got *amount) (done bool, err error) {
	header := map[string]string{"Accept": "application/fhir+ndjson"}
	if got.bytes > 0 {
		header["Range"] = "bytes=" + strconv.FormatInt(got.bytes, 10) + "-"
	}
	answer, err := c.do(ctx, http.MethodGet, address, header, nil)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode == http.StatusOK && got.bytes > 0:
		// No ranges: from the start again.
		*got = amount{}
		if err := errors.Join(part.Truncate(0), seekStart(part)); err != nil {
			return false, &finalError{err}
		}
	case answer.StatusCode == http.StatusOK:
	case answer.StatusCode == http.StatusPartialContent && got.bytes > 0:
		if !strings.HasPrefix(answer.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(got.bytes, 10)+"-") {
			return false, &finalError{fmt.Errorf("the server sent range %q instead of the one asked for", answer.Header.Get("Content-Range"))}
		}
	default:
		text, err := readAnswer(answer)
		return false, &finalError{errors.Join(errorFrom(answer, text), err)}
	}
	return copyCounting(part, answer.Body, got)
}

func seekStart(file *os.File) error {
	_, err := file.Seek(0, io.SeekStart)
	return err
}

// copyCounting copies to the end of a body, which Go's client only reports
// as reached when the announced length has come.
func copyCounting(part *os.File, body io.Reader, got *amount) (done bool, err error) {
	buffer := make([]byte, copyBytes)
	for {
		n, err := body.Read(buffer)
		if _, writeErr := part.Write(buffer[:n]); writeErr != nil {
			return false, &finalError{writeErr}
		}
		got.bytes += int64(n)
		got.lines += int64(bytes.Count(buffer[:n], []byte{'\n'}))
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}
