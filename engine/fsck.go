package engine

import (
	"context"
	"errors"
	"fmt"
	"path"

	"kiln/index"
	"kiln/internal/vfs"
	"kiln/wal"
)

// Problem is damage that Fsck found.
type Problem struct {
	File   string
	Offset int64
	What   string
}

// fsck is one check of a data directory.
type fsck struct {
	fs     vfs.FS
	dir    string
	temp   string // for a copy of the catalog; "": none
	terms  bool   // search terms are made again and compared
	jobs   func(*FsckJobs) error
	report func(Problem)
	// disagrees: the newest checkpoint is not what the one before and the log give,
	// which is a whole store.
	disagrees bool
}

// FsckOptions are explicit.
type FsckOptions struct {
	FS  vfs.FS
	Dir string
	// Temp is for a copy of the job catalog: Badger cannot read one that was not closed
	// without putting it in order. "": the catalog is left out.
	Temp string
	// Terms makes the search terms of all runs again and compares them.
	Terms bool
	// Jobs holds the jobs that the catalog names against their files; nil: nobody does.
	// It is not asked where there is no catalog, no copy is made, or it is damaged.
	Jobs   func(*FsckJobs) error
	Report func(Problem)
}

// Fsck reads every byte of a data directory that no server has open, and
// changes nothing but the LOCK file. Damage goes to Report; an error is what
// kept it from reading, or why the directory is refused.
func Fsck(ctx context.Context, opts FsckOptions) error {
	fsys, dir, report := opts.FS, opts.Dir, opts.Report
	format, fresh, err := inspectDir(fsys, dir)
	var corrupt *vfs.CorruptError
	damagedFormat := errors.As(err, &corrupt)
	if err != nil && !damagedFormat {
		return err
	}
	if fresh {
		return fmt.Errorf("cannot check %q: %w", dir, ErrForeign)
	}
	lock, err := lockDir(fsys, dir)
	if err != nil {
		return err
	}
	f := &fsck{fs: format.strictly(fsys), dir: dir, temp: opts.Temp, terms: opts.Terms, jobs: opts.Jobs, report: report}
	if damagedFormat {
		report(problemOf(corrupt))
		if ids := storeIDs(fsys, path.Join(dir, checkpointsDir)); len(ids) > 0 {
			format.storeID = ids[len(ids)-1]
		}
	}
	return errors.Join(f.check(ctx, format), lock.Close())
}

func (f *fsck) check(ctx context.Context, format formatFile) error {
	catalog, err := f.checkCatalog(format)
	if err != nil {
		return err
	}
	return errors.Join(f.checkStore(ctx, format, catalog), f.dropCatalog(catalog))
}

// checkStore checks all but the catalog, which may be nil.
func (f *fsck) checkStore(ctx context.Context, format formatFile, catalog *catalog) error {
	damaged := false
	_, err := wal.Verify(ctx, f.fs, path.Join(f.dir, logDir), func(err error) {
		damaged = true
		f.report(problemOf(err))
	})
	if err != nil {
		return err
	}
	r := &recovery{fs: f.fs, dir: f.dir, cache: index.NewCache(fsckCacheBytes)}
	defer r.close()
	if err := f.checkCheckpoints(r, format); err != nil {
		return err
	}
	whole := !damaged
	if err := r.begin(); err != nil {
		whole = false
		f.report(problemOf(err))
	}
	if whole {
		if err := f.replay(ctx, r); err != nil {
			whole = false
			f.report(problemOf(err))
		}
	}
	if err := f.checkJobs(catalog, r.progress, whole); err != nil {
		return err
	}
	if whole {
		if err := r.openRuns(); err != nil {
			whole = false
			f.report(problemOf(err))
		}
	}
	if !whole && !damaged {
		if err := f.tryOlder(ctx, r, format.storeID); err != nil {
			return err
		}
	}
	sound, err := f.checkRuns(ctx, r)
	if err != nil || !whole || !sound {
		return err
	}
	if err := f.checkOrphans(r); err != nil {
		return err
	}
	if err := f.checkAgreement(ctx, r, format.storeID); err != nil {
		return err
	}
	return f.checkCurrent(ctx, r)
}

