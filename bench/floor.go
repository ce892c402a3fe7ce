package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"kiln/fhir"
)

// Floors: what nobody who does the whole work can be faster than.
const (
	floorScan  = "floor: a scan of the same JSON, all cores"
	floorZstd  = "floor: zstd -1 of the same bytes, all cores"
	floorWrite = "floor: the same bytes written to a file, and fsync"
)

// pieceBytes is what a worker takes at a time; a piece ends with its last line.
const pieceBytes = 1 << 20

// measureFloors lets this process do the least that an import has to: look at every
// byte, compress it, and have it on disk.
func (b *bench) measureFloors(ctx context.Context, set *dataSet) error {
	packed, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		return err
	}
	defer packed.Close()
	floors := []struct {
		name string
		work func() error
	}{
		{floorScan, func() error { return set.eachPiece(ctx, scanPieces) }},
		{floorZstd, func() error { return set.eachPiece(ctx, zstdPieces(packed)) }},
		{floorWrite, func() error { return set.writeOnce(filepath.Join(b.dir, "written")) }},
	}
	for _, f := range floors {
		start := time.Now()
		if err := f.work(); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		b.report.add(f.name, throughput(set.resources, set.bytes, time.Since(start))...)
	}
	return nil
}

// scanPieces makes a worker that finds the type, the id and the form of each line.
func scanPieces() func(piece []byte) error {
	scanner := fhir.NewScanner(fhir.ScannerOptions{})
	return func(piece []byte) error {
		for line := range bytes.Lines(piece) {
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			// A line that is refused was looked at, too.
			_, _ = scanner.Scan(line, nil)
		}
		return nil
	}
}

// zstdPieces makes workers that compress 64 KiB at a time, as blocks of runs are.
func zstdPieces(packed *zstd.Encoder) func() func(piece []byte) error {
	const blockBytes = 64 << 10
	return func() func(piece []byte) error {
		var out []byte
		return func(piece []byte) error {
			for len(piece) > 0 {
				n := min(len(piece), blockBytes)
				out, piece = packed.EncodeAll(piece[:n], out[:0]), piece[n:]
			}
			return nil
		}
	}
}

// eachPiece reads the data once and deals it out to a worker on each core.
func (d *dataSet) eachPiece(ctx context.Context, newWorker func() func(piece []byte) error) error {
	pieces := make(chan []byte)
	group, ctx := errgroup.WithContext(ctx)
	for range runtime.GOMAXPROCS(0) {
		work := newWorker()
		group.Go(func() error {
			for piece := range pieces {
				if err := work(piece); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(pieces)
		for _, path := range d.files {
			if err := piecesOf(ctx, path, pieces); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// piecesOf sends whole lines of a file, about pieceBytes at a time.
func piecesOf(ctx context.Context, path string, pieces chan<- []byte) error {
	return withPlain(path, func(r io.Reader) error {
		lines := bufio.NewReaderSize(r, pieceBytes)
		for {
			piece := make([]byte, pieceBytes)
			n, err := io.ReadFull(lines, piece)
			if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
				return err
			}
			rest, restErr := lines.ReadBytes('\n')
			if piece = append(piece[:n], rest...); len(piece) > 0 {
				select {
				case pieces <- piece:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			if restErr == io.EOF {
				return nil
			}
			if restErr != nil {
				return restErr
			}
		}
	})
}

// writeOnce writes all of the data into one file, waits until it is on disk, and
// removes it.
func (d *dataSet) writeOnce(path string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	for _, from := range d.files {
		err = errors.Join(err, withPlain(from, func(r io.Reader) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{r}, make([]byte, pieceBytes))
			return err
		}))
	}
	return errors.Join(err, out.Sync(), out.Close(), os.Remove(path))
}
