package main

import (
	"context"
	"net/url"
	"time"
)

// changedMax is how many resources get a new version for exports by _since.
const changedMax = 1000

// measureParts exports parts of the store: a type, what a filter finds, and what
// changed since.
func (b *bench) measureParts(ctx context.Context, s *server, set *dataSet, runs int) error {
	since := time.Now().UTC().Add(time.Millisecond).Format("2006-01-02T15:04:05.000Z")
	chosen, err := set.sample(changedMax, b.Seed, true)
	if err != nil {
		return err
	}
	if err := addVersions(ctx, s, chosen, 1); err != nil {
		return err
	}
	parts := []struct{ name, query string }{
		{"kiln: $export of a type", "?_type=Observation"},
		{"kiln: $export of a type by a filter", "?_type=Observation&_typeFilter=" + url.QueryEscape("Observation?status=final&code=http://loinc.org|8302-2")},
		{"kiln: $export of what changed since", "?_since=" + url.QueryEscape(since)},
	}
	for i := range runs * len(parts) {
		part := parts[i%len(parts)]
		before := s.readCPU()
		result, took, err := s.runExport(ctx, "", part.query)
		if err != nil {
			return err
		}
		var lines, size int64
		for _, file := range result.Output {
			lines, size = lines+file.Count, size+file.Bytes
		}
		after := s.readCPU()
		b.report.add(part.name, figure{"time", took.Seconds(), "s"}, figure{"processor time", (after.server - before.server).Seconds(), "s"},
			figure{"lines", float64(lines), "lines"}, figure{"NDJSON", float64(size) / 1e6, "MB"})
	}
	return nil
}
