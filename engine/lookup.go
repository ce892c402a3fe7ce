package engine

import (
	"fmt"
	"math/bits"
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
	hashes  []uint64              // of the probed keys
	maybe   []uint64              // for each probed key, words bits: one for each generation of the head, then one for each run
	words   int
	hits    []uint32
	rows    []index.Found
	out     []KeyVersion
}

// KeyLookup begins a walk over keys. It is good until the snapshot is released.
func (n *Snapshot) KeyLookup() *KeyLookup {
	sources := len(n.view.gens) + len(n.view.runs)
	return &KeyLookup{n: n, cursors: make([]*index.LookupCursor, len(n.view.runs)), words: (sources + 63) / 64}
}

// Probe asks all filters about keys that Probed will be asked for, each filter
// about all of them: it stays in the processor's cache meanwhile, and the
// questions do not wait for one another. Key by key a new key would cost a
// cache miss or two for every run of the store. Some thousand keys are enough.
func (k *KeyLookup) Probe(keys [][]byte) {
	k.hashes, k.maybe = k.hashes[:0], slices.Grow(k.maybe[:0], len(keys)*k.words)[:len(keys)*k.words]
	clear(k.maybe)
	for _, key := range keys {
		k.hashes = append(k.hashes, index.KeyHash(key))
	}
	gens := k.n.view.gens
	for i, g := range gens {
		k.hits = k.hits[:0]
		for j, hash := range k.hashes {
			if g.dir.mayContain(hash) {
				k.hits = append(k.hits, uint32(j))
			}
		}
		k.mark(i)
	}
	for i, r := range k.n.view.runs {
		k.hits = r.run.MayContainAmong(k.hits[:0], k.hashes)
		k.mark(len(gens) + i)
	}
}

// mark notes that a source may have the keys of the hits.
func (k *KeyLookup) mark(source int) {
	word, bit := source/64, uint64(1)<<(source%64)
	for _, i := range k.hits {
		k.maybe[int(i)*k.words+word] |= bit
	}
}

// Versions is Probe and Probed of one key.
func (k *KeyLookup) Versions(key []byte) ([]KeyVersion, error) {
	k.Probe([][]byte{key})
	return k.Probed(0, key)
}

// Probed returns every version of the i-th probed key (index.AppendKey), highest
// VersionID first; the slice holds until the next call. Keys must ascend.
func (k *KeyLookup) Probed(i int, key []byte) ([]KeyVersion, error) {
	k.out = k.out[:0]
	for word, maybe := range k.maybe[i*k.words : (i+1)*k.words] {
		for ; maybe != 0; maybe &= maybe - 1 {
			if err := k.addFrom(64*word+bits.TrailingZeros64(maybe), key); err != nil {
				return nil, err
			}
		}
	}
	k.finish()
	return k.out, nil
}

// Current is Probed without the history: the current version, or none. It does not
// cost more when the history is long, since the key tables tell which version it is,
// and its row is the only one that is read.
func (k *KeyLookup) Current(i int, key []byte) ([]KeyVersion, error) {
	k.out = k.out[:0]
	var best found
	for word, maybe := range k.maybe[i*k.words : (i+1)*k.words] {
		for ; maybe != 0; maybe &= maybe - 1 {
			if err := k.currentFrom(&best, 64*word+bits.TrailingZeros64(maybe), key); err != nil {
				return nil, err
			}
		}
	}
	if !best.ok() {
		return nil, nil
	}
	row, err := best.row()
	if err != nil {
		return nil, err
	}
	k.add(row, best.place())
	k.out[0].Current = true
	return k.out, nil
}

// currentFrom makes best the current version of a generation of the head or of a
// run, if that is a later one.
func (k *KeyLookup) currentFrom(best *found, source int, key []byte) error {
	gens := k.n.view.gens
	if source < len(gens) {
		best.orHead(gens[source], key, k.n.lsn)
		return nil
	}
	i := source - len(gens)
	return best.orRow(k.n.view.runs[i], k.cursor(i), key, k.n.lsn)
}

// cursor is that of the view's i-th run.
func (k *KeyLookup) cursor(i int) *index.LookupCursor {
	if k.cursors[i] == nil {
		k.cursors[i] = k.n.view.runs[i].run.LookupCursor()
	}
	return k.cursors[i]
}

// addFrom adds the versions in a generation of the head or in a run.
func (k *KeyLookup) addFrom(source int, key []byte) error {
	gens := k.n.view.gens
	if source >= len(gens) {
		return k.addRows(source-len(gens), k.n.view.runs[source-len(gens)], key)
	}
	g := gens[source]
	g.versions(key, k.n.lsn, func(i int32, e *headEntry) bool {
		number := uint32(g.base) + uint32(i)
		k.add(e.row(), Place{Ordinal: index.Ordinal(number)})
		return true
	})
	return nil
}

func (k *KeyLookup) addRows(i int, r *runState, key []byte) (err error) {
	if k.rows, err = k.cursor(i).Lookup(k.rows[:0], key); err != nil {
		return err
	}
	for _, f := range k.rows {
		if r.isVoid(f.Ordinal, k.n.lsn) {
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
