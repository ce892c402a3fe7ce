package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

type exportCommand struct {
	settings
	Runs            int    `help:"Measure this many times." default:"1"`
	ComparePostgres bool   `help:"Between the runs, let PostgreSQL COPY the same lines out of a jsonb column into a file."`
	CompareDuckDB   bool   `help:"Between the runs, let DuckDB COPY the same lines into a file." name:"compare-duckdb"`
	Floors          bool   `help:"Between the runs, write the same bytes to a file."`
	Parts           bool   `help:"Also export a type, what a filter finds, and what changed since."`
	ByPatient       int    `help:"Also export all patients' resources so many times, by type and organized by patients in turn." placeholder:"N"`
	Group           []int  `help:"Also export Groups of so many patients." placeholder:"N"`
	Codings         bool   `help:"Also download the file with most lines as it is, as gzip and as zstd."`
	Azure           string `help:"Also export into a container of this storage account, a connection string." placeholder:"TEXT"`
}

const (
	exportRun  = "kiln: $export to its own files, separate process"
	copyOutRun = "PostgreSQL: COPY of jsonb to a file, one connection"
)

// Run measures $export at system level, its download, and exports of groups. The
// server is started anew after the import, so that its memory is that of exports.
func (c *exportCommand) Run(ctx context.Context) error {
	return c.runBench(ctx, "export", func(b *bench) error {
		set, err := b.prepareData()
		if err != nil {
			return err
		}
		s, err := b.start(ctx, filepath.Join(b.dir, "store"), set.dir)
		if err != nil {
			return err
		}
		loaded, err := s.fill(ctx, set)
		if err != nil {
			return err
		}
		others, err := c.fillOthers(ctx, b, set)
		if err != nil {
			return err
		}
		defer others.stop()
		if _, err := s.stop(); err != nil {
			return err
		}
		return c.measure(ctx, b, set, loaded, others)
	})
}

// measure starts the server on the filled store and lets everything have its turns.
func (c *exportCommand) measure(ctx context.Context, b *bench, set *dataSet, loaded int64, others *exportOthers) error {
	var flags []string
	if c.Azure != "" {
		flags = []string{"--azure-connection-string", c.Azure}
	}
	s, err := b.start(ctx, filepath.Join(b.dir, "store"), set.dir, flags...)
	if err != nil {
		return err
	}
	if err := s.waitIdle(ctx); err != nil {
		return err
	}
	for range c.Runs {
		if err := b.measureExport(ctx, s, loaded); err != nil {
			return err
		}
		if err := others.measure(ctx, b, loaded); err != nil {
			return err
		}
		b.compareExports()
	}
	if err := c.measureRest(ctx, b, s, set); err != nil {
		return err
	}
	used, err := s.stop()
	if err != nil {
		return err
	}
	b.report.add(serverInAll+", without the import", used.figures()...)
	return nil
}

// measureRest does what was asked for beside whole exports.
func (c *exportCommand) measureRest(ctx context.Context, b *bench, s *server, set *dataSet) error {
	if c.Parts {
		if err := b.measureParts(ctx, s, set, c.Runs); err != nil {
			return err
		}
	}
	if err := c.measurePatients(ctx, b, s); err != nil {
		return err
	}
	if c.Codings {
		if err := b.measureCodings(ctx, s, c.Runs); err != nil {
			return err
		}
	}
	if c.Azure == "" {
		return nil
	}
	return b.measureAccount(ctx, s)
}

func (b *bench) measureCopyOut(ctx context.Context, p *postgres, loaded int64) error {
	path := filepath.Join(p.dir, "out.ndjson")
	start := time.Now()
	if _, err := p.psql(ctx, "copy resources to '"+strings.ReplaceAll(path, "'", "''")+"' with (format csv, quote e'\\x01', delimiter e'\\x02')"); err != nil {
		return err
	}
	return b.reportCopy(copyOutRun, path, loaded, time.Since(start))
}

// copyAndSync is the time of a COPY and of the sync behind it.
const copyAndSync = "time with a sync"

// reportCopy tells how long another one's COPY to a file took, and how long with a sync
// of the file, which it does not wait for by itself; then it removes the file.
func (b *bench) reportCopy(name, path string, loaded int64, took time.Duration, more ...figure) error {
	start := time.Now()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := file.Sync(); err != nil {
		return err
	}
	synced := took + time.Since(start)
	lines, size, err := countLines(file)
	if err != nil {
		return fmt.Errorf("cannot read what was copied: %w", err)
	}
	if lines < loaded { // the table has what $import refuses, too
		return fmt.Errorf("cannot trust %s: %d resources in the store, %d lines", name, loaded, lines)
	}
	b.report.add(name, append(append(throughput(lines, size, took), figure{copyAndSync, synced.Seconds(), "s"}), more...)...)
	return os.Remove(path)
}

