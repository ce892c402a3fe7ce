package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"

	"kiln/index"
	"kiln/internal/vfs"
	"kiln/wal"
)

// A restore in steps, and what a crash after each leaves:
//
//  1. the marker RESTORING is in the directory, which was empty. (Nothing opens
//     a directory with other files and without FORMAT; a restore may begin again
//     in one with the marker.)
//  2. runs, log and checkpoint are written and synced, and checked. (The same.)
//  3. FORMAT is written: the directory is a store. (A marker that is still there
//     means nothing.)
//  4. the marker is removed.

// restoringName marks a directory that is being restored.
const restoringName = "RESTORING"

var (
	// ErrNotEmpty: a restore writes into an empty directory only.
	ErrNotEmpty = errors.New("the directory is not empty")
	// ErrUnfinished: a restore into the directory was stopped.
	ErrUnfinished = errors.New("a restore into it has not ended: run kiln restore again, or remove it")
)

// restoreBatchBytes are appended to a restored log at once.
const restoreBatchBytes = 4 << 20

// Restoring is a data directory that is being put together. Close it in any case.
type Restoring struct {
	fs   vfs.FS
	dir  string
	lock io.Closer
}

// BeginRestore marks and locks a directory that is missing, empty, or was left by
// a restore that did not end; ErrNotEmpty. Runs are written to RunPath then.
func BeginRestore(fsys vfs.FS, dir string) (*Restoring, error) {
	if err := refuseRestore(fsys, dir); err != nil {
		return nil, err
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("cannot make the data directory %q: %w", dir, err)
	}
	lock, err := lockDir(fsys, dir)
	if err != nil {
		return nil, err
	}
	r := &Restoring{fs: fsys, dir: dir, lock: lock}
	if err := r.begin(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func refuseRestore(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list %q: %w", dir, err)
	}
	marked := slices.Contains(names, restoringName)
	for _, name := range names {
		isOurs := name == lockName || name == formatName+vfs.TempSuffix || name == restoringName+vfs.TempSuffix
		if name == formatName || !marked && !isOurs {
			return fmt.Errorf("cannot restore into %q: %w (it holds %q), and a restore never overwrites", dir, ErrNotEmpty, name)
		}
	}
	return nil
}

func (r *Restoring) begin() error {
	if err := refuseRestore(r.fs, r.dir); err != nil { // once more, now that nobody else can change it
		return err
	}
	text := []byte("A restore writes into this directory. If none is running, run it again or remove the directory.\n")
	err := vfs.WriteFileAtomic(r.fs, path.Join(r.dir, restoringName), text)
	for _, dir := range []string{runsDir, logDir, checkpointsDir} {
		// Runs of a restore before this one are used again; a log is written anew.
		if err == nil && dir != runsDir {
			err = r.fs.RemoveAll(path.Join(r.dir, dir))
		}
		if err == nil {
			err = r.fs.MkdirAll(path.Join(r.dir, dir))
		}
	}
	if err == nil {
		// Who may not open the parent did not make the directory in it.
		if err = r.fs.SyncDir(path.Dir(path.Clean(r.dir))); errors.Is(err, fs.ErrPermission) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("cannot begin to restore into %q: %w", r.dir, noSpace(err))
	}
	return nil
}

// Close unlocks the directory.
func (r *Restoring) Close() error {
	if r.lock == nil {
		return nil
	}
	err := r.lock.Close()
	r.lock = nil
	return err
}

// RunPath is where a run's file belongs.
func (r *Restoring) RunPath(meta index.RunMeta) string {
	return path.Join(r.dir, runsDir, runFileName(uint64(meta.ID)))
}

// RestoreOptions are of Finish. NewID is required.
type RestoreOptions struct {
	NewID        func() uint64
	SegmentBytes int64 // of the log; 0: default 64 MiB
	// Check reads all that was written, as Fsck does, before the directory
	// becomes a store; damage goes to Report, and is an error.
	Check  bool
	Report func(Problem)
	// Versions is how many the store should have; 0: not known. Looked at by Check.
	Versions uint64
}

// Finish makes the directory the store of the plan, with an id of its own: it and
// the store of the backup go on apart. All runs of the plan are written. log
// gives the records from an LSN up to the plan's, in order. It tells how many
// versions the store has, 0 without Check.
func (r *Restoring) Finish(ctx context.Context, plan *RestorePlan, log func(from uint64, fn func(LogRecord) error) error, opts RestoreOptions) (versions uint64, err error) {
	if !plan.IsWhole() {
		panic("BUG: a store is restored from a plan that lacks records")
	}
	c := plan.describe(opts.NewID())
	if err := r.removeOtherRuns(plan); err != nil {
		return 0, fmt.Errorf("cannot restore: %w", err)
	}
	if err := r.writeLog(ctx, c, log, opts); err != nil {
		return 0, fmt.Errorf("cannot restore the log: %w", noSpace(err))
	}
	data, err := c.marshal()
	if err == nil {
		err = vfs.WriteFileAtomic(r.fs, path.Join(r.dir, checkpointsDir, checkpointFileName(c.lsn)), data)
	}
	if err != nil {
		return 0, fmt.Errorf("cannot restore the checkpoint: %w", noSpace(err))
	}
	format := newFormat(c.storeID, r.fs)
	if opts.Check {
		if versions, err = r.check(ctx, format, opts.Report); err != nil {
			return 0, err
		}
		if opts.Versions != 0 && versions != opts.Versions {
			return 0, &vfs.CorruptError{File: r.dir, What: fmt.Sprintf("%d versions were restored, the backup has %d", versions, opts.Versions)}
		}
	}
	if err := vfs.WriteFileAtomic(r.fs, path.Join(r.dir, formatName), format.marshal()); err != nil {
		return 0, fmt.Errorf("cannot end the restore: %w", noSpace(err))
	}
	if err := r.fs.Remove(path.Join(r.dir, restoringName)); err != nil {
		return versions, fmt.Errorf("the store is restored, but its marker %q cannot be removed: %w", restoringName, err)
	}
	return versions, r.fs.SyncDir(r.dir)
}

// removeOtherRuns removes what a restore of another moment left, and makes the
// names of the plan's runs durable.
func (r *Restoring) removeOtherRuns(plan *RestorePlan) error {
	dir := path.Join(r.dir, runsDir)
	names, err := r.fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, ok := parseHexName(name, runSuffix)
		if _, wanted := plan.r.metas[index.RunID(id)]; ok && wanted {
			continue
		}
		if err := r.fs.Remove(path.Join(dir, name)); err != nil {
			return err
		}
	}
	return r.fs.SyncDir(dir)
}

