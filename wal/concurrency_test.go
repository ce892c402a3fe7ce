package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"kiln/internal/vfs"
	"kiln/wal"
)

// TestReadersAndTrimRunBesideAppend uses the real file system and background
// preparation: what Append returned can be read by everyone at once, until it is
// trimmed.
func TestReadersAndTrimRunBesideAppend(t *testing.T) {
	opts := testOptions(vfs.OS())
	opts.Dir, opts.PrepareInline = filepath.ToSlash(t.TempDir())+"/log", false
	l, _ := openLog(t, opts, 1)
	placed := make(chan wal.Placed, 1000)
	var wg sync.WaitGroup
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				t.Error(err)
			}
		})
	}
	run(func() error { defer close(placed); return appendAll(l, placed) })
	for range 2 {
		run(func() error { return readAll(l, placed) })
	}
	run(func() error { return tailUpTo(l, 150) })
	run(func() error {
		for l.LastLSN() < 150 {
			if err := l.Trim(l.LastLSN() / 2); err != nil {
				return err
			}
			l.Stats()
			l.Bytes()
		}
		return nil
	})
	wg.Wait()
	must(t, l.Close())
	l, _ = openLog(t, opts, l.LastLSN())
	must(t, l.Close())
}

func appendAll(l *wal.Log, placed chan<- wal.Placed) error {
	for l.LastLSN() < 150 {
		list, err := l.Append(entries(l.LastLSN()+1, 3))
		if err != nil {
			return err
		}
		for _, p := range list {
			placed <- p
		}
	}
	return nil
}

func readAll(l *wal.Log, placed <-chan wal.Placed) error {
	for p := range placed {
		want := payload(p.LSN)
		got := make([]byte, len(want))
		if err := l.ReadAt(got, p.Position); errors.Is(err, wal.ErrTrimmed) {
			continue
		} else if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("LSN %d reads back wrong", p.LSN)
		}
	}
	return nil
}

// tailUpTo follows the log; what Trim took before it was read is skipped.
func tailUpTo(l *wal.Log, last wal.LSN) error {
	for next := wal.LSN(1); next <= last; {
		err := l.Tail(context.Background(), next, func(r wal.Record) error {
			if r.LSN != next {
				return fmt.Errorf("LSN %d follows %d", r.LSN, next-1)
			}
			next++
			return checkRecord(r)
		})
		if errors.Is(err, wal.ErrTrimmed) {
			next = max(next, l.FirstLSN())
		} else if err != nil {
			return err
		}
	}
	return nil
}

// TestAppendDoesNotAllocatePerRecord: a batch of a thousand costs what one costs.
func TestAppendDoesNotAllocatePerRecord(t *testing.T) {
	l, err := wal.Open(context.Background(), wal.Options{
		FS: discardFS{vfs.NewMem(1)}, Dir: "/log", PrepareInline: true, SegmentBytes: 1 << 30,
		NewID: func() uint32 { return 1 },
	}, 1, nil)
	must(t, err)
	batch := entries(1, 1000)
	allocs := testing.AllocsPerRun(20, func() {
		if _, err := l.Append(batch); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 2 {
		t.Fatalf("%v allocations for a batch", allocs)
	}
	must(t, l.Close())
}

// discardFS forgets what is written, so that only the log's own work is measured.
type discardFS struct{ *vfs.Mem }

func (fsys discardFS) Create(name string) (vfs.File, error) {
	f, err := fsys.Mem.Create(name)
	return discardFile{f}, err
}

type discardFile struct{ vfs.File }

func (discardFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
