package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"kiln/engine"
	"kiln/index"
	"kiln/internal/vfs"
)

// A backup in steps, and what a crash after each leaves in the target:
//
//  1. the target is locked; the store's head is flushed, and a view taken.
//  2. runs that the target lacks, the log and the description are written, each
//     whole and durable before it has its name. (Files that no manifest names.
//     The next backup uses the runs; a pruning removes what nobody needs.)
//  3. the manifest is written. (The backup.)

// Options of a backup. Store, FS, Target and Kiln are required.
type Options struct {
	Store  *engine.Store
	FS     vfs.FS // of the store
	Target Target
	Kiln   string // the program's version
	Pace   Pace
}

// Result is what a backup did. Of the bytes, those that were copied were not in
// the target, those kept were.
type Result struct {
	ID       string    `json:"id"`
	Target   string    `json:"target"`
	LSN      uint64    `json:"lsn"`
	Instant  time.Time `json:"instant"`
	Versions uint64    `json:"versions"`
	// Follows is the backup from which on every LSN can be restored; "": none.
	Follows     string `json:"follows,omitempty"`
	Runs        int    `json:"runs"`
	RunsCopied  int    `json:"runsCopied"`
	Bytes       int64  `json:"bytes"`
	BytesCopied int64  `json:"bytesCopied"`
	// Of BytesCopied: those of runs, of runs that merges made of older ones, and of
	// the log.
	BytesRuns   int64 `json:"bytesCopiedRuns"`
	BytesMerged int64 `json:"bytesCopiedMergedRuns"`
	BytesLog    int64 `json:"bytesCopiedLog"`
	// Warnings are what the operator should know although the backup is whole.
	Warnings []string `json:"warnings,omitempty"`
}

// Run makes a backup. The store may be in use.
func Run(ctx context.Context, opts Options) (result *Result, err error) {
	ctx, unlock, err := opts.Target.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	known, err := readCatalog(ctx, opts.Target)
	if err != nil {
		return nil, fmt.Errorf("cannot read the backups in %s: %w", opts.Target, err)
	}
	last := known.of(storeIDText(opts.Store.ID()))
	keepFrom := uint64(0)
	if last != nil {
		keepFrom = last.LSN
	}
	view, err := opts.Store.BeginBackup(ctx, keepFrom)
	if err != nil {
		return nil, err
	}
	defer view.Release()
	r := &running{Options: opts, view: view, known: known, result: &Result{Target: opts.Target.String(), LSN: view.LSN}}
	r.manifest = &Manifest{
		Format: manifestFormat, Version: manifestPlain, ID: backupID(view), Kiln: opts.Kiln, StoreID: storeIDText(view.StoreID),
		Instant: time.UnixMilli(view.Instant.Milli).UTC(), LSN: view.LSN, Flushed: view.Flushed, Versions: view.Versions,
	}
	if keys := keysOf(opts.Target); keys != nil {
		r.manifest.Version, r.manifest.Keys = manifestVersion, []string{keys.Current().String()}
	}
	if err := r.copy(ctx, last); err != nil {
		return nil, fmt.Errorf("cannot back up to %s: %w", opts.Target, err)
	}
	return r.told(), nil
}

// running is one backup under way.
type running struct {
	Options
	view     *engine.BackupView
	known    *catalog
	manifest *Manifest
	result   *Result
}

func (r *running) copy(ctx context.Context, last *Manifest) error {
	if r.known.names[r.manifest.ID] != "" {
		return fmt.Errorf("there is a backup %s already", r.manifest.ID)
	}
	if err := r.copyRuns(ctx); err != nil {
		return err
	}
	if err := r.copyLog(ctx, last); err != nil {
		return err
	}
	if err := r.putCheckpoint(ctx); err != nil {
		return err
	}
	name, data, err := r.manifest.marshal()
	if err != nil {
		return err
	}
	r.result.BytesCopied += int64(len(data))
	return r.Target.Put(ctx, name, bytes.NewReader(data))
}

func (r *running) told() *Result {
	m := r.manifest
	r.result.ID, r.result.Instant, r.result.Versions, r.result.Follows = m.ID, m.Instant, m.Versions, m.Follows
	r.result.Runs, r.result.Bytes = len(m.Runs), m.Bytes()
	r.warn(r.view.FlushErr, "the head could not be flushed, so versions purged a short while ago may be in the backup")
	for _, err := range r.known.damaged {
		r.warn(err, "another backup in the target cannot be read")
	}
	return r.result
}

func (r *running) warn(err error, what string) {
	if err != nil {
		r.result.Warnings = append(r.result.Warnings, what+": "+err.Error())
	}
}

// ---- runs ----

