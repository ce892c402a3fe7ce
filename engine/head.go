package engine

import (
	"sort"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"kiln/fhir"
	"kiln/index"
	"kiln/wal"
)

// none stands for "no ordinal".
const none = -1

// headEntry is a version that lies in the log. All fields but superseded are
// set before the entry is counted in headGen.count, and never change.
type headEntry struct {
	key         string // index.AppendKey
	lsn         uint64
	at          wal.Position // of the body
	bodyBytes   uint32
	crc         uint32 // of the body
	versionID   int64
	lastUpdated fhir.Instant
	typ         fhir.TypeCode
	flags       index.Flags
	idBytes     uint8
	idAt        uint32
	splice      fhir.Splice
	index       uint32 // number inside its record
	// prev is the key's former version in this generation; best the one with
	// the highest positive versionId among this one and all before it. Or none.
	prev, best int32
	// superseded is the LSN from which the version is not current; 0: it is.
	// Atomic: the committer stores while snapshots read.
	superseded uint64
	// purged is the LSN from which the version does not exist; 0: it does. Atomic
	// likewise. A purge takes all versions of a key, or all but the one with
	// the highest positive versionId; so where the best of some entries is
	// purged, none of them with a positive versionId is left.
	purged uint64
}

// isPurgedAt tells whether the version does not exist any more at lsn.
func (e *headEntry) isPurgedAt(lsn uint64) bool {
	at := atomic.LoadUint64(&e.purged)
	return at != 0 && at <= lsn
}

func (e *headEntry) isDeleted() bool { return e.flags&index.FlagDeleted != 0 }

// isCurrentAt tells whether the entry is in a scan at lsn; whether it was purged
// is another question.
func (e *headEntry) isCurrentAt(lsn uint64) bool {
	at := atomic.LoadUint64(&e.superseded)
	return e.lsn <= lsn && (at == 0 || at > lsn)
}

// supersede makes the entry not current from lsn on. The first time counts: an
// import that settles a conflict names versions that a commit superseded
// before. Slot and recovery only.
func (e *headEntry) supersede(lsn uint64) {
	if e.superseded == 0 {
		atomic.StoreUint64(&e.superseded, lsn)
	}
}

// entryOverheadBytes bounds what an entry costs next to its body: the struct, the
// key and the directory's slots in memory, the version's header in the log.
const entryOverheadBytes = 320

// headChunkEntries: entries never move, so that pointers to them stay good.
const headChunkEntries = 512

type headChunk [headChunkEntries]headEntry

// headGen is one generation of the head: the versions committed between two
// flushes, in LSN order. The committer alone appends; anybody may read the
// first count entries without a lock.
type headGen struct {
	// base is the number of the first entry since the store was opened; entry
	// numbers are how places in the head are told (Place.Ordinal).
	base   uint64
	dir    headDir
	chunks atomic.Pointer[[]*headChunk]
	count  atomic.Int64
	purged atomic.Int64 // of count
	bytes  atomic.Int64
	// termsCost is at most what the terms of the commits' entries take, whether
	// they are made or not.
	termsCost atomic.Int64
	terms     headTerms
	// refs counts the views that hold the generation. Guarded by Store.mu.
	refs int
}

func newHeadGen(base uint64) *headGen {
	g := &headGen{base: base}
	g.dir.table.Store(newHeadTable(headDirBits))
	g.chunks.Store(&[]*headChunk{})
	g.terms.users = semaphore.NewWeighted(headTermsUsers)
	return g
}

// headTermsShare: the terms of a generation may take so many times the bytes of
// its log. Those of real resources take 0.2 to 0.5, and are estimated at 0.8; a
// few small values with long systems, in many combinations, may take 80.
const headTermsShare = 2

// isFull tells whether the generation is to be flushed.
func (g *headGen) isFull(headBytes int64) bool {
	return g.bytes.Load() >= headBytes || max(g.termsCost.Load(), g.terms.bytes.Load()) >= headTermsShare*headBytes
}

func (g *headGen) entry(i int) *headEntry {
	return &(*g.chunks.Load())[i/headChunkEntries][i%headChunkEntries]
}

