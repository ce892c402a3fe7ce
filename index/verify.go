package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cespare/xxhash/v2"

	"kiln/internal/vfs"
)

// verifyCacheBytes holds the column and posting blocks that a check comes back to.
const verifyCacheBytes = 32 << 20

// Verify reads every byte of a run file and checks everything that can be
// checked; it calls report for each problem and goes on. The error is for what
// kept it from checking: the file is not there, cannot be read, is of a newer
// format, or ctx ended.
func Verify(ctx context.Context, fs vfs.FS, dir string, id RunID, report func(*vfs.CorruptError)) error {
	r, err := openRun(fs, dir, id, nil, NewCache(verifyCacheBytes))
	if err != nil {
		return reportOr(report, err)
	}
	v := &verifier{ctx: ctx, r: r, report: report, keysOf: newRowSums(r.footer.meta.Rows), seen: roaring.New()}
	for _, check := range []func() error{v.hash, v.tiling, v.bodies, v.keys, v.rows, v.terms} {
		if err = v.step(check()); err != nil {
			break
		}
	}
	return errors.Join(err, r.Close())
}

// reportOr reports damage and returns every other error.
func reportOr(report func(*vfs.CorruptError), err error) error {
	var damage *vfs.CorruptError
	if errors.As(err, &damage) {
		report(damage)
		return nil
	}
	return err
}

type verifier struct {
	ctx     context.Context
	r       *Run
	report  func(*vfs.CorruptError)
	keysOf  *rowSums        // of each row the key by its body, less the one that leads to it
	damaged bool            // some row could not be read: counts prove nothing
	seen    *roaring.Bitmap // rows that some key leads to
	places  postingPlace    // where the next bitmap should begin
}

// step reports damage, so that the check goes on, and returns other errors.
func (v *verifier) step(err error) error {
	if err != nil {
		v.damaged = true
		err = reportOr(v.report, err)
	}
	return errors.Join(err, v.ctx.Err())
}

// wrong reports what no reader would trip over.
func (v *verifier) wrong(offset int64, format string, args ...any) {
	v.report(&vfs.CorruptError{File: v.r.name, Offset: offset, What: fmt.Sprintf(format, args...)})
}

// hash compares the whole file with its footer's hash.
func (v *verifier) hash() error {
	end := v.r.footer.meta.Bytes - footerBytes + footerHashAt
	digest, buf := xxhash.New(), make([]byte, scanReadBytes)
	for at := int64(0); at < end; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), end-at)]
		if err := errors.Join(v.ctx.Err(), v.r.readAt(buf, at)); err != nil {
			return err
		}
		_, _ = digest.Write(buf)
	}
	if digest.Sum64() != v.r.footer.meta.Hash {
		v.wrong(0, "file has another hash than its footer says")
	}
	return nil
}

// tiling checks that the blocks fill the file without gap or overlap.
func (v *verifier) tiling() error {
	spans := make([]section, 0, 64)
	for _, x := range []*blockIndex{v.r.bodies, v.r.keys, v.r.columns, v.r.terms, v.r.postings} {
		for i, offset := range x.offsets {
			spans = append(spans, section{offset, int64(x.lengths[i])})
		}
	}
	spans = append(spans, v.r.footer.sections[:]...)
	slices.SortFunc(spans, func(a, b section) int { return int(a.offset - b.offset) })
	end := int64(headerBytes)
	for _, s := range spans {
		if s.offset != end {
			v.wrong(end, "a block begins at offset %d, where another ends at %d", s.offset, end)
		}
		end = s.offset + s.bytes
	}
	if end != v.r.footer.meta.Bytes-footerBytes {
		v.wrong(end, "the last block does not end at the footer")
	}
	return nil
}

// bodies reads every body block and notes the hash of each live row's key.
func (v *verifier) bodies() error {
	r, total := v.r, int64(0)
	var b cachedBlock
	for i := range r.bodies.count() {
		checked, err := r.readBlock(nil, blockBodies, r.bodies.offsets[i], int(r.bodies.lengths[i]))
		if err == nil {
			err = r.decodeBodies(&b, checked, i)
		}
		if err == nil {
			for j := range b.entries {
				total += int64(b.entries[j].length)
				err = errors.Join(err, v.noteKey(Ordinal(int(r.bodies.first[i])+j), b.entries[j].stored(b.payload)))
			}
		}
		if err = v.step(err); err != nil {
			return err
		}
	}
	if !v.damaged && total != r.footer.meta.BodyBytesRaw {
		v.wrong(r.footer.meta.Bytes-footerBytes, "bodies have %d bytes, the footer says %d", total, r.footer.meta.BodyBytesRaw)
	}
	return nil
}

