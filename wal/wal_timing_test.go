package wal_test

import (
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

// BenchmarkAppend is one synced batch on the real file system.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) { benchmarkAppend(b, timingOptions(b), n) })
	}
}

func benchmarkAppend(b *testing.B, opts wal.Options, records int) {
	const payloadBytes = 1500 // the mean body of the bench corpus
	l, err := wal.Open(context.Background(), opts, 1, func(wal.Record) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	batch := make([]wal.Entry, records)
	for i := range batch {
		batch[i] = wal.Entry{Type: wal.TypeCommit, Payload: make([]byte, payloadBytes)}
	}
	b.SetBytes(int64(records) * payloadBytes)
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