// countAt is the number of entries with an LSN up to lsn.
func (g *headGen) countAt(lsn uint64) int {
	n := int(g.count.Load())
	if n == 0 || g.entry(n-1).lsn <= lsn {
		return n
	}
	return sort.Search(n, func(i int) bool { return g.entry(i).lsn > lsn })
}

// firstLSN is the oldest entry's; 0 when there is none.
func (g *headGen) firstLSN() uint64 {
	if g.count.Load() == 0 {
		return 0
	}
	return g.entry(0).lsn
}

// add appends entries, in LSN order. Readers see them when their LSN is visible.
// Committer and recovery only.
func (g *headGen) add(entries []headEntry) {
	n := int(g.count.Load())
	added := int64(0)
	for i := range entries {
		e := &entries[i]
		hash := index.KeyHash([]byte(e.key))
		prev := g.newest(hash, []byte(e.key))
		g.place(n+i, e, prev)
		added += int64(e.bodyBytes) + entryOverheadBytes
		// The entry is written before it is counted, and counted before a
		// reader can find it through the directory.
		g.count.Store(int64(n + i + 1))
		g.dir.put(hash, prev, int32(n+i))
	}
	g.bytes.Add(added)
}

// place writes entry i, whose key's former version is prev.
func (g *headGen) place(i int, e *headEntry, prev int32) {
	chunks := *g.chunks.Load()
	if i/headChunkEntries == len(chunks) {
		grown := append(chunks, new(headChunk))
		g.chunks.Store(&grown)
		chunks = grown
	}
	slot := &chunks[i/headChunkEntries][i%headChunkEntries]
	*slot = *e
	slot.prev, slot.best = prev, none
	if e.purged != 0 {
		g.purged.Add(1)
	}
	if prev != none {
		slot.best = g.entry(int(prev)).best
	}
	if slot.best != none && g.entry(int(slot.best)).purged != 0 {
		slot.best = none // numbers begin anew
	}
	if e.versionID > 0 && (slot.best == none || g.entry(int(slot.best)).versionID < e.versionID) {
		slot.best = int32(i)
	}
}

// newest is the ordinal of the key's newest version, or none.
func (g *headGen) newest(hash uint64, key []byte) int32 {
	return g.dir.find(hash, func(i int32) bool { return g.entry(int(i)).key == string(key) })
}

// latest is the ordinal of the key's newest version as of lsn, or none.
func (g *headGen) latest(key []byte, lsn uint64) int32 {
	i := g.newest(index.KeyHash(key), key)
	for i != none && g.entry(int(i)).lsn > lsn {
		i = g.entry(int(i)).prev
	}
	return i
}

// purge takes an entry out from lsn on. Committer only.
func (g *headGen) purge(e *headEntry, lsn uint64) {
	atomic.StoreUint64(&e.purged, lsn)
	g.purged.Add(1)
}

// current is the key's version with the highest positive versionId as of lsn, and
// its ordinal; nil: none.
func (g *headGen) current(key []byte, lsn uint64) (int32, *headEntry) {
	i := g.latest(key, lsn)
	if i == none {
		return none, nil
	}
	if best := g.entry(int(i)).best; best != none && !g.entry(int(best)).isPurgedAt(lsn) {
		return best, g.entry(int(best))
	}
	return none, nil
}

// versions calls fn for every version of the key as of lsn, newest commit
// first, until it returns false.
func (g *headGen) versions(key []byte, lsn uint64, fn func(ordinal int32, e *headEntry) bool) {
	for i := g.latest(key, lsn); i != none; {
		e := g.entry(int(i))
		if !e.isPurgedAt(lsn) && !fn(i, e) {
			return
		}
		i = e.prev
	}
}

// find returns the entry of a place as records hold it; nil: not here.
func (g *headGen) find(lsn uint64, number uint32) *headEntry {
	n := int(g.count.Load())
	i := sort.Search(n, func(i int) bool {
		e := g.entry(i)
		return e.lsn > lsn || (e.lsn == lsn && e.index >= number)
	})
	if i == n || g.entry(i).lsn != lsn || g.entry(i).index != number {
		return nil
	}
	return g.entry(i)
}