func (v *verifier) noteKey(o Ordinal, s Stored) error {
	if !v.r.live.Contains(uint32(o)) {
		return nil
	}
	row, err := v.r.Row(o)
	if err == nil {
		v.keysOf.add(uint32(o), KeyHash(AppendKey(nil, row.Type, s.ID)))
	}
	return err
}

// keys reads the key table: order, separators, and that each entry is a live
// row of that key and version, each once.
func (v *verifier) keys() error {
	r := v.r
	var last []byte
	var lastVersion int64
	distinct, entries := uint64(0), uint64(0)
	for i := range r.keys.count() {
		err := v.table(blockKeys, r.keys, i, last, skipKeyPayload, func(key, payload []byte) error {
			f, ok := parseKeyPayload(payload, r.footer.meta.Rows)
			order := bytes.Compare(last, key)
			if !ok || order > 0 || order == 0 && (entries == 0 || f.VersionID >= lastVersion) {
				return r.impossible(blockKeys, r.keys, i)
			}
			if order < 0 {
				distinct++
			}
			entries++
			last, lastVersion = append(last[:0], key...), f.VersionID
			return v.keyEntry(i, key, f)
		})
		if err = v.step(err); err != nil {
			return err
		}
	}
	if v.damaged {
		return nil
	}
	v.keysOf.each(func(from, to uint32) {
		v.wrong(r.footer.sections[sectionKeys].offset, "the keys that lead to rows %d to %d are not those of their bodies", from, to)
	})
	if distinct != r.footer.keys || entries != uint64(r.footer.meta.Live) || !bytes.Equal(last, r.keyMax) {
		v.wrong(r.footer.sections[sectionKeys].offset, "%d keys of %d rows, the footer says %d of %d", distinct, entries, r.footer.keys, r.footer.meta.Live)
	}
	return nil
}

func (v *verifier) keyEntry(block int, key []byte, f Found) error {
	r, at := v.r, v.r.keys.offsets[block]
	hash := KeyHash(key)
	if !r.live.Contains(uint32(f.Ordinal)) || !v.seen.CheckedAdd(uint32(f.Ordinal)) {
		v.wrong(at, "key %x leads to row %d, which is dropped or has another key", key, f.Ordinal)
		return nil
	}
	v.keysOf.take(uint32(f.Ordinal), hash)
	if !r.filter.mayContain(hash) {
		v.wrong(r.footer.sections[sectionFilter].offset, "the filter denies key %x", key)
	}
	row, err := r.Row(f.Ordinal)
	if err == nil && row.VersionID != f.VersionID {
		v.wrong(at, "key %x has version %d at row %d, whose column says %d", key, f.VersionID, f.Ordinal, row.VersionID)
	}
	return err
}

// table reads block i of a table and calls fn for each entry. Its first key
// and the last key of the block before are on their sides of the separator.
func (v *verifier) table(kind blockKind, index *blockIndex, i int, last []byte, skip func([]byte) int, fn func(key, payload []byte) error) error {
	b, err := v.r.block(kind, index, i)
	if err != nil {
		return err
	}
	var c tableCursor
	ok := c.open(b.payload, skip) && c.next()
	sep := index.separator(i)
	if !ok || bytes.Compare(sep, c.key) > 0 || i > 0 && !v.damaged && bytes.Compare(last, sep) >= 0 && !bytes.Equal(last, c.key) {
		return v.r.impossible(kind, index, i)
	}
	for ; ok; ok = c.next() {
		if err := fn(c.key, c.payload); err != nil {
			return err
		}
	}
	if c.bad {
		return v.r.impossible(kind, index, i)
	}
	for j := range len(c.restarts) / 2 { // lookups enter at restarts, walks do not
		key, ok := c.restartKey(j)
		if !ok || !c.seekGE(key) || !bytes.Equal(c.key, key) {
			return v.r.impossible(kind, index, i)
		}
	}
	return nil
}

