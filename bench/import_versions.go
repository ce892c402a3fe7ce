package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"kiln/fhir"
)

// firstVersionAt is when the first versions of histories were made; the others follow, a
// day apart.
var firstVersionAt = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// histories writes versions of every resource whose turn it is, so many that there are
// about as many lines as the data has: dated and numbered, the newest first, each with
// other content.
func (d *dataSet) histories(versions int, dir string) (*dataSet, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	set := &dataSet{dir: dir, files: []string{filepath.Join(dir, "histories.ndjson")}}
	out, err := os.Create(set.files[0])
	if err != nil {
		return nil, err
	}
	w, scanner, seen := bufio.NewWriterSize(out, 1<<20), fhir.NewScanner(fhir.ScannerOptions{}), 0
	var line, other []byte
	err = d.eachLine(func(text []byte) error {
		if seen++; seen%versions != 0 {
			return nil
		}
		other = append(other[:0], text...)
		for n := versions; n > 0; n-- {
			resource, err := scanner.Scan(changed(append(other[:0], text...), n), nil)
			if err != nil {
				return err
			}
			at := fhir.Instant{Milli: firstVersionAt.AddDate(0, 0, n).UnixMilli(), OffsetMinutes: fhir.OffsetZ}
			line = append(fhir.AppendResource(line[:0], resource.Body, resource.Splice, int64(n), at), '\n')
			set.resources, set.bytes = set.resources+1, set.bytes+int64(len(line))
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, w.Flush(), out.Close()); err != nil {
		return nil, fmt.Errorf("cannot write histories: %w", err)
	}
	return set, nil
}

// measureHistories imports versions into an empty store.
func (b *bench) measureHistories(ctx context.Context, set *dataSet, versions int) error {
	dataDir := filepath.Join(b.dir, "versions")
	loaded, figures, err := b.importOnce(ctx, dataDir, set, "IncrementalLoad")
	if err != nil {
		return err
	}
	sizes, err := diskBytes(dataDir)
	if err != nil {
		return err
	}
	b.report.add(fmt.Sprintf("kiln: $import IncrementalLoad of %d dated versions of each resource, the newest first", versions),
		append(figures, figure{"runs on disk", float64(sizes["runs"]) / loaded, "bytes a version"})...)
	return os.RemoveAll(dataDir)
}
