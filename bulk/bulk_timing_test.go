package bulk

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"sync"
	"testing"
	"time"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// sharedDir is the folder of real data next to the repository; tests that need
// it are skipped without it.
func sharedDir(tb testing.TB, parts ...string) string {
	tb.Helper()
	base := os.Getenv("KILN_SHARED")
	if base == "" {
		base = "../../shared"
	}
	dir, err := filepath.Abs(filepath.Join(append([]string{base}, parts...)...))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		tb.Skipf("no shared data at %s; set KILN_SHARED", dir)
	}
	return dir
}

// benchFiles lists the bench corpus; the later versions of ids come last.
func benchFiles(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(sharedDir(tb, "data", "bench"), "*", "[A-Z]*.ndjson.zst"))
	if err != nil || len(files) == 0 {
		tb.Skip("no bench corpus")
	}
	sort.Strings(files)
	return files
}

// BenchmarkScanAndSeal is an import without the store: decompress, split,
// scan, append, sort and seal with two workers. One iteration is the corpus.
func BenchmarkScanAndSeal(b *testing.B) {
	files := benchFiles(b)
	for b.Loop() {
		var inputs []feedInput
		for i, name := range files {
			inputs = append(inputs, feedInput{number: i, open: func(context.Context) (source, error) { return openFile(vfs.OS(), name, name) }})
		}
		begin := time.Now()
		f := newFeed(context.Background(), inputs, feedOptions{chunkBytes: chunkBytes, lineBytes: LineBytesMax, unitBytes: UnitBytesDefault, readers: 3})
		chunks := make(chan chunk)
		paths, err := fhir.NewPaths(index.PathRules())
		if err != nil {
			b.Fatal(err)
		}
		rules := &lineRules{mode: InitialLoad, types: make([]fhir.TypeCode, len(files)), now: func() int64 { return 1 << 42 }}
		dir := b.TempDir()
		var scanned, rows int
		var total int64
		var mu sync.Mutex
		var group sync.WaitGroup
		for worker := range 2 {
			group.Go(func() {
				builder, err := index.NewBuilder(index.BuilderOptions{FS: vfs.OS(), Dir: dir, ID: index.RunID(worker + 1)})
				if err != nil {
					b.Error(err)
					return
				}
				w := newLineScanner(rules, paths, builder)
				for c := range chunks {
					info := &chunkInfo{input: c.input}
					if err := w.chunk(&c, info, 0); err != nil {
						b.Error(err)
					}
					mu.Lock()
					scanned += int(info.lines)
					total += int64(len(c.data))
					mu.Unlock()
					c.release()
				}
				scanEnd := time.Since(begin)
				memory := builder.MemoryBytes()
				builder.SortKeys()
				last := ""
				for c := builder.KeyCursor(); c.Next(); last = string(c.Key()) {
					if o := c.Ordinal(); last == string(c.Key()) {
						builder.Drop(o)
					} else {
						w.rows[o].version = 1
						builder.SetRow(o, w.rows[o].columns())
					}
				}
				sorted := time.Since(begin)
				meta, err := builder.Seal(context.Background())
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				rows += int(meta.Rows)
				mu.Unlock()
				b.Logf("worker %d: %d rows, %.1f MiB memory, scanned at %v, sorted at %v, sealed at %v, %d bytes", worker, meta.Rows, float64(memory)/(1<<20), scanEnd, sorted, time.Since(begin), meta.Bytes)
			})
		}
		for {
			c, err := f.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			chunks <- c
		}
		close(chunks)
		group.Wait()
		f.stop()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		b.SetBytes(total)
		b.ReportMetric(float64(rows)/time.Since(begin).Seconds(), "rows/s")
		b.ReportMetric(float64(stats.Sys)/(1<<20), "sysMiB")
		b.ReportMetric(float64(stats.NumGC), "gcs")
	}
}
