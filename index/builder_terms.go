package index

import (
	"bytes"
	"context"
	"encoding/binary"

	"github.com/RoaringBitmap/roaring/v2"
)

// termWriter writes the term table and the posting blocks, which lie between
// each other in the file.
type termWriter struct {
	table    tableWriter
	bitmap   *roaring.Bitmap
	postings bytes.Buffer // open posting block
	index    blockIndex   // of the posting blocks
	key      []byte
}

func newTermWriter(out *fileWriter) *termWriter {
	return &termWriter{table: tableWriter{out: out, kind: blockTerms}, bitmap: roaring.New()}
}

// add writes a term; keys and ordinals ascend, and there is at least one.
func (w *termWriter) add(key []byte, ordinals []uint32) error {
	if err := w.table.add(key); err != nil {
		return err
	}
	buf := &w.table.block.buf
	if len(ordinals) <= postingInlineMax {
		*buf = appendInline(*buf, ordinals)
		return nil
	}
	place, err := w.addBitmap(ordinals)
	*buf = appendPlace(*buf, place)
	return err
}

// addAll is add for more than postingInlineMax ordinals as a bitmap, which it may
// change.
func (w *termWriter) addAll(key []byte, ordinals *roaring.Bitmap) error {
	if err := w.table.add(key); err != nil {
		return err
	}
	place, err := w.place(ordinals)
	w.table.block.buf = appendPlace(w.table.block.buf, place)
	return err
}

func (w *termWriter) addBitmap(ordinals []uint32) (postingPlace, error) {
	w.bitmap.Clear()
	w.bitmap.AddMany(ordinals)
	return w.place(w.bitmap)
}

// place appends a bitmap to the open posting block.
func (w *termWriter) place(bitmap *roaring.Bitmap) (postingPlace, error) {
	bitmap.RunOptimize()
	place := postingPlace{count: bitmap.GetCardinality(), block: uint64(w.index.count()), offset: uint64(w.postings.Len())}
	n, err := bitmap.WriteTo(&w.postings)
	if err != nil {
		return place, err
	}
	place.length = uint64(n)
	if w.postings.Len() >= postingBlockBytes {
		err = w.closePostings()
	}
	return place, err
}

func (w *termWriter) closePostings() error {
	if w.postings.Len() == 0 {
		return nil
	}
	offset, length, err := w.table.out.block(blockPostings, w.postings.Bytes())
	if err != nil {
		return err
	}
	w.index.add(offset, length)
	w.postings.Reset()
	return nil
}

func (w *termWriter) close() error {
	if err := w.table.closeBlock(); err != nil {
		return err
	}
	return w.closePostings()
}

// writeTerms writes all terms of the live rows: the builder's own first, since
// their parameters are the lowest.
func (b *Builder) writeTerms(ctx context.Context, w *termWriter, live []uint32) error {
	if len(live) > 0 {
		if err := b.writeLastUpdated(w, live); err != nil {
			return err
		}
		if err := b.writeTypes(w, live); err != nil {
			return err
		}
		if err := b.writeDeleted(w, live); err != nil {
			return err
		}
	}
	return b.writeGiven(ctx, w, b.withoutDropped)
}

func (b *Builder) writeLastUpdated(w *termWriter, live []uint32) error {
	items := b.sortRoom(len(live))
	for i, o := range live {
		items[i] = sortItem{prefix: uint64(b.rows.milli[o]) ^ (1 << 63), id: o}
	}
	radixSort(items, b.sorter.room(len(items)))
	return b.writeGroups(w, ParamLastUpdated, items, func(dst []byte, prefix uint64) []byte {
		return binary.BigEndian.AppendUint64(dst, prefix)
	})
}

func (b *Builder) writeTypes(w *termWriter, live []uint32) error {
	items := b.sortRoom(len(live))
	for i, o := range live {
		items[i] = sortItem{prefix: uint64(b.typeOf(o)), id: o}
	}
	radixSort(items, b.sorter.room(len(items)))
	return b.writeGroups(w, ParamType, items, func(dst []byte, prefix uint64) []byte {
		return binary.BigEndian.AppendUint16(dst, uint16(prefix))
	})
}

// writeGroups writes one term for the items of each prefix.
func (b *Builder) writeGroups(w *termWriter, p Param, items []sortItem, appendValue func([]byte, uint64) []byte) error {
	var ordinals []uint32
	for start := 0; start < len(items); {
		prefix := items[start].prefix
		ordinals = ordinals[:0]
		for start < len(items) && items[start].prefix == prefix {
			ordinals = append(ordinals, items[start].id)
			start++
		}
		w.key = appendValue(appendTermKey(w.key[:0], p, nil), prefix)
		if err := w.add(w.key, ordinals); err != nil {
			return err
		}
	}
	return nil
}

func (b *Builder) writeDeleted(w *termWriter, live []uint32) error {
	var ordinals []uint32
	for _, o := range live {
		if b.rows.flags[o]&FlagDeleted != 0 {
			ordinals = append(ordinals, o)
		}
	}
	if len(ordinals) == 0 {
		return nil
	}
	w.key = appendTermKey(w.key[:0], ParamDeleted, nil)
	return w.add(w.key, ordinals)
}

// termsPerCheck is how many terms are fetched ahead together, between looks at
// the context.
const termsPerCheck = 1 << 8

// writeGiven writes the collected terms of the rows that kept leaves of a list,
// in which it may move them.
func (b *builderMemory) writeGiven(ctx context.Context, w *termWriter, kept func([]uint32) []uint32) error {
	var ordinals []uint32
	items := b.sortedTerms()
	for i, item := range items {
		if i%termsPerCheck == 0 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.terms.touchRecords(items[i:min(i+termsPerCheck, len(items))])
		}
		ordinals = kept(b.terms.ordinals(ordinals[:0], &b.terms.recs[item.id]))
		if len(ordinals) == 0 {
			continue
		}
		if err := w.add(b.terms.termKey(item.id), ordinals); err != nil {
			return err
		}
	}
	return nil
}

// sortedTerms gives the records that some version has, in key order.
func (b *builderMemory) sortedTerms() []sortItem {
	recs := b.terms.recs
	items := b.sortRoom(len(recs))[:0]
	for i := range recs {
		items = append(items, sortItem{id: uint32(i)})
	}
	b.sorter.key = b.terms.termKey
	b.sorter.sort(items)
	return items
}

func (b *Builder) withoutDropped(ordinals []uint32) []uint32 {
	kept := ordinals[:0]
	for _, o := range ordinals {
		if b.rows.state[o] != rowDropped {
			kept = append(kept, o)
		}
	}
	return kept
}
