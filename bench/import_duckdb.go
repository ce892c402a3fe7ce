package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// duckdbLoad is one way to get the lines into DuckDB.
type duckdbLoad struct {
	name string
	// sql makes the table "resources" with the line in the column doc, of the list of
	// files in SQL.
	sql func(files string) string
}

const (
	duckdbText   = "DuckDB: the lines as text"
	duckdbJSON   = "DuckDB: the lines as JSON"
	duckdbFields = "DuckDB: the lines as JSON, with 10 fields in columns"
)

var duckdbLoads = []duckdbLoad{
	{duckdbText, func(files string) string {
		return `create table resources as select doc from read_csv(` + files + `, columns = {'doc': 'VARCHAR'}, auto_detect = false, header = false,
		 delim = '` + "\x02" + `', quote = '', escape = '', max_line_size = 16777216)`
	}},
	{duckdbJSON, func(files string) string {
		return `create table resources as select json as doc from read_ndjson_objects(` + files + `)`
	}},
	{duckdbFields, func(files string) string { return duckdbFieldsTable("resources", files) }},
}

// duckdbColumns are what most searches ask for, with the first place where resources
// have it: Kiln extracts these and every other search parameter, all values of each.
var duckdbColumns = []struct{ name, path string }{
	{"type", "$.resourceType"}, {"id", "$.id"}, {"status", "$.status"}, {"subject", "$.subject.reference"},
	{"code_system", "$.code.coding[0].system"}, {"code", "$.code.coding[0].code"}, {"date", "$.effectiveDateTime"},
	{"unit", "$.valueQuantity.code"}, {"value", "$.valueQuantity.value"}, {"family", "$.name[0].family"},
}

// duckdbFieldsTable reads each line once for all of the columns.
func duckdbFieldsTable(table, files string) string {
	var paths, columns []string
	for i, c := range duckdbColumns {
		paths = append(paths, sqlText(c.path))
		columns = append(columns, fmt.Sprintf("f[%d] as %s", i+1, c.name))
	}
	return `create table ` + table + ` as select doc, ` + strings.Join(columns, ", ") + ` from (select json as doc, json_extract_string(json, [` +
		strings.Join(paths, ", ") + `]) as f from read_ndjson_objects(` + files + `))`
}

// sqlFiles is a list of files in DuckDB's SQL.
func sqlFiles(files []string) string {
	quoted := make([]string, len(files))
	for i, path := range files {
		quoted[i] = sqlText(path)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// measureDuckDBLoads loads the data in each way, each into a new database, until all
// is in the database's file.
func (b *bench) measureDuckDBLoads(ctx context.Context, set *dataSet) error {
	for i := range duckdbLoads {
		if err := b.measureDuckDBLoad(ctx, set, &duckdbLoads[i]); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) measureDuckDBLoad(ctx context.Context, set *dataSet, way *duckdbLoad) (err error) {
	d, err := startDuckDB(ctx, filepath.Join(b.dir, "duckdb.db"))
	if err != nil {
		return err
	}
	loaded, err := d.load(set, way)
	if err != nil {
		return err
	}
	info, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	used := usage{peakBytes: peakMemory(d.cmd.Process.Pid), cpuSeconds: loaded.Processor}
	if err := d.stop(); err != nil {
		return err
	}
	b.report.add(way.name, append(append(throughput(set.resources, set.bytes, loaded.took()), used.figures()...),
		figure{"on disk", float64(blockBytes(info)) / float64(set.resources), "bytes a resource"})...)
	return nil
}

// load makes the table, and sees that it is whole and on disk. The times of both are
// in the answer.
func (d *duckdb) load(set *dataSet, way *duckdbLoad) (*duckdbAnswer, error) {
	loaded, err := d.run(way.sql(sqlFiles(set.files)))
	if err != nil {
		return nil, err
	}
	onDisk, err := d.run("checkpoint")
	if err != nil {
		return nil, err
	}
	loaded.Seconds, loaded.Processor = loaded.Seconds+onDisk.Seconds, loaded.Processor+onDisk.Processor
	if rows, err := d.count("select count(*) from resources"); err != nil || rows != set.resources {
		return nil, fmt.Errorf("cannot compare: %d lines, DuckDB has %d: %w", set.resources, rows, err)
	}
	return loaded, nil
}
