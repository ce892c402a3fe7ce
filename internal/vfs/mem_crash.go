package vfs

import (
	"math/rand/v2"
	"path"
	"slices"
	"sort"
)

// CrashClone is the file system that a machine finds after a power cut at this
// moment. Synced bytes and synced entries are all there. Of the rest, the seed
// decides: some crashes lose all of it, some keep all, most keep some sectors,
// some lengths and some entries, in no order. The clone has no hook, no locks,
// and the capacity of the original; the original goes on unharmed.
func (m *Mem) CrashClone(seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, memStream))
	keep := crashChance(rng)
	clone := NewMem(seed)
	clone.capacity = m.capacity
	entries := m.crashEntries(rng, keep, &clone.crashed)
	// In name order, so that the same seed gives the same disk.
	for _, name := range sortedNames(entries) {
		node := entries[name].crash(rng, keep, &clone.crashed)
		clone.nodes[name], clone.durable[name] = node, node
		clone.used += node.pageBytes()
	}
	clone.nodes["."], clone.durable["."] = clone.nodes["/"], clone.nodes["/"]
	return clone
}

// CrashCounts is what became of the unsynced things in a power cut.
type CrashCounts struct {
	EntriesKept, EntriesLost        int
	PagesKept, PagesLost, PagesTorn int
	LengthsCut                      int // files with another length than callers saw
}

// Crashed tells what the power cut took that made this file system; zero for one
// of NewMem.
func (m *Mem) Crashed() CrashCounts { return m.crashed }

// crashChance is how likely this crash keeps each unsynced thing.
func crashChance(rng *rand.Rand) float64 {
	switch rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return 1
	default:
		return rng.Float64()
	}
}

// crashEntries is the durable tree with a random part of the pending changes.
func (m *Mem) crashEntries(rng *rand.Rand, keep float64, left *CrashCounts) map[string]*memNode {
	entries := make(map[string]*memNode, len(m.durable))
	for name, node := range m.durable {
		entries[name] = node
	}
	for _, op := range m.pending {
		if rng.Float64() < keep {
			applyEntry(entries, op)
			left.EntriesKept++
		} else {
			left.EntriesLost++
		}
	}
	delete(entries, ".")
	// Parents sort before children: an entry whose directory is gone is gone.
	for _, name := range sortedNames(entries) {
		if name == "/" || path.Dir(name) == "." {
			continue
		}
		if parent := entries[path.Dir(name)]; parent == nil || !parent.isDir {
			delete(entries, name)
		}
	}
	return entries
}

func sortedNames(entries map[string]*memNode) []string {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// crash is the node as the disk holds it.
func (n *memNode) crash(rng *rand.Rand, keep float64, left *CrashCounts) *memNode {
	after := &memNode{isDir: n.isDir, linked: true, durableSize: n.durableSize, durable: slices.Clone(n.durable)}
	n.persistSome(after, rng, keep, left)
	after.size = after.durableSize
	after.pages = slices.Clone(after.durable)
	return after
}

// failSync is an fsync that the device refused: some sectors got through, and
// every page counts as clean from now on, so a later sync skips them.
func (n *memNode) failSync(rng *rand.Rand) {
	n.durable = slices.Clone(n.durable)
	n.persistSome(n, rng, crashChance(rng), new(CrashCounts))
	clear(n.dirty)
}

// persistSome carries a random part of what is unsynced in n into the durable
// half of to: the length, then sectors of dirty pages below it.
func (n *memNode) persistSome(to *memNode, rng *rand.Rand, keep float64, left *CrashCounts) {
	if n.size != n.durableSize && rng.Float64() < keep {
		to.durableSize = n.size
	} else if n.size > n.durableSize {
		to.durableSize = n.durableSize + rng.Int64N(n.size-n.durableSize+1)*int64(rng.IntN(2))
	}
	for _, i := range sortedPages(n.dirty) {
		to.durable = setPage(to.durable, i, left.mixPage(rng, keep, pageAt(n.durable, i), n.pages[i]))
	}
	if to.durableSize != n.size {
		left.LengthsCut++
	}
	to.cutDurable()
}

// cutDurable clears what lies past the durable length.
func (n *memNode) cutDurable() {
	last := int(n.durableSize / memPageBytes)
	if p := pageAt(n.durable, last); p != nil {
		cut := *p
		clear(cut[n.durableSize%memPageBytes:])
		n.durable[last] = &cut
	}
	for i := last + 1; i < len(n.durable); i++ {
		n.durable[i] = nil
	}
}

func sortedPages(dirty map[int]struct{}) []int {
	pages := make([]int, 0, len(dirty))
	for i := range dirty {
		pages = append(pages, i)
	}
	slices.Sort(pages)
	return pages
}

// mixPage takes each sector from the new page with chance keep, else from the old.
func (c *CrashCounts) mixPage(rng *rand.Rand, keep float64, before, now *memPage) *memPage {
	mixed, kept := new(memPage), 0
	if before != nil {
		*mixed = *before
	}
	for at := 0; at < memPageBytes; at += memSectorBytes {
		if rng.Float64() < keep {
			copy(mixed[at:at+memSectorBytes], now[at:])
			kept++
		}
	}
	switch kept {
	case 0:
		c.PagesLost++
	case memPageBytes / memSectorBytes:
		c.PagesKept++
	default:
		c.PagesTorn++
	}
	return mixed
}

// FlipBit inverts one bit of a file, on the disk and in the cache. It reports
// whether there was such a bit.
func (m *Mem) FlipBit(name string, offset int64, bit uint) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	node, err := m.lookupFile(name)
	if err != nil || offset < 0 || offset >= node.size {
		return false
	}
	i, at := int(offset/memPageBytes), offset%memPageBytes
	shared := pageAt(node.pages, i) == pageAt(node.durable, i)
	node.pages = flipIn(node.pages, i, at, bit)
	if shared {
		node.durable = setPage(node.durable, i, node.pages[i])
	} else {
		node.durable = flipIn(node.durable, i, at, bit)
	}
	return true
}

func flipIn(pages []*memPage, i int, at int64, bit uint) []*memPage {
	flipped := new(memPage)
	if p := pageAt(pages, i); p != nil {
		*flipped = *p
	}
	flipped[at] ^= 1 << (bit % 8)
	return setPage(pages, i, flipped)
}