// rows reads every column block and compares the range of lastUpdated.
func (v *verifier) rows() error {
	lowest, highest, n := int64(0), int64(0), 0
	for it := v.r.live.Iterator(); it.HasNext(); n++ {
		row, err := v.r.Row(Ordinal(it.Next()))
		if err != nil {
			return err
		}
		if milli := row.LastUpdated.Milli; n == 0 {
			lowest, highest = milli, milli
		} else {
			lowest, highest = min(lowest, milli), max(highest, milli)
		}
	}
	if lowest != v.r.footer.meta.MilliMin || highest != v.r.footer.meta.MilliMax {
		v.wrong(v.r.footer.meta.Bytes-footerBytes, "rows are dated %d to %d, the footer says %d to %d", lowest, highest, v.r.footer.meta.MilliMin, v.r.footer.meta.MilliMax)
	}
	return nil
}

// terms reads the term table and all postings, and holds the builder's own
// terms against the columns.
func (v *verifier) terms() error {
	r := v.r
	var last []byte
	count, own := uint64(0), [paramGivenMin]uint64{}
	for i := range r.terms.count() {
		err := v.table(blockTerms, r.terms, i, last, skipPosting, func(key, payload []byte) error {
			if len(key) < 2 || len(key) > 2+TermBytesMax || bytes.Compare(last, key) >= 0 {
				return r.impossible(blockTerms, r.terms, i)
			}
			last = append(last[:0], key...)
			count++
			bm, err := v.postings(i, payload)
			if err != nil {
				return err
			}
			if p := binary.BigEndian.Uint16(key); p < uint16(paramGivenMin) {
				own[p] += bm.GetCardinality()
				return v.ownTerm(i, Param(p), key[2:], bm)
			}
			return nil
		})
		if err = v.step(err); err != nil {
			return err
		}
	}
	live := uint64(r.footer.meta.Live)
	if !v.damaged && (count != r.footer.terms || own[ParamLastUpdated] != live || own[ParamType] != live) {
		v.wrong(r.footer.sections[sectionTerms].offset, "%d terms, the footer says %d; or a row misses its own terms", count, r.footer.terms)
	}
	return v.postingsEnd()
}

// postings reads a term's postings, whose ordinals are live and whose bitmap
// follows the one before.
func (v *verifier) postings(block int, payload []byte) (*roaring.Bitmap, error) {
	bm, err := v.r.postingBitmap(payload, block)
	if err != nil {
		return nil, err
	}
	if extra := roaring.AndNot(bm, v.r.live); !extra.IsEmpty() || bm.IsEmpty() {
		v.wrong(v.r.terms.offsets[block], "a term has dropped rows, or none")
	}
	if p, _ := parsePosting(nil, payload, v.r.footer.meta.Rows); p.ordinals == nil {
		if p.place.block == v.places.block+1 {
			if err := v.postingsEnd(); err != nil {
				return nil, err
			}
			v.places = postingPlace{block: p.place.block}
		}
		if p.place.block != v.places.block || p.place.offset != v.places.offset {
			v.wrong(v.r.terms.offsets[block], "a bitmap does not follow the one before")
		}
		v.places.offset = p.place.offset + p.place.length
	}
	return bm, nil
}

// postingsEnd checks that the bitmaps filled their block.
func (v *verifier) postingsEnd() error {
	if v.damaged || v.r.postings.count() == 0 {
		return nil
	}
	i := int(v.places.block)
	b, err := v.r.block(blockPostings, v.r.postings, i)
	if err == nil && uint64(len(b.payload)) != v.places.offset {
		v.wrong(v.r.postings.offsets[i], "the block has bytes that no term names")
	}
	return err
}

// ownTerm holds a term of the builder's own against the columns.
func (v *verifier) ownTerm(block int, p Param, value []byte, bm *roaring.Bitmap) error {
	for it := bm.Iterator(); it.HasNext(); {
		o := Ordinal(it.Next())
		row, err := v.r.Row(o)
		if err != nil {
			return err
		}
		var want []byte
		switch p {
		case ParamLastUpdated:
			want = AppendMilli(nil, row.LastUpdated.Milli)
		case ParamType:
			want = binary.BigEndian.AppendUint16(nil, uint16(row.Type))
		case ParamDeleted:
			if row.Flags&FlagDeleted == 0 {
				v.wrong(v.r.terms.offsets[block], "row %d counts as deleted and is not", o)
			}
		}
		if !bytes.Equal(want, value) {
			v.wrong(v.r.terms.offsets[block], "row %d has a term of another row: parameter %d, value %x", o, p, value)
		}
	}
	return nil
}
