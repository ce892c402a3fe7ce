package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

type importCommand struct {
	settings
	OneFile         bool `help:"Put all of the data into one file." xor:"shape"`
	OneEach         int  `help:"Put so many of the resources each into a file of its own, and leave the others out; a request may name 10,000." xor:"shape" placeholder:"N"`
	Runs            int  `help:"Measure this many times, each into an empty store." default:"1"`
	Again           bool `help:"Import the same files once more as IncrementalLoad, which must change nothing."`
	ComparePostgres bool `help:"Between the runs, COPY the same lines into a jsonb column of PostgreSQL."`
	PostgresIndex   bool `help:"Also build a GIN index on that column, the least that a search needs." default:"true" negatable:""`
	CompareDuckDB   bool `help:"Between the runs, load the same lines into DuckDB: as text, as JSON, and with fields in columns." name:"compare-duckdb"`
	Floors          bool `help:"Between the runs, do the least with the same bytes: scan them, compress them, write them."`
}

// Run measures InitialLoad into an empty store.
func (c *importCommand) Run(ctx context.Context) error {
	b, cleanUp, err := c.setUp(ctx, "import")
	if err != nil {
		return err
	}
	defer cleanUp()
	set, err := b.prepareData()
	if err != nil {
		return err
	}
	if set, err = c.reshape(b, set); err != nil {
		return err
	}
	if c.ComparePostgres || c.CompareDuckDB {
		if set, err = b.unpackForAll(set); err != nil {
			return err
		}
	}
	var copier *postgres
	if c.ComparePostgres {
		if copier, err = startPostgres(ctx, b.dir, forBulk); err != nil {
			return err
		}
		defer copier.stop()
	}
	for i := range c.Runs {
		if err := c.measureRound(ctx, b, set, copier, i); err != nil {
			return err
		}
	}
	return b.report.save(c.JSON)
}

// measureRound lets everything that is compared have its turn.
func (c *importCommand) measureRound(ctx context.Context, b *bench, set *dataSet, copier *postgres, i int) error {
	if err := b.measureImport(ctx, set, i, c.Again); err != nil {
		return err
	}
	if copier != nil {
		if err := c.measureCopy(ctx, b, copier, set); err != nil {
			return err
		}
	}
	if c.CompareDuckDB {
		if err := b.measureDuckDBLoads(ctx, set); err != nil {
			return err
		}
	}
	if c.Floors {
		if err := b.measureFloors(ctx, set); err != nil {
			return err
		}
	}
	b.compareImport()
	return nil
}

// reshape cuts the data into other files, if that was asked for.
func (c *importCommand) reshape(b *bench, set *dataSet) (*dataSet, error) {
	if !c.OneFile && c.OneEach == 0 {
		return set, nil
	}
	dir := filepath.Join(b.dir, "shaped")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if c.OneFile {
		set, err = set.oneFile(dir)
	} else {
		set, err = set.oneEach(dir, c.OneEach)
	}
	if err != nil {
		return nil, err
	}
	b.report.Data.Files, b.report.Data.Resources, b.report.Data.Bytes = len(set.files), set.resources, set.bytes
	if c.Data == "" { // the generated files are not needed any more
		err = os.RemoveAll(b.generated())
	}
	return set, err
}

const (
	kilnRun      = "kiln: $import InitialLoad over HTTP, separate process"
	againRun     = "kiln: the same files again, IncrementalLoad"
	copyRun      = "PostgreSQL: COPY to jsonb, one connection"
	copyAllCores = "PostgreSQL: COPY to jsonb, one connection a core"
)

// unpackForAll lets the user of the database read the files.
func (b *bench) unpackForAll(set *dataSet) (*dataSet, error) {
	dir := filepath.Join(b.dir, "plain")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return nil, err
	}
	return set.unpack(dir)
}

