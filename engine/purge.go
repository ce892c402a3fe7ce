package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
	"kiln/wal"
)

// PurgeScope says which versions of a resource a purge takes.
type PurgeScope uint8

const (
	PurgeAll     PurgeScope = iota // hard delete: numbers begin at 1 again
	PurgeHistory                   // all but the current one, deleted or not
)

// Purge takes versions of a resource out of the store for good, durable on
// return, and tells how many; 0 when there were none. A failed precondition is a
// *ConflictError that wraps ErrPrecondition. History that was imported without
// any current version is history: both scopes take it.
//
// It waits for import rounds under way, from their snapshot to their record: what
// they compared and found stored must not vanish before they are published. They
// could not look at such a key again, as they do at keys that were written
// meanwhile: a line that was found stored left no row. Snapshots from before the purge show
// the versions until they are released, and no later one does.
//
// What is left on disk: bodies stay in the log until it is trimmed, and in a run
// until it is merged.
func (s *Store) Purge(ctx context.Context, t fhir.TypeCode, id []byte, scope PurgeScope, cond Precondition) (int, error) {
	c := Change{Type: t, ID: id, Delete: true, If: cond}
	if err := c.check(); err != nil {
		return 0, err
	}
	key := index.AppendKey(make([]byte, 0, keyBytesTypical), t, id)
	if gone, err := s.nothingToPurge(key, scope, cond); gone || err != nil {
		return 0, err
	}
	if err := s.ingests.Acquire(ctx, ingestsMax); err != nil {
		return 0, fmt.Errorf("cannot wait for running imports: %w", err)
	}
	defer s.ingests.Release(ingestsMax)
	purged := 0
	err := s.inSlot(ctx, func() error {
		var err error
		purged, err = s.purge(key, scope, cond)
		return err
	})
	return purged, err
}

// nothingToPurge looks outside the slot, which also brings what the slot reads
// into memory.
func (s *Store) nothingToPurge(key []byte, scope PurgeScope, cond Precondition) (bool, error) {
	snap, err := s.Snapshot()
	if err != nil {
		return false, err
	}
	defer snap.Release()
	versions, err := snap.KeyLookup().Versions(key)
	if err != nil {
		return false, err
	}
	return len(purgeable(versions, scope)) == 0, judgePurge(versions, cond)
}

// purgeable is the versions that a purge takes. The current one is the first.
func purgeable(versions []KeyVersion, scope PurgeScope) []KeyVersion {
	if scope == PurgeHistory && len(versions) > 0 && versions[0].Current {
		return versions[1:]
	}
	return versions
}

func judgePurge(versions []KeyVersion, cond Precondition) error {
	var cur current
	if len(versions) > 0 && versions[0].Current {
		cur = current{found: true, versionID: versions[0].VersionID, deleted: versions[0].Deleted}
	}
	c := Change{Delete: true, If: cond}
	if c.judge(&cur) == verdictConflict {
		return &ConflictError{CurrentVersion: cur.versionID, CurrentDeleted: cur.deleted}
	}
	return nil
}

// purge is Purge in the slot.
func (s *Store) purge(key []byte, scope PurgeScope, cond Precondition) (int, error) {
	if err := s.refuseWrites(); err != nil {
		return 0, err
	}
	snap, err := s.Snapshot()
	if err != nil {
		return 0, err
	}
	defer snap.Release()
	versions, err := snap.KeyLookup().Versions(key)
	if err != nil {
		return 0, err
	}
	if err := judgePurge(versions, cond); err != nil {
		return 0, err
	}
	versions = purgeable(versions, scope)
	if len(versions) == 0 {
		return 0, nil
	}
	return len(versions), s.writePurge(versions)
}

// writePurge appends the record and applies it. Slot only.
func (s *Store) writePurge(versions []KeyVersion) error {
	rows, heads := map[index.RunID]*roaring.Bitmap{}, map[*headEntry]bool{}
	for _, v := range versions {
		if v.Place.Run == 0 {
			heads[s.view.entry(uint32(v.Place.Ordinal))] = true
			continue
		}
		if rows[v.Place.Run] == nil {
			rows[v.Place.Run] = roaring.New()
		}
		rows[v.Place.Run].Add(uint32(v.Place.Ordinal))
	}
	entries := sortedHeads(heads)
	rec := purgeRecord{}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		rec.runs = append(rec.runs, ingestMarks{run: id, ordinals: rows[id]})
	}
	for _, e := range entries {
		rec.heads = append(rec.heads, headPlace{lsn: e.lsn, index: e.index})
	}
	payload, err := rec.marshal()
	if err != nil {
		return err
	}
	placed, err := s.append([]wal.Entry{{Type: wal.TypePurge, Payload: payload}})
	if err != nil {
		return err
	}
	s.applyPurge(&rec, uint64(placed[0].LSN))
	s.stats.purges.Add(1)
	s.stats.purged.Add(uint64(len(versions)))
	return nil
}

// applyPurge makes the written record visible. Writes that were planned before
// look again, as after any change of the runs.
func (s *Store) applyPurge(rec *purgeRecord, lsn uint64) {
	for _, m := range rec.runs {
		s.view.run(m.run).purge(lsn, m.ordinals)
	}
	for _, h := range rec.heads {
		s.view.purge(h, lsn)
	}
	s.viewLSN = lsn
	s.publish(lsn)
	if len(rec.runs) > 0 {
		s.kickMerges()
	}
}

// purge takes a version of the head out from lsn on. Slot only.
func (v *view) purge(p headPlace, lsn uint64) {
	for _, g := range v.gens {
		if e := g.find(p.lsn, p.index); e != nil {
			g.purge(e, lsn)
			return
		}
	}
	panic(fmt.Sprintf("BUG: the head has no version %d of LSN %d", p.index, p.lsn))
}
