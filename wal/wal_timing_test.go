package wal_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"kiln/internal/vfs"
	"kiln/wal"
)

func timingOptions(b *testing.B) wal.Options {
	return wal.Options{FS: vfs.OS(), Dir: filepath.ToSlash(b.TempDir()) + "/log", NewID: rand.Uint32}
}

// timingPayloadBytes is the mean body of the bench corpus.
const timingPayloadBytes = 1500

func timingBatch(records int) []wal.Entry {
	batch := make([]wal.Entry, records)
	for i := range batch {
		batch[i] = wal.Entry{Type: wal.TypeCommit, Payload: bytes.Repeat([]byte{'x'}, timingPayloadBytes)}
	}
	return batch
}

// BenchmarkAppend is one synced batch on the real file system.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) { benchmarkAppend(b, timingOptions(b), n) })
	}
}

func benchmarkAppend(b *testing.B, opts wal.Options, records int) {
	l, err := wal.Open(context.Background(), opts, 1, func(wal.Record) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	batch := timingBatch(records)
	b.SetBytes(int64(records) * timingPayloadBytes)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(batch); err != nil {
			b.Fatal(err)
		}
		if l.Bytes() > 8*wal.SegmentBytesDefault {
			b.StopTimer()
			if err := l.Trim(l.LastLSN()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
}

// BenchmarkOpen replays a log of four full segments from the page cache.
func BenchmarkOpen(b *testing.B) {
	opts := timingOptions(b)
	fillLog(b, opts, 4*wal.SegmentBytesDefault)
	b.SetBytes(4 * wal.SegmentBytesDefault)
	b.ReportAllocs()
	for b.Loop() {
		l, err := wal.Open(context.Background(), opts, 1, func(wal.Record) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkReadAt is one body read back from the page cache.
func BenchmarkReadAt(b *testing.B) {
	opts := timingOptions(b)
	placed := fillLog(b, opts, wal.SegmentBytesDefault)
	l, err := wal.Open(context.Background(), opts, 1, func(wal.Record) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	dst := make([]byte, timingPayloadBytes)
	b.SetBytes(timingPayloadBytes)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := l.ReadAt(dst, placed[i*7919%len(placed)].Position); err != nil {
			b.Fatal(err)
		}
	}
}

func fillLog(b *testing.B, opts wal.Options, upto int64) (placed []wal.Placed) {
	b.Helper()
	l, err := wal.Open(context.Background(), opts, 1, func(wal.Record) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	batch := timingBatch(1000)
	for l.Stats().Bytes < upto {
		list, err := l.Append(batch)
		if err != nil {
			b.Fatal(err)
		}
		placed = append(placed, list...)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	return placed
}
