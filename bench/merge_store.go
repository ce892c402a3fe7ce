package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// unmergedFlags start a server that leaves its runs as they are. What else such a
// server does by itself is left out, and what would have to be copied.
var unmergedFlags = []string{"--merge-fan-in=-1", "--scrub-interval", "0", "--ballast", "0"}

// mergingFlags start one that merges.
var mergingFlags = unmergedFlags[1:]

// manyRuns fills a store with the data and copies of it, one import each, and leaves
// all runs as they were imported.
func (b *bench) manyRuns(ctx context.Context, set *dataSet, copies int) (dir string, runs int, err error) {
	from := filepath.Join(b.dir, "copies")
	if err := os.Mkdir(from, 0o755); err != nil {
		return "", 0, err
	}
	paths, err := set.copies(copies-1, from)
	if err != nil {
		return "", 0, err
	}
	dir = filepath.Join(b.dir, "store")
	s, err := b.start(ctx, dir, b.dir, append(unmergedFlags, "--import-root", set.dir)...)
	if err != nil {
		return "", 0, err
	}
	if _, err := s.fill(ctx, set); err != nil {
		return "", 0, err
	}
	for _, path := range paths {
		if _, _, err := s.runImport(ctx, []string{path}, "InitialLoad"); err != nil {
			return "", 0, err
		}
	}
	if _, err := s.stop(); err != nil {
		return "", 0, err
	}
	entries, err := os.ReadDir(runsOf(dir))
	return dir, len(entries), errors.Join(err, os.RemoveAll(from))
}

// copyStore makes a store like one that nobody has open, without its ballast. Runs
// never change, so both have the same files.
func copyStore(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.Mkdir(target, 0o755)
		case filepath.Dir(path) == runsOf(from):
			return os.Link(path, target)
		case d.Name() == ballastFile:
			return nil
		}
		return copyFile(path, target)
	})
}

// copyFile waits until the copy is on disk: what is written later would be in the
// way of what is measured.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("cannot copy %q: %w", from, err)
	}
	return nil
}
