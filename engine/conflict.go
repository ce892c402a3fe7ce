package engine

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// Conflict is a key of the round's runs that somebody else wrote after the snapshot.
type Conflict struct {
	Key      []byte
	Versions []KeyVersion // as they are now, highest first
	Rows     []ConflictRow
}

// ConflictRow is one row of the key in the round's runs, in arrival order per run. The
// callback sets Drop (the row vanishes) or a new VersionID and LastUpdated;
// they begin as the row's own, and a row that keeps them stays where it is.
type ConflictRow struct {
	Place       Place
	Row         index.Row
	Stored      index.Stored
	Drop        bool
	VersionID   int64
	LastUpdated fhir.Instant
}

// keySet is a set of keys (index.AppendKey).
type keySet map[string]struct{}

// writtenSince adds the keys of the round's runs that snap shows written after
// the LSN. With no import beside this one it reads the head's tail only.
func (g *Ingest) writtenSince(ctx context.Context, keys keySet, snap *Snapshot, after uint64) error {
	for _, gen := range snap.view.gens {
		for i := gen.countAt(after); i < gen.countAt(snap.lsn); i++ {
			if err := g.addIfOurs(keys, gen.entry(i).key); err != nil {
				return err
			}
		}
	}
	for _, r := range snap.view.runs {
		if r.publishLSN <= after {
			continue
		}
		for _, ours := range g.runs {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := commonKeys(keys, ours.run, r, after); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *Ingest) addIfOurs(keys keySet, key string) error {
	if _, ok := keys[key]; ok {
		return nil
	}
	hash := index.KeyHash([]byte(key))
	for _, r := range g.runs {
		if !r.run.MayContain(hash) {
			continue
		}
		found, err := r.run.Lookup(nil, []byte(key))
		if err != nil {
			return err
		}
		if len(found) > 0 {
			keys[key] = struct{}{}
			return nil
		}
	}
	return nil
}

// commonKeys adds the keys that are in both runs, in theirs with a row written
// after the LSN: a merge-join of two sorted key tables.
func commonKeys(keys keySet, ours *index.Run, theirs *runState, after uint64) error {
	a, b := ours.KeyCursor(), theirs.run.KeyCursor()
	more := a.Next() && b.Next()
	for more {
		switch c := bytes.Compare(a.Key(), b.Key()); {
		case c < 0:
			more = a.Next()
		case c > 0:
			more = b.Next()
		default:
			newer, err := theirs.writtenAfter(b.Found().Ordinal, after)
			if err != nil {
				return err
			}
			if newer {
				keys[string(a.Key())] = struct{}{}
			}
			more = b.Next()
		}
	}
	if err := a.Err(); err != nil {
		return err
	}
	return b.Err()
}

func (r *runState) writtenAfter(o index.Ordinal, after uint64) (bool, error) {
	if r.isVoid(o, math.MaxUint64) {
		return false, nil
	}
	if r.kind == ingestImport {
		return r.publishLSN > after, nil
	}
	row, err := r.row(o)
	return row.LSN > after, err
}

// conflicts describes the keys, as of snap, in key order.
func (g *Ingest) conflicts(snap *Snapshot, keys keySet) ([]Conflict, error) {
	lookup := snap.KeyLookup()
	var conflicts []Conflict
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		versions, err := lookup.Versions([]byte(key))
		if err != nil {
			return nil, err
		}
		c := Conflict{Key: []byte(key), Versions: slices.Clone(versions)}
		for _, r := range g.runs {
			if c.Rows, err = appendConflictRows(c.Rows, r.run, c.Key); err != nil {
				return nil, err
			}
		}
		conflicts = append(conflicts, c)
	}
	return conflicts, nil
}

func appendConflictRows(dst []ConflictRow, run *index.Run, key []byte) ([]ConflictRow, error) {
	found, err := run.Lookup(nil, key)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b index.Found) int { return int(a.Ordinal) - int(b.Ordinal) })
	for _, f := range found {
		row, err := run.Row(f.Ordinal)
		if err != nil {
			return nil, err
		}
		stored, err := run.Body(f.Ordinal)
		if err != nil {
			return nil, err
		}
		dst = append(dst, ConflictRow{
			Place: Place{Run: run.Meta().ID, Ordinal: f.Ordinal}, Row: row, Stored: stored,
			VersionID: row.VersionID, LastUpdated: row.LastUpdated,
		})
	}
	return dst, nil
}

