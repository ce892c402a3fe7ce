package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

type exportCommand struct {
	settings
	Runs int `help:"Measure this many times." default:"1"`
}

// Run measures $export at system level, and its download.
func (c *exportCommand) Run(ctx context.Context) error {
	b, cleanUp, err := c.setUp(ctx, "export")
	if err != nil {
		return err
	}
	defer cleanUp()
	s, loaded, _, err := b.startFilled(ctx)
	if err != nil {
		return err
	}
	for range c.Runs {
		if err := b.measureExport(ctx, s, loaded); err != nil {
			return err
		}
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	b.report.add("kiln: the server in all, import included", used.figures()...)
	return b.report.save(c.JSON)
}

// startFilled starts a server and imports the data set into it.
func (b *bench) startFilled(ctx context.Context) (*server, int64, *dataSet, error) {
	set, err := b.prepareData()
	if err != nil {
		return nil, 0, nil, err
	}
	s, err := b.start(ctx, filepath.Join(b.dir, "store"), set.dir)
	if err != nil {
		return nil, 0, nil, err
	}
	result, took, err := s.runImport(ctx, set.files, "InitialLoad")
	if err != nil {
		return nil, 0, nil, err
	}
	fmt.Fprintf(os.Stderr, "imported %d resources in %.1f s\n", result.loaded(), took.Seconds())
	return s, result.loaded(), set, nil
}

func (b *bench) measureExport(ctx context.Context, s *server, loaded int64) error {
	result, took, err := s.runExport(ctx)
	if err != nil {
		return err
	}
	var said, lines, size int64
	start := time.Now()
	for _, file := range result.Output {
		n, length, err := download(ctx, file.URL)
		if err != nil {
			return err
		}
		if n != file.Count {
			return fmt.Errorf("cannot trust the export: %s says %d lines and has %d", file.URL, file.Count, n)
		}
		said, lines, size = said+file.Count, lines+n, size+length
	}
	downloaded := time.Since(start)
	if lines != loaded {
		return fmt.Errorf("cannot trust the export: %d resources in the store, %d exported", loaded, lines)
	}
	b.report.add("kiln: $export to its own files, separate process", append(throughput(lines, size, took), figure{"files", float64(len(result.Output)), ""})...)
	b.report.add("kiln: download of the files, one connection", throughput(lines, size, downloaded)...)
	return nil
}

// download reads a file to its end and counts its lines and bytes.
func download(ctx context.Context, address string) (lines, size int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, 0, unexpected(response, nil)
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := response.Body.Read(buf)
		lines += int64(bytes.Count(buf[:n], []byte{'\n'}))
		size += int64(n)
		if err == io.EOF {
			return lines, size, nil
		}
		if err != nil {
			return 0, 0, fmt.Errorf("cannot download %q: %w", address, err)
		}
	}
}