// writeLog makes a log of the records that hold the head. LSNs stay as they are;
// where a record lies is told by nothing.
func (r *Restoring) writeLog(ctx context.Context, c *checkpointFile, log func(from uint64, fn func(LogRecord) error) error, opts RestoreOptions) error {
	from := c.flushed + 1
	w, err := wal.Open(ctx, wal.Options{
		FS: r.fs, Dir: path.Join(r.dir, logDir), SegmentBytes: opts.SegmentBytes, PrepareInline: true,
		NewID: func() uint32 { return uint32(opts.NewID()) },
	}, wal.LSN(from), func(wal.Record) error { return nil })
	if err != nil {
		return err
	}
	if from <= c.lsn {
		err = appendRecords(w, c.lsn, func(fn func(LogRecord) error) error { return log(from, fn) })
	}
	if err == nil && uint64(w.LastLSN()) != c.lsn {
		err = fmt.Errorf("the backup's log ends at LSN %d, before LSN %d", w.LastLSN(), c.lsn)
	}
	return errors.Join(err, w.Close())
}

// appendRecords appends records up to an LSN, many with one sync.
func appendRecords(w *wal.Log, upto uint64, log func(fn func(LogRecord) error) error) error {
	var batch []wal.Entry
	bytes := 0
	flush := func() error {
		_, err := w.Append(batch)
		batch, bytes = batch[:0], 0
		return err
	}
	err := log(func(rec LogRecord) error {
		if rec.LSN > upto {
			return nil
		}
		if want := uint64(w.LastLSN()) + uint64(len(batch)) + 1; rec.LSN != want {
			return fmt.Errorf("the backup's log has LSN %d where LSN %d should be", rec.LSN, want)
		}
		batch = append(batch, wal.Entry{Type: wal.RecordType(rec.Type), Payload: slices.Clone(rec.Payload)})
		if bytes += len(rec.Payload); bytes < restoreBatchBytes {
			return nil
		}
		return flush()
	})
	if err != nil || len(batch) == 0 {
		return err
	}
	return flush()
}

// check reads everything back and counts the versions.
func (r *Restoring) check(ctx context.Context, format formatFile, report func(Problem)) (uint64, error) {
	damaged := 0
	f := &fsck{fs: r.fs, dir: r.dir, report: func(p Problem) {
		damaged++
		report(p)
	}}
	if err := f.check(ctx, format); err != nil {
		return 0, fmt.Errorf("cannot check what was restored: %w", err)
	}
	if damaged > 0 {
		return 0, &vfs.CorruptError{File: r.dir, What: fmt.Sprintf("what was restored is damaged in %d places", damaged)}
	}
	return r.countVersions(ctx, format)
}

func (r *Restoring) countVersions(ctx context.Context, format formatFile) (versions uint64, err error) {
	rec := &recovery{fs: r.fs, dir: r.dir, cache: index.NewCache(fsckCacheBytes)}
	defer rec.close()
	if _, err := rec.loadCheckpoint(format.storeID); err != nil {
		return 0, err
	}
	if err := rec.begin(); err != nil {
		return 0, err
	}
	f := &fsck{fs: r.fs, dir: r.dir}
	if err := errors.Join(f.replay(ctx, rec), rec.openRuns()); err != nil {
		return 0, err
	}
	for _, run := range rec.runs {
		versions += run.visible(math.MaxUint64).GetCardinality()
	}
	for _, e := range rec.entries {
		if e.purged == 0 {
			versions++
		}
	}
	return versions, nil
}
