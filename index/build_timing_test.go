package index

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"kiln/fhir"
	"kiln/internal/shareddata"
	"kiln/internal/vfs"
)

// corpusLines reads every NDJSON file below the shared data set, or skips.
func corpusLines(tb testing.TB, set string) (lines [][]byte, bytes int64) {
	tb.Helper()
	dir := shareddata.Path(tb, "data", set)
	var names []string
	for _, ext := range []string{"gz", "zst"} {
		for _, pattern := range []string{"*.ndjson." + ext, "*/*.ndjson." + ext} {
			found, _ := filepath.Glob(filepath.Join(dir, pattern))
			names = append(names, found...)
		}
	}
	if len(names) == 0 {
		tb.Skipf("no lines in %s", dir)
	}
	sort.Strings(names)
	for _, name := range names {
		if strings.HasPrefix(filepath.Base(name), "_") {
			continue
		}
		for _, line := range fileLines(tb, name) {
			lines = append(lines, line)
			bytes += int64(len(line))
		}
	}
	return lines, bytes
}

func fileLines(tb testing.TB, name string) (lines [][]byte) {
	tb.Helper()
	for line := range bytes.Lines(shareddata.Read(tb, name)) {
		lines = append(lines, bytes.TrimRight(line, "\r\n"))
	}
	return lines
}

// scanned is a resource with its terms, so that a benchmark builds without scanning.
type scanned struct {
	res   fhir.Resource
	terms []givenTerm
}

type givenTerm struct {
	p     Param
	value []byte
}

// recorder is a TermSink.
type recorder struct{ terms []givenTerm }

func (x *recorder) AddTerm(p Param, value []byte) {
	x.terms = append(x.terms, givenTerm{p, append([]byte(nil), value...)})
}

// testExtraction is what the program extracts.
func testExtraction(tb testing.TB) *Extraction {
	tb.Helper()
	extraction, err := LoadExtraction()
	if err != nil {
		tb.Fatal(err)
	}
	return extraction
}

func scanCorpus(tb testing.TB, set string) (all []scanned, bytes int64) {
	tb.Helper()
	lines, bytes := corpusLines(tb, set)
	extraction := testExtraction(tb)
	s := extraction.NewExtractor(nil)
	for _, line := range lines {
		x := &recorder{}
		s.Reset(x)
		res, err := s.Scan(line)
		if err != nil {
			tb.Fatal(err)
		}
		kept := *res
		kept.Body = append([]byte(nil), res.Body...)
		kept.ID = append([]byte(nil), res.ID...)
		all = append(all, scanned{kept, x.terms})
	}
	return all, bytes
}

func buildCorpus(b *testing.B, fs vfs.FS, dir string, id RunID, pool *BuilderPool, all []scanned) (RunMeta, int64) {
	builder, err := NewBuilder(BuilderOptions{FS: fs, Dir: dir, ID: id, Pool: pool})
	if err != nil {
		b.Fatal(err)
	}
	for i := range all {
		r := &all[i]
		for _, t := range r.terms {
			builder.AddTerm(t.p, t.value)
		}
		if _, err := builder.Append(r.res.Type, r.res.ID, r.res.IDAt, r.res.Body, r.res.Splice); err != nil {
			b.Fatal(err)
		}
	}
	memory := builder.MemoryBytes()
	builder.SortKeys()
	row := Row{LastUpdated: fhir.Instant{Milli: 1, OffsetMinutes: fhir.OffsetZ}}
	var last []byte
	for c := builder.KeyCursor(); c.Next(); last = c.Key() {
		row.VersionID++
		if string(last) != string(c.Key()) {
			row.VersionID = 1
		}
		row.Type = all[c.Ordinal()].res.Type
		builder.SetRow(c.Ordinal(), row)
	}
	meta, err := builder.Seal(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	return meta, memory
}

// cpuSeconds is what this process has used of all cores; on a busy machine it
// tells more than the clock does.
func cpuSeconds() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkBuild measures AddTerm, Append and Seal in runs of 200,000 rows.
// KILN_BENCH names the data set (default public-mini; bench is the large one).
func BenchmarkBuild(b *testing.B) {
	set := os.Getenv("KILN_BENCH")
	if set == "" {
		set = "public-mini"
	}
	all, bytes := scanCorpus(b, set)
	const rowsPerRun = 200_000
	dir, pool := b.TempDir(), &BuilderPool{}
	id := RunID(0)
	var disk, memory int64
	b.SetBytes(bytes)
	b.ReportAllocs()
	used := cpuSeconds()
	for b.Loop() {
		disk, memory = 0, 0
		for start := 0; start < len(all); start += rowsPerRun {
			id++
			meta, held := buildCorpus(b, vfs.OS(), dir, id, pool, all[start:min(start+rowsPerRun, len(all))])
			disk += meta.Bytes
			memory = max(memory, held)
		}
	}
	b.ReportMetric((cpuSeconds()-used)/float64(b.N), "cpu-s/op")
	b.ReportMetric(float64(disk)/float64(len(all)), "disk-B/row")
	b.ReportMetric(float64(memory), "memory-B")
	b.ReportMetric(float64(len(all)), "rows")
}

// BenchmarkCompress is the part of BenchmarkBuild that zstd takes.
func BenchmarkCompress(b *testing.B) {
	set := os.Getenv("KILN_BENCH")
	if set == "" {
		set = "public-mini"
	}
	lines, bytes := corpusLines(b, set)
	enc := newEncoder()
	var raw, out []byte
	b.SetBytes(bytes)
	used := cpuSeconds()
	for b.Loop() {
		for _, line := range lines {
			if len(raw)+len(line) > bodyBlockBytes {
				out = enc.EncodeAll(raw, out[:0])
				raw = raw[:0]
			}
			raw = append(raw, line...)
		}
	}
	b.ReportMetric((cpuSeconds()-used)/float64(b.N), "cpu-s/op")
}