// checkOrphans looks into runs that the store does not name. A crash leaves such, and
// opening removes them; but versions that are younger than the log show that its end
// is gone.
func (f *fsck) checkOrphans(r *recovery) error {
	dir := path.Join(f.dir, runsDir)
	names, err := f.fs.List(dir)
	if err != nil {
		return fmt.Errorf("cannot list the runs: %w", err)
	}
	for _, name := range names {
		id, ok := parseHexName(name, runSuffix)
		if _, known := r.metas[index.RunID(id)]; !ok || known {
			continue
		}
		run, err := index.OpenRunAsItIs(f.fs, dir, index.RunID(id))
		if err != nil {
			continue // it was never published: nobody misses it
		}
		last, err := highestLSN(run)
		if err = errors.Join(err, run.Close()); err != nil {
			return err
		}
		if last > r.lastLSN {
			f.report(Problem{File: path.Join(f.dir, logDir), What: fmt.Sprintf("the log ends at LSN %d, but %q has a version of LSN %d", r.lastLSN, name, last)})
		}
	}
	return nil
}

// fsckCacheBytes: every block is read about once.
const fsckCacheBytes = 8 << 20

// checkCheckpoints reports every damaged checkpoint, not only when none is good.
func (f *fsck) checkCheckpoints(r *recovery, format formatFile) error {
	names, err := f.fs.List(path.Join(f.dir, checkpointsDir))
	if err != nil {
		return fmt.Errorf("cannot list the checkpoints: %w", err)
	}
	for _, name := range names {
		if _, ok := parseHexName(name, checkpointSuffix); !ok {
			continue
		}
		if _, err := r.readCheckpoint(path.Join(f.dir, checkpointsDir, name), format.storeID); err != nil {
			f.report(problemOf(err))
		}
	}
	found, err := r.loadCheckpoint(format.storeID)
	if !found {
		f.report(Problem{File: path.Join(f.dir, checkpointsDir), What: "there is no checkpoint"})
	}
	var corrupt *vfs.CorruptError
	if errors.As(err, &corrupt) {
		return nil // reported above
	}
	return err
}

// replay applies the log after the checkpoint, as opening would.
func (f *fsck) replay(ctx context.Context, r *recovery) error {
	_, err := wal.Dump(ctx, f.fs, path.Join(f.dir, logDir), func(rec wal.Record) error {
		if uint64(rec.LSN) <= r.checkpoint.flushed {
			return nil
		}
		return r.replay(ctx, rec)
	})
	if err != nil {
		return err
	}
	if r.lastLSN < r.checkpoint.lsn {
		return &vfs.CorruptError{File: path.Join(f.dir, logDir), What: "the log ends before the checkpoint"}
	}
	return nil
}

// checkRuns reads every byte of every run of the store.
func (f *fsck) checkRuns(ctx context.Context, r *recovery) (sound bool, err error) {
	dir := path.Join(f.dir, runsDir)
	sound = true
	for id, meta := range r.metas {
		whole := true
		report := func(e *vfs.CorruptError) {
			whole, sound = false, false
			f.report(problemOf(e))
		}
		err := index.Verify(ctx, f.fs, dir, id, report)
		if err == nil && whole && f.terms {
			err = index.VerifyTerms(ctx, f.fs, dir, id, r.fields, report)
		}
		if err != nil {
			sound = false
			f.report(problemOf(r.missing(meta, err)))
		}
	}
	return sound, ctx.Err()
}

// problemOf tells an error as a problem.
func problemOf(err error) Problem {
	var corrupt *vfs.CorruptError
	if errors.As(err, &corrupt) {
		return Problem{File: corrupt.File, Offset: corrupt.Offset, What: corrupt.What}
	}
	return Problem{What: err.Error()}
}
