package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"
)

// exportOthers are what exports are compared with, filled with the same lines; nil:
// not compared.
type exportOthers struct {
	database *postgres
	duck     *duckdb
	set      *dataSet // nil: nothing is written for the floor
}

// fillOthers starts and fills what was asked for.
func (c *exportCommand) fillOthers(ctx context.Context, b *bench, set *dataSet) (o *exportOthers, err error) {
	o = &exportOthers{}
	if c.ComparePostgres || c.CompareDuckDB {
		if set, err = b.unpackForAll(set); err != nil {
			return nil, err
		}
	}
	if c.Floors {
		o.set = set
	}
	if c.ComparePostgres {
		if o.database, err = startPostgres(ctx, b.dir, forBulk); err != nil {
			return nil, err
		}
		if _, err := o.database.copyFiles(ctx, set.files, 1, false); err != nil {
			return nil, errors.Join(err, o.stop())
		}
	}
	if c.CompareDuckDB {
		if o.duck, err = b.fillDuckDB(ctx, set); err != nil {
			return nil, errors.Join(err, o.stop())
		}
	}
	return o, nil
}

func (o *exportOthers) stop() (err error) {
	if o.database != nil {
		err = o.database.stop()
	}
	if o.duck != nil {
		err = errors.Join(err, o.duck.stop())
	}
	return err
}

// measure lets each have its turn.
func (o *exportOthers) measure(ctx context.Context, b *bench, loaded int64) error {
	if o.database != nil {
		if err := b.measureCopyOut(ctx, o.database, loaded); err != nil {
			return err
		}
	}
	if o.duck != nil {
		if err := b.measureDuckDBOut(o.duck, loaded); err != nil {
			return err
		}
	}
	if o.set == nil {
		return nil
	}
	start := time.Now()
	if err := o.set.writeOnce(filepath.Join(b.dir, "written")); err != nil {
		return err
	}
	b.report.add(floorWrite, throughput(o.set.resources, o.set.bytes, time.Since(start))...)
	return nil
}

const duckdbOut = "DuckDB: COPY TO of JSON lines to a file"

// fillDuckDB loads the data set's lines.
func (b *bench) fillDuckDB(ctx context.Context, set *dataSet) (*duckdb, error) {
	d, err := startDuckDB(ctx, filepath.Join(b.dir, "duckdb.db"))
	if err != nil {
		return nil, err
	}
	for i := range duckdbLoads {
		if duckdbLoads[i].name == duckdbJSON {
			_, err = d.load(set, &duckdbLoads[i])
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return d, nil
}

// measureDuckDBOut lets DuckDB write the lines. CSV without a quote writes them as they
// are; its JSON writer would put each into an object.
func (b *bench) measureDuckDBOut(d *duckdb, loaded int64) error {
	path := filepath.Join(b.dir, "duckdb-out.ndjson")
	written, err := d.run("copy (select doc from resources) to " + sqlText(path) + " (format csv, header false, delimiter '\x02', quote '', escape '')")
	if err != nil {
		return err
	}
	return b.reportCopy(duckdbOut, path, loaded, written.took(), figure{processorTime, written.Processor, "s"})
}

// compareExports tells the ratios of this round.
func (b *bench) compareExports() {
	b.report.compareRound(exportRatios, exportRun, []compared{
		{"PostgreSQL's COPY TO", copyOutRun, "time"},
		{"PostgreSQL's COPY TO and a sync", copyOutRun, copyAndSync},
		{"DuckDB's COPY TO", duckdbOut, "time"},
		{"DuckDB's COPY TO and a sync", duckdbOut, copyAndSync},
		{"a file that is written", floorWrite, "time"},
	})
}
