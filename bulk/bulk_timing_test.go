package bulk

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sort"
	"strconv"
	"testing"
	"time"

	"kiln/engine"
	"kiln/internal/shareddata"
	"kiln/internal/vfs"
)

// benchFiles lists the bench corpus; the later versions of ids come last.
func benchFiles(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(shareddata.Path(tb, "data", "bench"), "*", "[A-Z]*.ndjson.zst"))
	if err != nil || len(files) == 0 {
		tb.Skip("no bench corpus")
	}
	sort.Strings(files)
	return files
}

// benchManager opens a store on disk, with its inputs readable.
func benchManager(b *testing.B, dir string, change ...func(*Options)) (*engine.Store, *Manager) {
	b.Helper()
	logger := slog.New(slog.DiscardHandler)
	store, err := engine.Open(context.Background(), engine.Options{FS: vfs.OS(), Dir: dir, Now: time.Now, NewID: rand.Uint64, Logger: logger})
	if err != nil {
		b.Fatal(err)
	}
	opts := Options{Store: store, Now: time.Now, NewID: rand.Uint64, Logger: logger, ImportRoots: []string{shareddata.Path(b, "data")}}
	for _, f := range change {
		f(&opts)
	}
	jobs, err := NewManager(context.Background(), opts)
	if err != nil {
		b.Fatal(err)
	}
	return store, jobs
}

// benchImport runs one import and returns its lines.
func benchImport(b *testing.B, jobs *Manager, mode Mode, source string, files []string) int64 {
	b.Helper()
	r := &ImportRequest{Mode: mode, InputSource: source}
	for _, name := range files {
		r.Inputs = append(r.Inputs, ImportInput{URL: name})
	}
	id, err := jobs.StartImport(context.Background(), r)
	if err != nil {
		b.Fatal(err)
	}
	status, err := jobs.WaitImport(context.Background(), id)
	if err != nil || status.State != Completed {
		b.Fatalf("the import ends as %+v, %v", status, err)
	}
	lines := int64(0)
	for _, in := range status.Inputs {
		lines += in.Loaded + in.Refused
	}
	return lines
}

// BenchmarkImport loads the bench corpus (366,195 lines, 522 MB) into an empty
// store on disk: one iteration is all of it.
func BenchmarkImport(b *testing.B) { benchImports(b) }

// BenchmarkImportChecked is the same with every line's structure checked.
func BenchmarkImportChecked(b *testing.B) {
	benchImports(b, func(o *Options) { o.ValidateStructure = true })
}

func benchImports(b *testing.B, change ...func(*Options)) {
	files := benchFiles(b)
	lines := int64(0)
	for b.Loop() {
		store, jobs := benchManager(b, b.TempDir(), change...)
		lines += benchImport(b, jobs, InitialLoad, "", files)
		if err := errors.Join(jobs.Close(), store.Close()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds(), "lines/s")
}

// BenchmarkImportAgain loads what is there already: nothing is written.
func BenchmarkImportAgain(b *testing.B) {
	files := benchFiles(b)
	store, jobs := benchManager(b, b.TempDir())
	benchImport(b, jobs, IncrementalLoad, "", files)
	lines := int64(0)
	for b.Loop() {
		lines += benchImport(b, jobs, IncrementalLoad, strconv.FormatInt(lines+1, 10), files)
	}
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds(), "lines/s")
	if err := errors.Join(jobs.Close(), store.Close()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkExport writes the whole corpus to files.
func BenchmarkExport(b *testing.B) {
	files := benchFiles(b)
	store, jobs := benchManager(b, b.TempDir())
	benchImport(b, jobs, InitialLoad, "", files)
	rows, size := int64(0), int64(0)
	for b.Loop() {
		id, err := jobs.StartExport(context.Background(), &ExportRequest{})
		if err != nil {
			b.Fatal(err)
		}
		status, err := jobs.WaitExport(context.Background(), id)
		if err != nil || status.State != Completed {
			b.Fatalf("the export ends as %+v, %v", status, err)
		}
		size = 0
		for _, f := range status.Files {
			rows += f.Count
			size += f.Bytes
		}
		if err := jobs.DeleteExport(context.Background(), id); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(size)
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "lines/s")
	if err := errors.Join(jobs.Close(), store.Close()); err != nil {
		b.Fatal(err)
	}
}
