package index

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/FastFilter/xorfilter"
	"github.com/RoaringBitmap/roaring/v2"
)

// tableWalk walks a run's key or term table from its first entry to its last,
// past the cache.
type tableWalk struct {
	m       *merger
	in      *mergeInput
	kind    blockKind
	index   *blockIndex
	skip    func([]byte) int
	keep    func(key []byte) bool // nil: every entry
	block   int                   // -1: before the first
	disk    []byte
	entries tableCursor
	// Of the term table: the posting block that was read last.
	postings     int // -1: none
	postingsDisk []byte
	bitmaps      []byte
}

// next moves to the following entry; false at the end.
func (w *tableWalk) next() (bool, error) {
	r := w.in.Run
	for {
		if w.block >= 0 {
			for w.entries.next() {
				if w.keep == nil || w.keep(w.entries.key) {
					return true, nil
				}
			}
			if w.entries.bad {
				return false, r.impossible(w.kind, w.index, w.block)
			}
		}
		if w.block+1 >= w.index.count() {
			return false, nil
		}
		w.block++
		length := int(w.index.lengths[w.block])
		w.disk = roomFor(w.disk, length)
		checked, err := r.readBlock(w.disk, w.kind, w.index.offsets[w.block], length)
		if err != nil {
			return false, err
		}
		if !w.entries.open(checked.payload, w.skip) {
			return false, r.impossible(w.kind, w.index, w.block)
		}
		if err := w.m.step(length); err != nil {
			return false, err
		}
	}
}

func (w *tableWalk) impossible() error { return w.in.Run.impossible(w.kind, w.index, w.block) }

// tableMerge walks the same table of all inputs at once, by rising key; inputs
// that have a key come in their order. It is a heap.
type tableMerge []*tableWalk

func (m *merger) mergeTables(kind blockKind, index func(*Run) *blockIndex, skip func([]byte) int) (tableMerge, error) {
	var walks []*tableWalk
	for _, in := range m.inputs {
		walks = append(walks, &tableWalk{m: m, in: in, kind: kind, index: index(in.Run), skip: skip, block: -1, postings: -1})
	}
	return newTableMerge(walks)
}

// newTableMerge moves the walks to their first entries.
func newTableMerge(walks []*tableWalk) (tableMerge, error) {
	var h tableMerge
	for _, w := range walks {
		more, err := w.next()
		if err != nil {
			return nil, err
		}
		if more {
			h = append(h, w)
		}
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
	return h, nil
}

func (h tableMerge) less(i, j int) bool {
	if c := bytes.Compare(h[i].entries.key, h[j].entries.key); c != 0 {
		return c < 0
	}
	return h[i].in.number < h[j].in.number
}

// down moves walk i to where it belongs below.
func (h tableMerge) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h.less(child+1, child) {
			child++
		}
		if !h.less(child, i) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// advance moves the first walk on, or drops it at its end.
func (h *tableMerge) advance() error {
	more, err := (*h)[0].next()
	if err != nil {
		return err
	}
	if !more {
		last := len(*h) - 1
		(*h)[0] = (*h)[last]
		*h = (*h)[:last]
	}
	h.down(0)
	return nil
}

// each calls take for every entry of a key and then end, for every key.
func (h *tableMerge) each(take func(*tableWalk) error, end func(key []byte) error) error {
	var key []byte
	for len(*h) > 0 {
		if bytes.Compare((*h)[0].entries.key, key) < 0 {
			return (*h)[0].impossible()
		}
		key = append(key[:0], (*h)[0].entries.key...)
		for len(*h) > 0 && bytes.Equal((*h)[0].entries.key, key) {
			if err := take((*h)[0]); err != nil {
				return err
			}
			if err := h.advance(); err != nil {
				return err
			}
		}
		if err := end(key); err != nil {
			return err
		}
	}
	return nil
}

// keys merges the key tables and makes the filter.
func (m *merger) keys() error {
	h, err := m.mergeTables(blockKeys, func(r *Run) *blockIndex { return r.keys }, skipKeyPayload)
	if err != nil {
		return err
	}
	t := tableWriter{out: m.out, kind: blockKeys}
	filter := m.newFilter()
	var versions []Found
	err = h.each(func(w *tableWalk) error {
		f, ok := parseKeyPayload(w.entries.payload, w.in.Run.footer.meta.Rows)
		if !ok {
			return w.impossible()
		}
		if w.in.void == nil || !w.in.void.Contains(uint32(f.Ordinal)) {
			versions = append(versions, Found{VersionID: f.VersionID, Ordinal: f.Ordinal + Ordinal(w.in.base)})
		}
		return nil
	}, func(key []byte) error {
		if len(versions) == 0 {
			return nil
		}
		m.footer.keys++
		filter.add(KeyHash(key))
		err := t.addVersions(key, versions)
		versions = versions[:0]
		return err
	})
	if err != nil {
		return err
	}
	if err := t.closeBlock(); err != nil {
		return err
	}
	if m.footer.sections[sectionKeys], err = m.out.section(blockKeyIndex, t.keyIndex()); err != nil {
		return err
	}
	m.footer.sections[sectionFilter], err = m.out.section(blockFilter, filter.payload())
	return err
}

// terms merges the term tables and their postings.
func (m *merger) terms() error {
	h, err := m.termTables()
	if err != nil {
		return err
	}
	w := newTermWriter(m.out)
	union := postingUnion{all: roaring.New()}
	if err := h.each(union.take, func(key []byte) error { return union.write(w, key) }); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	f := &m.footer
	f.terms = w.table.count
	if f.sections[sectionTerms], err = m.out.section(blockTermIndex, w.table.index.append(nil, indexTable)); err != nil {
		return err
	}
	f.sections[sectionPostings], err = m.out.section(blockPostingIndex, w.index.append(nil, indexPlain))
	return err
}

// termTables walks the term tables of the inputs, or what remaking left of one
// and made.
func (m *merger) termTables() (tableMerge, error) {
	if m.opts.remake != nil {
		return m.remadeTables()
	}
	return m.mergeTables(blockTerms, func(r *Run) *blockIndex { return r.terms }, skipPosting)
}

// postingUnion collects the postings of one term from all inputs.
type postingUnion struct {
	inline   []uint32        // of terms without a bitmap, ascending
	all      *roaring.Bitmap // of the others
	count    uint64          // rows that must be in all
	ordinals []uint32
}

// take adds an input's postings, without its void rows.
func (u *postingUnion) take(w *tableWalk) error {
	p, ok := parsePosting(u.ordinals[:0], w.entries.payload, w.in.Run.footer.meta.Rows)
	if !ok {
		return w.impossible()
	}
	if p.ordinals == nil {
		return u.takeBitmap(w, p.place)
	}
	u.ordinals = p.ordinals
	for _, o := range p.ordinals {
		if w.in.void == nil || !w.in.void.Contains(o) {
			u.inline = append(u.inline, o+w.in.base)
		}
	}
	return nil
}

// takeBitmap is take for a bitmap. That its rows are in order is not checked; the
// union's count is, and a panic over nonsense is damage.
func (u *postingUnion) takeBitmap(w *tableWalk, place postingPlace) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = w.impossible()
		}
	}()
	bitmap, err := w.bitmap(place)
	if err != nil {
		return err
	}
	if w.in.void != nil {
		bitmap.AndNot(w.in.void)
	}
	u.count += bitmap.GetCardinality()
	u.all.Or(roaring.AddOffset(bitmap, w.in.base))
	return nil
}