func (b *bench) measureImport(ctx context.Context, set *dataSet, i int, again bool) error {
	dataDir := filepath.Join(b.dir, fmt.Sprintf("store-%d", i))
	s, err := b.start(ctx, dataDir, set.dir)
	if err != nil {
		return err
	}
	result, took, err := s.runImport(ctx, set.files, "InitialLoad")
	if err != nil {
		return err
	}
	sizes, err := diskBytes(dataDir)
	if err != nil {
		return err
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	if result.loaded()+result.refused() != set.resources {
		return fmt.Errorf("cannot trust the figures: %d lines, %d loaded, %d refused", set.resources, result.loaded(), result.refused())
	}
	figures := append(throughput(set.resources, set.bytes, took), used.figures()...)
	loaded := float64(result.loaded())
	figures = append(figures, figure{"loaded", loaded, ""}, figure{"refused", float64(result.refused()), ""})
	b.report.add(kilnRun, append(figures, diskFigures(sizes, loaded, "bytes a resource")...)...)
	if again {
		if err := b.measureAgain(ctx, dataDir, set); err != nil {
			return err
		}
	}
	return os.RemoveAll(dataDir)
}

// measureAgain opens the store once more and imports what is already there.
// Lines that the first import refused may be refused again or be found equal.
func (b *bench) measureAgain(ctx context.Context, dataDir string, set *dataSet) error {
	s, err := b.start(ctx, dataDir, set.dir)
	if err != nil {
		return err
	}
	result, took, err := s.runImport(ctx, set.files, "IncrementalLoad")
	if err != nil {
		return err
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	figures := append(throughput(set.resources, set.bytes, took), used.figures()...)
	b.report.add(againRun, append(figures,
		figure{"loaded or found equal", float64(result.loaded()), ""},
		figure{"refused", float64(result.refused()), ""})...)
	return nil
}

func (c *importCommand) measureCopy(ctx context.Context, b *bench, p *postgres, set *dataSet) error {
	for _, m := range []struct {
		name        string
		connections int
	}{{copyRun, 1}, {copyAllCores, b.report.Machine.Cores}} {
		result, err := p.copyFiles(ctx, set.files, m.connections, c.PostgresIndex && m.connections == 1)
		if err != nil {
			return err
		}
		if result.rows != set.resources {
			return fmt.Errorf("cannot compare: %d lines, PostgreSQL took %d", set.resources, result.rows)
		}
		figures := append(throughput(set.resources, set.bytes, result.took),
			figure{processorTime, result.cpuSeconds, "s"},
			figure{"table on disk", float64(result.tableBytes) / float64(result.rows), "bytes a resource"})
		if result.indexTook > 0 {
			figures = append(figures,
				figure{"GIN index", result.indexTook.Seconds(), "s"},
				figure{copyAndGIN, (result.took + result.indexTook).Seconds(), "s"},
				figure{"GIN index on disk", float64(result.indexBytes) / float64(result.rows), "bytes a resource"})
		}
		b.report.add(m.name, figures...)
	}
	return nil
}

// copyAndGIN is the time of both, one after the other.
const copyAndGIN = "COPY and GIN index"

// compareImport tells how many times longer the others took than kiln in this round.
// The processor times still tell something when other programs share the machine.
func (b *bench) compareImport() {
	b.report.compareRound(importRatios, kilnRun, []compared{
		{"PostgreSQL's COPY", copyRun, "time"},
		{"PostgreSQL's COPY on all cores", copyAllCores, "time"},
		{fromCopyToGIN, copyRun, copyAndGIN},
		{"DuckDB's load as text", duckdbText, "time"},
		{"DuckDB's load as JSON", duckdbJSON, "time"},
		{"DuckDB's load with fields", duckdbFields, "time"},
		{"a scan of the JSON", floorScan, "time"},
		{"zstd -1", floorZstd, "time"},
		{"a file that is written", floorWrite, "time"},
	})
	b.report.compareRound("comparison: imports, processor time to kiln's", kilnRun, []compared{
		{"PostgreSQL's COPY", copyRun, processorTime},
		{"DuckDB's load as text", duckdbText, processorTime},
		{"DuckDB's load as JSON", duckdbJSON, processorTime},
		{"DuckDB's load with fields", duckdbFields, processorTime},
	})
}
