package engine

import (
	"fmt"
	"slices"

	"kiln/fhir"
	"kiln/index"
)

// Place says where a version lies, for marking it superseded.
type Place struct {
	Run     index.RunID   // 0: the head
	Ordinal index.Ordinal // in the head: the version's number since the store was opened
}

// KeyVersion is one known version of a key.
type KeyVersion struct {
	VersionID   int64
	LastUpdated fhir.Instant
	Deleted     bool
	Current     bool
	Place       Place
}

// KeyLookup looks up many keys in ascending order: filters first, then a
// merge-join. Not safe for concurrent use.
type KeyLookup struct {
	n       *Snapshot
	cursors []*index.LookupCursor // one for each run of the view, made when it is first needed
	rows    []index.Found
	out     []KeyVersion
}

// KeyLookup begins a walk over keys. It is good until the snapshot is released.
func (n *Snapshot) KeyLookup() *KeyLookup {
	return &KeyLookup{n: n, cursors: make([]*index.LookupCursor, len(n.view.runs))}
}

// Versions returns every version of key (index.AppendKey), highest VersionID
// first; the slice holds until the next call. Keys must ascend.
func (k *KeyLookup) Versions(key []byte) ([]KeyVersion, error) {
	k.out = k.out[:0]
	for _, g := range k.n.view.gens {
		err := g.versions(key, k.n.lsn, func(i int32, e *headEntry) bool {
			number := uint32(g.base) + uint32(i)
			k.add(e.row(), Place{Ordinal: index.Ordinal(number)})
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	hash := index.KeyHash(key)
	for i, r := range k.n.view.runs {
		if !r.run.MayContain(hash) {
			continue
		}
		if err := k.addRows(i, r, key); err != nil {
			return nil, err
		}
	}
	k.finish()
	return k.out, nil
}

func (k *KeyLookup) addRows(i int, r *runState, key []byte) (err error) {
	if k.cursors[i] == nil {
		k.cursors[i] = r.run.LookupCursor()
	}
	if k.rows, err = k.cursors[i].Lookup(k.rows[:0], key); err != nil {
		return err
	}
	for _, f := range k.rows {
		if r.isVoid(f.Ordinal) {
			continue
		}
		row, err := r.row(f.Ordinal)
		if err != nil {
			return err
		}
		k.add(row, Place{Run: r.run.Meta().ID, Ordinal: f.Ordinal})
	}
	return nil
}

func (k *KeyLookup) add(row index.Row, p Place) {
	k.out = append(k.out, KeyVersion{
		VersionID: row.VersionID, LastUpdated: row.LastUpdated,
		Deleted: row.Flags&index.FlagDeleted != 0, Place: p,
	})
}

// finish sorts the versions and names the current one: the highest positive.
func (k *KeyLookup) finish() {
	slices.SortFunc(k.out, func(a, b KeyVersion) int {
		switch {
		case a.VersionID > b.VersionID:
			return -1
		case a.VersionID < b.VersionID:
			return 1
		}
		return 0
	})
	if len(k.out) > 0 && k.out[0].VersionID > 0 {
		k.out[0].Current = true
	}
}

// BodyAt reads the body of a KeyVersion of this key.
func (n *Snapshot) BodyAt(key []byte, v KeyVersion) (Version, error) {
	f := found{versionID: v.VersionID, ordinal: v.Place.Ordinal}
	if v.Place.Run == 0 {
		f.entry = n.view.entry(uint32(v.Place.Ordinal))
	} else {
		f.run = n.view.run(v.Place.Run)
	}
	if !f.ok() {
		return Version{}, fmt.Errorf("cannot read version %d of key %x: its place is not in this snapshot", v.VersionID, key)
	}
	return n.read(f)
}
