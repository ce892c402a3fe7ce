package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"

	"github.com/cespare/xxhash/v2"

	"kiln/fhir"
	"kiln/index"
	"kiln/wal"
)

// LogRecord is a record of the log as backups keep it. Payload holds until the
// callback returns that it is given to.
type LogRecord struct {
	Type    uint8
	LSN     uint64
	Payload []byte
}

// Sum tells two records of one LSN apart: logs that were one and went on apart.
func (r *LogRecord) Sum() uint64 {
	d := xxhash.New()
	_, _ = d.Write(binary.LittleEndian.AppendUint64([]byte{r.Type}, r.LSN))
	_, _ = d.Write(r.Payload)
	return d.Sum64()
}

// IsPurge says that the record took versions out: what the log has of them
// before it should not be kept.
func (r *LogRecord) IsPurge() bool { return wal.RecordType(r.Type) == wal.TypePurge }

// BackupView is the store as of one LSN, with all that a copy of it needs, held
// on disk until Release: a description, the runs it names, and the records of
// the log from Flushed+1 to LSN, which hold the head.
type BackupView struct {
	StoreID uint64
	LSN     uint64
	Flushed uint64
	// Instant is not before any date that this server gave up to LSN, and before
	// all that it gives later.
	Instant  fhir.Instant
	Versions uint64
	// Checkpoint is the description, in the format of a checkpoint file.
	Checkpoint []byte
	Runs       []BackupRun
	// FlushErr is why the head could not be made a run before. The view is whole
	// all the same; purged versions of the head may still be in its log.
	FlushErr error

	s    *Store
	snap *Snapshot
	hold []uint64
}

// BackupRun is a run file of the view; it stays until Release.
type BackupRun struct {
	Meta   index.RunMeta
	Path   string // on the store's file system
	Merged bool   // a merge made it
}

// BeginBackup flushes the head, so that what was purged before is not in the
// view's log, and takes the view. Records from keepFrom on, as far as they are
// there, stay in the log until Release; 0: only those the view needs.
func (s *Store) BeginBackup(ctx context.Context, keepFrom uint64) (*BackupView, error) {
	v := &BackupView{StoreID: s.format.storeID, s: s}
	if keepFrom > 0 {
		v.holdLog(keepFrom)
	}
	v.FlushErr = s.Flush(ctx)
	var c *checkpointFile
	err := errors.Join(ctx.Err(), s.inSlot(ctx, func() error {
		v.Instant = s.clock.cut(s.opts.Now())
		snap, err := s.Snapshot()
		if err != nil {
			return err
		}
		v.snap, c = snap, s.describe()
		v.holdLog(c.flushed + 1)
		return nil
	}))
	if err == nil {
		err = v.describe(c)
	}
	if err != nil {
		v.Release()
		return nil, fmt.Errorf("cannot begin a backup: %w", err)
	}
	return v, nil
}

// holdLog keeps the log from a record on. What a trimming under way has decided
// to remove goes all the same; it never decides about records behind a flush.
func (v *BackupView) holdLog(from uint64) {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	v.s.logHolds[from]++
	v.hold = append(v.hold, from)
}

func (v *BackupView) describe(c *checkpointFile) error {
	var err error
	if v.Checkpoint, err = c.marshal(); err != nil {
		return err
	}
	v.LSN, v.Flushed = c.lsn, c.flushed
	for _, r := range v.snap.view.runs {
		meta := r.run.Meta()
		v.Runs = append(v.Runs, BackupRun{
			Meta: meta, Path: path.Join(v.s.path(runsDir), runFileName(uint64(meta.ID))), Merged: r.kind == ingestMerged || r.rank != meta.ID,
		})
		v.Versions += r.visible(v.LSN).GetCardinality()
	}
	for _, g := range v.snap.view.gens {
		for i := range int(g.count.Load()) {
			if e := g.entry(i); e.lsn <= v.LSN && !e.isPurgedAt(v.LSN) {
				v.Versions++
			}
		}
	}
	return nil
}

// Release lets go of the view's files. A second call does nothing.
func (v *BackupView) Release() {
	if v.snap != nil {
		v.snap.Release()
	}
	v.s.mu.Lock()
	for _, from := range v.hold {
		if v.s.logHolds[from]--; v.s.logHolds[from] == 0 {
			delete(v.s.logHolds, from)
		}
	}
	v.hold = nil
	v.s.mu.Unlock()
	v.s.kickTrim()
}

// Log calls fn for the records from an LSN to the view's, in order. Only those
// from Flushed+1 are certain to be there; of others it may fail with wal.ErrTrimmed.
func (v *BackupView) Log(ctx context.Context, from uint64, fn func(LogRecord) error) error {
	next := from
	err := v.s.log.Tail(ctx, wal.LSN(from), func(r wal.Record) error {
		if uint64(r.LSN) > v.LSN {
			return errEnoughLog
		}
		next++
		return fn(LogRecord{Type: uint8(r.Type), LSN: uint64(r.LSN), Payload: r.Payload})
	})
	if err != nil && err != errEnoughLog {
		return err
	}
	if next <= v.LSN {
		return fmt.Errorf("the log ends at LSN %d, before LSN %d", next-1, v.LSN)
	}
	return nil
}

// These end walks through the log early.
var (
	errEnoughLog     = errors.New("enough")
	errDoesNotFollow = errors.New("another history")
)

// Follows tells whether the log leads from a record of an earlier view to this
// one without a gap, without another history in between, and without a purge,
// whose versions must not come along. sum is the record's Sum.
func (v *BackupView) Follows(ctx context.Context, lsn, sum uint64) (bool, error) {
	if lsn == 0 || lsn > v.LSN {
		return false, nil
	}
	follows := true
	err := v.Log(ctx, lsn, func(r LogRecord) error {
		if r.LSN == lsn && r.Sum() != sum || r.LSN > lsn && r.IsPurge() {
			follows = false
			return errDoesNotFollow
		}
		return nil
	})
	if !follows || errors.Is(err, wal.ErrTrimmed) {
		return false, nil
	}
	return err == nil, err
}

// LastSum is the Sum of the view's last record; 0 when it is not in the log.
func (v *BackupView) LastSum(ctx context.Context) (sum uint64, err error) {
	if v.LSN == 0 {
		return 0, nil
	}
	err = v.Log(ctx, v.LSN, func(r LogRecord) error {
		sum = r.Sum()
		return nil
	})
	if errors.Is(err, wal.ErrTrimmed) {
		return 0, nil
	}
	return sum, err
}

// ID is the store's own: two directories have the same one only when somebody
// copied one by other means than a restore.
func (s *Store) ID() uint64 { return s.format.storeID }