// bitmap reads a bitmap that the current entry names. Its block is kept, since
// the next term's bitmap lies behind it.
func (w *tableWalk) bitmap(p postingPlace) (*roaring.Bitmap, error) {
	r := w.in.Run
	if p.block >= uint64(r.postings.count()) {
		return nil, w.impossible()
	}
	if block := int(p.block); w.postings != block {
		length := int(r.postings.lengths[block])
		w.postings, w.postingsDisk = -1, roomFor(w.postingsDisk, length)
		checked, err := r.readBlock(w.postingsDisk, blockPostings, r.postings.offsets[block], length)
		if err != nil {
			return nil, err
		}
		w.postings, w.bitmaps = block, checked.payload
		if err := w.m.step(length); err != nil {
			return nil, err
		}
	}
	n := uint64(len(w.bitmaps))
	if p.offset > n || p.length > n-p.offset {
		return nil, w.impossible()
	}
	bitmap, err := parseTrustedBitmap(w.bitmaps[p.offset:p.offset+p.length], r.footer.meta.Rows)
	if err != nil || bitmap.GetCardinality() != p.count {
		return nil, r.impossible(blockPostings, r.postings, w.postings)
	}
	return bitmap, nil
}

// write writes the term and empties the union. A term whose rows are all void is left out.
func (u *postingUnion) write(w *termWriter, key []byte) (err error) {
	all := u.all.GetCardinality()
	if all != u.count {
		return fmt.Errorf("a term has %d rows in bitmaps, and %d when they are united; run kiln fsck", u.count, all)
	}
	count := uint64(len(u.inline)) + all
	switch {
	case count == 0:
	case u.all.IsEmpty():
		err = w.add(key, u.inline)
	case count <= postingInlineMax:
		u.inline = append(u.inline, u.all.ToArray()...)
		slices.Sort(u.inline)
		err = w.add(key, u.inline)
	default:
		u.all.AddMany(u.inline)
		err = w.addAll(key, u.all)
	}
	u.inline = u.inline[:0]
	u.all.Clear()
	u.count = 0
	return err
}

// bloomAddBatch hashes are added to a Bloom filter together.
const bloomAddBatch = 256

// mergeFilter collects the keys of the result: their hashes for a binary fuse
// filter, or, when they may be many, a Bloom filter as it grows.
type mergeFilter struct {
	hashes []uint64 // all, or those that wait to be added
	block  []byte   // kind and Bloom filter; nil: there is none
	bloom  bloomFilter
}

func (m *merger) newFilter() *mergeFilter {
	keys := uint64(0) // an upper bound: runs share keys
	for _, in := range m.inputs {
		keys += in.Run.Keys()
	}
	fuseKeysMax := uint64(mergeFuseKeysMax)
	if m.opts.fuseKeysMax != 0 {
		fuseKeysMax = m.opts.fuseKeysMax
	}
	if keys > fuseKeysMax {
		block := append(make([]byte, 0, 1+bloomBytes(keys)), filterBloom)
		block = block[:cap(block)]
		return &mergeFilter{block: block, bloom: block[1:]}
	}
	return &mergeFilter{hashes: make([]uint64, 0, keys)}
}

func (f *mergeFilter) add(hash uint64) {
	f.hashes = append(f.hashes, hash)
	if f.block != nil && len(f.hashes) >= bloomAddBatch {
		f.flush()
	}
}

func (f *mergeFilter) flush() {
	f.bloom.addAll(f.hashes)
	f.hashes = f.hashes[:0]
}

func (f *mergeFilter) payload() []byte {
	if f.block != nil {
		f.flush()
		return f.block
	}
	return appendFilter(nil, &xorfilter.BinaryFuseBuilder{}, f.hashes)
}