// measureGroup exports a Group of n patients.
func (b *bench) measureGroup(ctx context.Context, s *server, n int) error {
	group, err := s.makeGroup(ctx, n)
	if err != nil {
		return fmt.Errorf("cannot make a Group of %d: %w", n, err)
	}
	result, took, err := s.runExport(ctx, "/"+group, "")
	if err != nil {
		return err
	}
	var count int64
	for _, file := range result.Output {
		count += file.Count
	}
	b.report.add(fmt.Sprintf("kiln: $export of a Group of %s", counted(n, "patient")),
		figure{"time", took.Seconds(), "s"}, figure{"resources", float64(count), "resources"}, figure{"files", float64(len(result.Output)), "files"})
	return nil
}

// measurePatients exports what patients have.
func (c *exportCommand) measurePatients(ctx context.Context, b *bench, s *server) error {
	for range c.ByPatient {
		if err := b.measureByPatient(ctx, s); err != nil {
			return err
		}
	}
	for range c.Runs {
		for _, n := range c.Group {
			if err := b.measureGroup(ctx, s, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// measureByPatient exports what is in the patients' compartments, in files by type and
// in files organized by patients. These have more lines: headers, and resources that
// are several patients'.
func (b *bench) measureByPatient(ctx context.Context, s *server) error {
	for _, how := range []struct{ name, query string }{
		{"kiln: $export of all patients, by type", ""},
		{"kiln: $export of all patients, organized by patients", "?organizeOutputBy=Patient"},
	} {
		before := s.readCPU()
		result, took, err := s.runExport(ctx, "/Patient", how.query)
		if err != nil {
			return err
		}
		after := s.readCPU()
		var lines int64
		for _, file := range result.Output {
			lines += file.Count
		}
		b.report.add(how.name, figure{"time", took.Seconds(), "s"}, figure{"processor time", (after.server - before.server).Seconds(), "s"},
			figure{"lines", float64(lines), "lines"}, figure{"files", float64(len(result.Output)), "files"}, after.others(before, took))
	}
	return nil
}

// makeGroup makes a Group of n patients of the store and gives its address below the base.
func (s *server) makeGroup(ctx context.Context, n int) (string, error) {
	var page struct {
		Entry []struct{ Resource struct{ ID string } }
	}
	address := fmt.Sprintf("%s/Patient?_count=%d&_elements=id", s.base, min(n, 1000))
	text, err := get(ctx, address)
	if err == nil {
		err = json.Unmarshal(text, &page)
	}
	if err != nil {
		return "", err
	}
	if len(page.Entry) != n {
		return "", fmt.Errorf("there are %d patients on a page", len(page.Entry))
	}
	id := fmt.Sprintf("bench-%d", n)
	body := fmt.Appendf(nil, `{"resourceType":"Group","id":%q,"type":"person","actual":true,"member":[`, id)
	for i, e := range page.Entry {
		if i > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"entity":{"reference":"Patient/%s"}}`, e.Resource.ID)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, s.base+"/Group/"+id, bytes.NewReader(append(body, "]}"...)))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/fhir+json")
	response, answer, err := exchange(request)
	if err == nil && response.StatusCode != http.StatusCreated && response.StatusCode != http.StatusOK { // 200: it was made before
		err = unexpected(response, answer)
	}
	return "Group/" + id, err
}

func (b *bench) measureExport(ctx context.Context, s *server, loaded int64) error {
	before := s.readCPU()
	result, took, err := s.runExport(ctx, "", "")
	if err != nil {
		return err
	}
	used := s.readCPU().server - before.server
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
	b.report.add(exportRun, append(throughput(lines, size, took),
		figure{"files", float64(len(result.Output)), "files"}, figure{"processor time a resource", float64(used.Nanoseconds()) / 1e3 / float64(lines), "µs"})...)
	b.report.add("kiln: download of the files, one connection", throughput(lines, size, downloaded)...)
	return nil
}

// download reads a file to its end and counts its lines and bytes.
func download(ctx context.Context, address string) (lines, size int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, 0, err
	}
	request.Header.Set("Accept-Encoding", "identity")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, 0, unexpected(response, nil)
	}
	if lines, size, err = countLines(response.Body); err != nil {
		return 0, 0, fmt.Errorf("cannot download %q: %w", address, err)
	}
	return lines, size, nil
}

func countLines(r io.Reader) (lines, size int64, err error) {
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		lines += int64(bytes.Count(buf[:n], []byte{'\n'}))
		size += int64(n)
		if err == io.EOF {
			return lines, size, nil
		}
		if err != nil {
			return 0, 0, err
		}
	}
}
