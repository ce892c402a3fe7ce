package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"kiln/index"
)

// NewRun makes a builder for a run of this store with a fresh id.
func (s *Store) NewRun() (*index.Builder, error) { return s.NewRunBy(s.Extraction()) }

// NewRunBy is NewRun for terms by an extraction that is or was the store's.
func (s *Store) NewRunBy(extraction *index.Extraction) (*index.Builder, error) {
	if err := s.refuseWrites(); err != nil {
		return nil, err
	}
	return s.newBuilder(extraction)
}

// newBuilder is NewRun below the space watermark too: a flush gives space back.
func (s *Store) newBuilder(extraction *index.Extraction) (*index.Builder, error) {
	id := index.RunID(s.nextRun.Add(1) - 1)
	return index.NewBuilder(index.BuilderOptions{
		FS: s.opts.FS, Dir: s.path(runsDir), ID: id, Pool: s.opts.builders, Extraction: extraction, BlockBytes: s.opts.BlockBytes,
	})
}

// removeRun deletes the file of a sealed run that no record names, or that a
// durable REPLACE took out.
func (s *Store) removeRun(id index.RunID) error {
	name := path.Join(s.path(runsDir), runFileName(uint64(id)))
	if err := s.opts.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove run %016x: %w", uint64(id), err)
	}
	return nil
}

// removeOrphans deletes what a crash left unpublished: runs that no record
// names, and files that were still being written. The whole replay succeeded.
func (s *Store) removeOrphans() error {
	if err := s.removeFiles(runsDir, func(name string) bool {
		id, ok := parseHexName(name, runSuffix)
		return ok && s.view.run(index.RunID(id)) == nil
	}); err != nil {
		return err
	}
	return s.removeFiles(checkpointsDir, func(name string) bool {
		lsn, ok := parseHexName(name, checkpointSuffix)
		return ok && lsn < s.checkpoints[0].lsn
	})
}

func (s *Store) removeFiles(dir string, orphan func(name string) bool) error {
	names, err := s.opts.FS.List(s.path(dir))
	if err != nil {
		return fmt.Errorf("cannot list %q: %w", s.path(dir), err)
	}
	removed := false
	for _, name := range names {
		if !isTempName(name) && !orphan(name) {
			continue
		}
		if err := s.opts.FS.Remove(path.Join(s.path(dir), name)); err != nil {
			return fmt.Errorf("cannot remove what a crash left: %w", err)
		}
		removed = true
	}
	if !removed {
		return nil
	}
	// A removal that came back after another crash could stand in the way of a
	// new run of the same number.
	if err := s.opts.FS.SyncDir(s.path(dir)); err != nil {
		return fmt.Errorf("cannot sync %q: %w", s.path(dir), err)
	}
	return nil
}
