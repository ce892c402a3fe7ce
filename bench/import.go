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
	Versions        int  `help:"Also import so many dated versions of each of some of the resources, about as many lines as the data has." placeholder:"N"`
	ComparePostgres bool `help:"Between the runs, COPY the same lines into a jsonb column of PostgreSQL."`
	PostgresIndex   bool `help:"Also build a GIN index on that column, the least that a search needs." default:"true" negatable:""`
	CompareDuckDB   bool `help:"Between the runs, load the same lines into DuckDB: as text, as JSON, and with fields in columns." name:"compare-duckdb"`
	Floors          bool `help:"Between the runs, do the least with the same bytes: scan them, compress them, write them."`
}

// Run measures InitialLoad into an empty store.
func (c *importCommand) Run(ctx context.Context) error {
	return c.runBench(ctx, "import", func(b *bench) error { return c.measure(ctx, b) })
}

// importing is the measurement under way.
type importing struct {
	*importCommand
	bench     *bench
	set       *dataSet
	histories *dataSet  // nil: not measured
	copier    *postgres // nil: not compared
}

func (c *importCommand) measure(ctx context.Context, b *bench) error {
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
	m := importing{importCommand: c, bench: b, set: set}
	if c.Versions > 0 {
		if m.histories, err = set.histories(c.Versions, filepath.Join(b.dir, "histories")); err != nil {
			return err
		}
	}
	if c.ComparePostgres {
		if m.copier, err = startPostgres(ctx, b.dir, forBulk); err != nil {
			return err
		}
		defer m.copier.stop()
	}
	for i := range c.Runs {
		if err := m.round(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// round lets everything that is compared have its turn.
func (m *importing) round(ctx context.Context, i int) error {
	if err := m.bench.measureImport(ctx, m.set, i, m.Again); err != nil {
		return err
	}
	if m.copier != nil {
		if err := m.measureCopy(ctx, m.bench, m.copier, m.set); err != nil {
			return err
		}
	}
	if m.CompareDuckDB {
		if err := m.bench.measureDuckDBLoads(ctx, m.set); err != nil {
			return err
		}
	}
	if m.Floors {
		if err := m.bench.measureFloors(ctx, m.set); err != nil {
			return err
		}
	}
	m.bench.compareImport()
	if m.histories == nil {
		return nil
	}
	return m.bench.measureHistories(ctx, m.histories, m.Versions)
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

// measureImport imports into an empty store, and perhaps the same once more.
func (b *bench) measureImport(ctx context.Context, set *dataSet, i int, again bool) error {
	dataDir := filepath.Join(b.dir, fmt.Sprintf("store-%d", i))
	loaded, figures, err := b.importOnce(ctx, dataDir, set, "InitialLoad")
	if err != nil {
		return err
	}
	sizes, err := diskBytes(dataDir)
	if err != nil {
		return err
	}
	b.report.add(kilnRun, append(figures, diskFigures(sizes, loaded, "bytes a resource")...)...)
	if again {
		// Lines that the first import refused may be refused again or be found equal.
		if _, figures, err = b.importOnce(ctx, dataDir, set, "IncrementalLoad"); err != nil {
			return err
		}
		b.report.add(againRun, figures...)
	}
	return os.RemoveAll(dataDir)
}

// importOnce starts a server on a store, imports, and stops it.
func (b *bench) importOnce(ctx context.Context, dataDir string, set *dataSet, mode string) (loaded float64, figures []figure, err error) {
	s, err := b.start(ctx, dataDir, set.dir)
	if err != nil {
		return 0, nil, err
	}
	result, took, err := s.runImport(ctx, set.files, mode)
	if err != nil {
		return 0, nil, err
	}
	used, err := s.stop()
	if err != nil {
		return 0, nil, err
	}
	if result.loaded()+result.refused() != set.resources {
		return 0, nil, fmt.Errorf("cannot trust the figures: %d lines, %d loaded, %d refused", set.resources, result.loaded(), result.refused())
	}
	figures = append(throughput(set.resources, set.bytes, took), used.figures()...)
	loaded = float64(result.loaded())
	return loaded, append(figures, figure{"loaded, or found equal", loaded, "lines"}, figure{"refused", float64(result.refused()), "lines"}), nil
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