// copyRuns copies the runs that the target does not have.
func (r *running) copyRuns(ctx context.Context) error {
	known := r.known.known()
	present, err := r.Target.List(ctx, runsFolder)
	if err != nil {
		return err
	}
	for i := range r.view.Runs {
		run := &r.view.Runs[i]
		name := runName(run.Meta)
		bytes, found := present[name[len(runsFolder)+1:]]
		found = found && bytes == run.Meta.Bytes
		file, vouched := known[name]
		if !vouched || !found {
			r.Pace.expect(run.Meta.Bytes)
			file = File{Name: name, Bytes: run.Meta.Bytes}
		}
		if found && !vouched { // of a backup that did not end
			file.SHA256, err = r.checkRun(ctx, run.Meta, name)
			if found = damageIn(err) == nil; !found {
				err = nil
			}
		}
		if !found {
			file.SHA256, err = r.copyRun(ctx, run, name)
		}
		if err != nil {
			return err
		}
		r.manifest.Runs = append(r.manifest.Runs, RunFile{File: file, Merged: run.Merged})
	}
	return nil
}

// checkRun reads a run that is in the target although no manifest says so.
func (r *running) checkRun(ctx context.Context, meta index.RunMeta, name string) (string, error) {
	file, err := r.Target.Open(ctx, name)
	if err != nil {
		return "", err
	}
	c := r.checkedRun(ctx, meta, file, func(err error) error { return damagedFile(r.Target, name, "%v", err) })
	err = errors.Join(drain(c), file.Close())
	return c.sha256(), err
}

func (r *running) copyRun(ctx context.Context, run *engine.BackupRun, name string) (string, error) {
	file, err := openFile(r.FS, run.Path)
	if err != nil {
		return "", err
	}
	c := r.checkedRun(ctx, run.Meta, file, func(err error) error { return &vfs.CorruptError{File: run.Path, What: err.Error()} })
	if err := errors.Join(r.Target.Put(ctx, name, c), file.Close()); err != nil {
		return "", err
	}
	r.result.RunsCopied++
	r.result.BytesRuns += c.bytes
	r.result.BytesCopied += c.bytes
	if run.Merged {
		r.result.BytesMerged += c.bytes
	}
	return c.sha256(), nil
}

// checkedRun reads a run; its end is an error unless it was that run, whole.
func (r *running) checkedRun(ctx context.Context, meta index.RunMeta, from io.Reader, word func(error) error) *checkedReader {
	c, check := newCheckedReader(ctx, &r.Pace, from), index.NewRunCheck(meta)
	c.also = check
	c.atEnd = func() error {
		if err := check.Err(); err != nil {
			return word(err)
		}
		return nil
	}
	return c
}

// ---- log and description ----

// copyLog copies the records that the target does not have. When the log leads
// here from the last backup, everything since comes along, so that each moment
// in between can be restored; otherwise only what the head needs.
func (r *running) copyLog(ctx context.Context, last *Manifest) error {
	sum, err := r.view.LastSum(ctx)
	if err != nil {
		return err
	}
	if sum != 0 {
		r.manifest.LastSum = fmt.Sprintf("%016x", sum)
	}
	first := r.view.Flushed + 1
	follows, err := r.follows(ctx, last)
	if err != nil {
		return err
	}
	if follows {
		r.manifest.Follows = last.ID
		for _, f := range last.Log { // what the head needs of before
			if f.Last >= first {
				r.manifest.Log = append(r.manifest.Log, f)
			}
		}
		first = last.LSN + 1
	}
	if first > r.view.LSN {
		return nil
	}
	log := openViewLog(ctx, r.view, first)
	defer log.Close()
	c := newCheckedReader(ctx, &r.Pace, log)
	name := logName(r.manifest.ID, first, r.view.LSN)
	if err := r.Target.Put(ctx, name, c); err != nil {
		return err
	}
	r.manifest.Log = append(r.manifest.Log, LogFile{File: File{Name: name, Bytes: c.bytes, SHA256: c.sha256()}, First: first, Last: r.view.LSN})
	r.result.BytesLog += c.bytes
	r.result.BytesCopied += c.bytes
	return nil
}

// follows tells whether the log leads from the last backup of this store to this
// one, and the target still has the last one's log.
func (r *running) follows(ctx context.Context, last *Manifest) (bool, error) {
	if last == nil || last.LastSum == "" {
		return false, nil
	}
	sum, err := hex.DecodeString(last.LastSum)
	if err != nil || len(sum) != 8 {
		return false, nil
	}
	present, err := r.Target.List(ctx, logFolder)
	if err != nil {
		return false, err
	}
	for _, f := range last.Log {
		if bytes, ok := present[f.Name[len(logFolder)+1:]]; f.Last > r.view.Flushed && (!ok || bytes != f.Bytes) {
			return false, nil
		}
	}
	number := uint64(0)
	for _, b := range sum {
		number = number<<8 | uint64(b)
	}
	return r.view.Follows(ctx, last.LSN, number)
}

func (r *running) putCheckpoint(ctx context.Context) error {
	sum := sha256.Sum256(r.view.Checkpoint)
	text := hex.EncodeToString(sum[:])
	r.manifest.Checkpoint = File{Name: checkpointsFolder + "/" + text + ".checkpoint", Bytes: int64(len(r.view.Checkpoint)), SHA256: text}
	if err := r.Target.Put(ctx, r.manifest.Checkpoint.Name, bytes.NewReader(r.view.Checkpoint)); err != nil {
		return err
	}
	r.result.BytesCopied += int64(len(r.view.Checkpoint))
	return nil
}
