package backup

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"kiln/bulk"
	"kiln/engine"
)

// Backups that were asked for are in the job catalog, as imports and exports are, so
// that their status addresses outlive the server. What a crash leaves:
//
//   - before the 202: no backup, and nobody has its number.
//   - while it runs: its registration. It is not begun again by itself, since its
//     target may be away; its status says that it is to be started again.
//   - after its manifest has its name, before its end is in the catalog: the same.
//     The backup is there, and kiln backup --list shows it.
//
// A catalog that takes nothing (the disk is full, or served for reading only) is no
// reason to refuse a backup: it is known as long as the process lives, and its number
// is the time, since the next process counts on from what the catalog has.

// keyBackup is followed by 19 digits of a number. Older builds pass over such keys.
const keyBackup = "backup/"

func recordKey(id int64) string { return fmt.Sprintf("%s%019d", keyBackup, id) }

// record is a backup in the catalog. It runs, or was cut off, when it has neither
// a result nor an error.
type record struct {
	ID     int64              `json:"id"`
	Target string             `json:"target"` // without secrets
	Asked  time.Time          `json:"asked"`
	Result *Result            `json:"result,omitempty"`
	Error  *bulk.RequestError `json:"error,omitempty"`
}

// put writes a record. kept is false where there is no room for it, which is logged.
func (j *Jobs) put(r *record) (kept bool, err error) {
	raw, err := json.Marshal(r)
	if err != nil {
		panic("BUG: a backup's record cannot be written: " + err.Error())
	}
	err = j.opts.Store.CatalogPut(recordKey(r.ID), raw)
	if errors.Is(err, engine.ErrNoSpace) || errors.Is(err, engine.ErrOpenedReadOnly) {
		j.opts.Logger.Warn("the job catalog takes nothing: after a restart a backup is not known, or counts as cut off", "target", r.Target, "error", err)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot register backup %d: %w", r.ID, err)
	}
	return true, nil
}

// unkept is the number of a backup that is not in the catalog: nobody gives it again.
func (j *Jobs) unkept() int64 {
	id := j.opts.Now().UnixMicro()
	for j.known[id] != nil || id <= j.last {
		id++
	}
	return id
}

// load reads what former processes were asked for.
func (j *Jobs) load() error {
	err := j.opts.Store.CatalogList(keyBackup, func(_ string, value []byte) error {
		r := new(record)
		if err := bulk.ParseRecord(value, r); err != nil {
			return fmt.Errorf("cannot read a backup's record: %w", err)
		}
		if r.Result == nil && r.Error == nil {
			r.Error = refused(500, "exception", "The server stopped before backup %d to %s was known to be whole: start it again, it goes on from the run files that were copied. "+
				"kiln backup --list shows what is there.", r.ID, r.Target)
		}
		j.known[r.ID] = &job{record: *r, ended: true, cancel: func() {}}
		j.last = max(j.last, r.ID)
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot list the backups: %w", err)
	}
	return nil
}

// forget drops backups that ended long ago, but for the last that were asked for. One that
// stays in the catalog is dropped by a later start. The caller holds j.mu.
func (j *Jobs) forget() {
	ids := slices.SortedFunc(maps.Keys(j.known), func(a, b int64) int {
		return cmp.Or(j.known[a].Asked.Compare(j.known[b].Asked), cmp.Compare(a, b))
	})
	for _, id := range ids[:max(0, len(ids)-jobsKnownMax)] {
		delete(j.known, id)
		if err := j.opts.Store.CatalogDelete(recordKey(id)); err != nil {
			j.opts.Logger.Warn("an old backup stays in the job catalog", "backup", id, "error", err)
		}
	}
}