func (c *ConflictRow) stays() bool {
	return !c.Drop && c.VersionID == c.Row.VersionID && c.LastUpdated == c.Row.LastUpdated
}

// resolution is what the resolved conflicts change about the round.
type resolution struct {
	versions []versionRecord                 // rows that got another version: they join the head
	keys     []string                        // of versions
	void     map[index.RunID]*roaring.Bitmap // rows of the round's runs
	// superseded is the final word on every place of a conflicting key, in the
	// round's runs and elsewhere.
	superseded map[Place]bool
}

// settle works out, for each conflicting key, which of all its versions is
// current: the highest positive one. What Add and Supersede said about the key
// no longer counts.
func settle(conflicts []Conflict) (*resolution, error) {
	res := &resolution{void: map[index.RunID]*roaring.Bitmap{}, superseded: map[Place]bool{}}
	for i := range conflicts {
		if err := res.settleKey(&conflicts[i]); err != nil {
			return nil, err
		}
	}
	return res, nil
}

func (res *resolution) settleKey(c *Conflict) error {
	best := int64(0)
	seen := map[int64]bool{}
	see := func(version int64) error {
		if seen[version] {
			return fmt.Errorf("cannot publish: version %d of key %x would exist twice", version, c.Key)
		}
		seen[version] = true
		best = max(best, version)
		return nil
	}
	for _, v := range c.Versions {
		if err := see(v.VersionID); err != nil {
			return err
		}
	}
	for i := range c.Rows {
		if row := &c.Rows[i]; !row.Drop {
			if err := see(row.VersionID); err != nil {
				return err
			}
		}
	}
	for _, v := range c.Versions {
		res.superseded[v.Place] = v.VersionID != best
	}
	for i := range c.Rows {
		if err := res.settleRow(c, &c.Rows[i], best); err != nil {
			return fmt.Errorf("cannot rewrite a row of key %x: %w", c.Key, err)
		}
	}
	return nil
}

func (res *resolution) settleRow(c *Conflict, row *ConflictRow, best int64) error {
	if row.stays() {
		res.superseded[row.Place] = row.VersionID != best
		return nil
	}
	res.superseded[row.Place] = false // a void row is nothing at all
	if res.void[row.Place.Run] == nil {
		res.void[row.Place.Run] = roaring.New()
	}
	res.void[row.Place.Run].Add(uint32(row.Place.Ordinal))
	if row.Drop {
		return nil
	}
	idAt, err := idOffset(row.Stored)
	if err != nil {
		return err
	}
	body := row.Stored.Body
	v := versionRecord{
		typ: row.Row.Type, idAt: idAt, idBytes: uint8(len(row.Stored.ID)), splice: row.Stored.Splice,
		versionID: row.VersionID, lastUpdated: row.LastUpdated, crc: bodyCRC(body), body: body,
	}
	v.flags = recordFlagsOf(row.Row.Flags)
	if row.VersionID != best {
		v.flags |= versionNotCurrent
	}
	res.versions = append(res.versions, v)
	res.keys = append(res.keys, string(c.Key))
	return nil
}

// idOffset finds where the id lies inside a body.
func idOffset(st index.Stored) (uint32, error) {
	r, err := fhir.NewScanner(fhir.ScannerOptions{}).Scan(st.Body, nil)
	if err != nil {
		return 0, err
	}
	at := uint64(r.IDAt)
	if end := at + uint64(len(st.ID)); end > uint64(len(st.Body)) || !bytes.Equal(st.Body[at:end], st.ID) {
		return 0, errBadVersion
	}
	return r.IDAt, nil
}
