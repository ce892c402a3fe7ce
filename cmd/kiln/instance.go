package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"kiln/bulk"
	"kiln/bulk/backup"
	"kiln/engine"
	"kiln/internal/vfs"
	"kiln/query"
)

// instance is an open data directory with its jobs.
type instance struct {
	store      *engine.Store
	parameters *query.Registry
	jobs       *bulk.Manager
	backups    *backup.Jobs // nil: none can be asked for
}

// openInstance opens (or makes) the data directory and resumes its jobs.
// jobs.Store is set here.
func openInstance(ctx context.Context, dir string, logger *slog.Logger, jobs bulk.Options, with storeOptions) (*instance, error) {
	store, err := openStore(ctx, dir, logger, with)
	if err != nil {
		return nil, err
	}
	jobs.Store, jobs.Now, jobs.NewID, jobs.Logger = store, time.Now, rand.Uint64, logger
	if jobs.Parameters, err = query.NewRegistry(ctx, store, logger); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot read the store's search parameters: %w", err), store.Close())
	}
	manager, err := bulk.NewManager(ctx, jobs)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &instance{store: store, parameters: jobs.Parameters, jobs: manager}, nil
}

// storeOptions are those of the store that a command decides on.
type storeOptions struct {
	fs            vfs.FS // nil: vfs.OS()
	readOnly      bool
	scrubRate     int64
	scrubInterval time.Duration // negative: never
	freeMin       int64         // 0: the default
	ballast       int64         // negative: none
	mergeFanIn    int           // 0: the default; negative: runs are never merged
	blockCache    int64         // 0: the default
}

func openStore(ctx context.Context, dir string, logger *slog.Logger, with storeOptions) (*engine.Store, error) {
	if with.fs == nil {
		with.fs = vfs.OS()
	}
	temp := ""
	if with.readOnly {
		var err error
		if temp, err = os.MkdirTemp("", "kiln-catalog-"); err != nil {
			logger.Warn("there is no place for a copy of the job catalog", "error", err)
		} else {
			defer os.RemoveAll(temp) // it is empty again
		}
	}
	store, err := engine.Open(ctx, engine.Options{
		FS:       with.fs,
		Dir:      dir,
		TempDir:  temp,
		Now:      time.Now,
		NewID:    rand.Uint64,
		Logger:   logger,
		ReadOnly: with.readOnly,

		ScrubRate: with.scrubRate, ScrubInterval: with.scrubInterval,
		FreeBytesMin: with.freeMin, BallastBytes: with.ballast, MergeFanIn: with.mergeFanIn, CacheBytes: with.blockCache,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open data directory %q: %w", dir, err)
	}
	return store, nil
}

// close stops the jobs, which go on at the next start, and closes the store.
func (in *instance) close() error {
	if in.backups != nil {
		in.backups.Close()
	}
	return errors.Join(in.jobs.Close(), in.store.Close())
}

// mustExist refuses a data directory that is not there, for the commands that
// look at one and must not make one.
func mustExist(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("cannot look at data directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%q is not a directory", dir)
	}
	return nil
}
