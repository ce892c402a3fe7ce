package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"kiln/engine"
	"kiln/index"
	"kiln/internal/vfs"
)

// RestoreOptions: Source, FS, Dir and NewID are required.
type RestoreOptions struct {
	Source Target
	FS     vfs.FS
	Dir    string // missing, empty, or left by a restore that did not end
	NewID  func() uint64
	At     Moment
	// Check reads everything again that was written, before the directory becomes
	// a store.
	Check        bool
	SegmentBytes int64 // of the new store's log; 0: the default
	Pace         Pace
}

// Restored is what a restore did.
type Restored struct {
	Backup  string    `json:"backup"` // that the restore began from
	Source  string    `json:"source"`
	DataDir string    `json:"dataDir"`
	LSN     uint64    `json:"lsn"`
	Instant time.Time `json:"instant"` // of the backup; of a moment in between, the store's clock there
	// Versions is 0 when the check was left out and the moment is not a backup's.
	Versions uint64 `json:"versions"`
	Runs     int    `json:"runs"`
	Bytes    int64  `json:"bytes"` // of runs, those that a restore before had copied too
	Checked  bool   `json:"checked"`
}

// Restore makes a data directory of a backup. It never overwrites; until it ends
// well the directory is no store, and Restore may be run again.
func Restore(ctx context.Context, opts RestoreOptions) (result *Restored, err error) {
	known, err := readCatalog(ctx, opts.Source)
	if err != nil {
		return nil, fmt.Errorf("cannot read the backups in %s: %w", opts.Source, err)
	}
	from, err := known.choose(ctx, &opts.Pace, opts.At)
	if err != nil {
		return nil, err
	}
	r := &restoring{RestoreOptions: opts, known: known.known(), from: from}
	if err := r.plan(ctx); err != nil {
		return nil, fmt.Errorf("cannot restore backup %s: %w", from.base.ID, err)
	}
	if r.dir, err = engine.BeginRestore(opts.FS, opts.Dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.dir.Close()) }()
	if err := r.copyRuns(ctx); err != nil {
		return nil, fmt.Errorf("cannot restore backup %s: %w", from.base.ID, err)
	}
	return r.finish(ctx)
}

// restoring is one restore under way.
type restoring struct {
	RestoreOptions
	known  map[string]File
	dir    *engine.Restoring
	from   *chosen
	replay *engine.RestorePlan
}

func (r *restoring) plan(ctx context.Context) (err error) {
	if r.replay, err = readPlan(ctx, &r.Pace, r.Source, r.from.base); err != nil {
		return err
	}
	if err := r.log(ctx, r.replay.Next(), func(rec engine.LogRecord) error { return r.replay.Apply(ctx, rec) }); err != nil {
		return err
	}
	if r.replay.LSN() != r.from.lsn || !r.replay.IsWhole() {
		return damagedFile(r.Source, r.from.base.Checkpoint.Name, "the backup leads to LSN %d, not to LSN %d", r.replay.LSN(), r.from.lsn)
	}
	return nil
}

// log gives the records from an LSN to the one that is restored.
func (r *restoring) log(ctx context.Context, first uint64, fn func(engine.LogRecord) error) error {
	if first > r.from.lsn {
		return nil
	}
	return readLog(ctx, &r.Pace, r.Source, r.from.log, first, r.from.lsn, fn)
}

func (r *restoring) copyRuns(ctx context.Context) error {
	runs := r.replay.Runs()
	for _, meta := range runs {
		r.Pace.expect(meta.Bytes)
	}
	for _, meta := range runs {
		file, ok := r.known[runName(meta)]
		if !ok {
			return damagedFile(r.Source, runName(meta), "no manifest names the run, and the backup needs it")
		}
		if err := r.copyRun(ctx, meta, file); err != nil {
			return err
		}
	}
	return nil
}

func (r *restoring) copyRun(ctx context.Context, meta index.RunMeta, f File) error {
	to := r.dir.RunPath(meta)
	if there, err := r.isThere(ctx, to, f); there || err != nil {
		return err
	}
	from, file, err := openChecked(ctx, &r.Pace, r.Source, f)
	if err != nil {
		return err
	}
	err = putFile(ctx, r.FS, to, from)
	_ = file.Close() // only read from
	return err
}

// isThere tells whether a restore before has copied a file.
func (r *restoring) isThere(ctx context.Context, name string, f File) (bool, error) {
	info, err := r.FS.Stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Bytes != f.Bytes {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	file, err := openFile(r.FS, name)
	if err != nil {
		return false, err
	}
	defer file.Close()
	// Its bytes were synced before it got its name, the name maybe not.
	c := newCheckedReader(ctx, &r.Pace, file)
	if err := drain(c); err != nil {
		return false, err
	}
	if c.sha256() != f.SHA256 {
		return false, nil
	}
	return true, r.FS.SyncDir(path.Dir(name))
}

func (r *restoring) finish(ctx context.Context) (*Restored, error) {
	var damage []error
	versions, err := r.dir.Finish(ctx, r.replay, func(from uint64, fn func(engine.LogRecord) error) error {
		return r.log(ctx, from, fn)
	}, engine.RestoreOptions{
		NewID: r.NewID, SegmentBytes: r.SegmentBytes, Check: r.Check, Versions: r.wantVersions(),
		Report: func(p engine.Problem) {
			damage = append(damage, fmt.Errorf("%s: offset %d: %s", p.File, p.Offset, p.What))
		},
	})
	if err != nil {
		return nil, errors.Join(err, errors.Join(damage...))
	}
	base := r.from.base
	out := &Restored{
		Backup: base.ID, Source: r.Source.String(), DataDir: r.Dir, LSN: r.from.lsn, Instant: base.Instant,
		Versions: max(versions, r.wantVersions()), Checked: r.Check,
	}
	if r.from.lsn != base.LSN {
		out.Instant = time.UnixMilli(r.replay.Milli()).UTC()
	}
	for _, meta := range r.replay.Runs() {
		out.Runs++
		out.Bytes += meta.Bytes
	}
	return out, nil
}

// wantVersions is how many versions the manifest says there are; 0 for moments
// in between.
func (r *restoring) wantVersions() uint64 {
	if r.from.lsn != r.from.base.LSN {
		return 0
	}
	return r.from.base.Versions
}
