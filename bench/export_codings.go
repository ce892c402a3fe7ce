package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// measureCodings downloads the longest file of an export as it is and in each coding,
// in turn.
func (b *bench) measureCodings(ctx context.Context, s *server, runs int) error {
	result, _, err := s.runExport(ctx, "", "")
	if err != nil {
		return err
	}
	if len(result.Output) == 0 {
		return fmt.Errorf("cannot measure downloads: the export has no files")
	}
	longest := result.Output[0]
	for _, file := range result.Output {
		if file.Count > longest.Count {
			longest = file
		}
	}
	codings := []string{"identity", "gzip", "zstd"}
	for run := range runs * len(codings) {
		coding := codings[run%len(codings)]
		before, start := s.readCPU(), time.Now()
		sent, err := transfer(ctx, longest.URL, coding)
		if err != nil {
			return err
		}
		took, used := time.Since(start), s.readCPU().server-before.server
		b.report.add(fmt.Sprintf("kiln: download of %d lines as %s", longest.Count, coding),
			figure{"NDJSON per second", float64(longest.Bytes) / 1e6 / took.Seconds(), "MB/s"},
			figure{"sent", float64(sent) / float64(longest.Bytes), "bytes for one of NDJSON"},
			figure{processorTime, used.Seconds() / float64(longest.Bytes) * 1e9, "s a GB"})
	}
	return nil
}

// transfer reads a file in a coding and does not decode it.
func transfer(ctx context.Context, address, coding string) (sent int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Accept-Encoding", coding)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, unexpected(response, nil)
	}
	if got := response.Header.Get("Content-Encoding"); got != coding && (got != "" || coding != "identity") {
		return 0, fmt.Errorf("cannot measure %s: the file comes as %q", coding, got)
	}
	return io.Copy(io.Discard, response.Body)
}

// measureAccount exports into the storage account.
func (b *bench) measureAccount(ctx context.Context, s *server) error {
	before := s.readCPU()
	result, took, err := s.runExport(ctx, "", "?_container=kiln-bench")
	if err != nil {
		return err
	}
	used := s.readCPU().server - before.server
	var lines, size int64
	for _, file := range result.Output {
		lines, size = lines+file.Count, size+file.Bytes
	}
	b.report.add("kiln: $export into the storage account", append(throughput(lines, size, took),
		figure{"files", float64(len(result.Output)), "files"}, figure{"processor time a resource", float64(used.Nanoseconds()) / 1e3 / float64(lines), "µs"})...)
	return nil
}
