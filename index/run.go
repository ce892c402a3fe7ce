package index

import (
	"errors"
	"fmt"
	"io"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/klauspost/compress/zstd"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// Run is an open, immutable run. All methods are safe for concurrent use, and
// every block's checksum is verified on every read from disk; damage is a
// *vfs.CorruptError, never "not found".
type Run struct {
	file       vfs.File
	name       string
	publishLSN uint64
	footer     footer
	decoder    *zstd.Decoder
	ownDecoder bool
	cache      *Cache // nil: none
	space      uint64

	bodies, keys, columns, terms, postings *blockIndex

	keyMin, keyMax []byte
	filter         *filter
	live           *roaring.Bitmap
}

// OpenRun checks the footer against meta (size, hash field, counts); it does
// not read the whole file (Verify does). publishLSN stands for rows whose LSN is
// 0. cache may be nil.
func OpenRun(fs vfs.FS, dir string, meta RunMeta, publishLSN uint64, cache *Cache) (*Run, error) {
	r, err := openRun(fs, dir, meta.ID, &meta, cache)
	if err != nil {
		return nil, fmt.Errorf("cannot open run %016x: %w", uint64(meta.ID), err)
	}
	r.publishLSN = publishLSN
	return r, nil
}

// OpenRunAsItIs is OpenRun for a run of which nobody knows what it should be.
func OpenRunAsItIs(fs vfs.FS, dir string, id RunID) (*Run, error) {
	r, err := openRun(fs, dir, id, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot open run %016x: %w", uint64(id), err)
	}
	return r, nil
}

// openRun takes the footer's word when want is nil.
func openRun(fs vfs.FS, dir string, id RunID, want *RunMeta, cache *Cache) (*Run, error) {
	name := runPath(dir, id)
	file, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	r := &Run{file: file, name: name, cache: cache}
	if cache != nil {
		r.decoder, r.space = cache.decoder, cache.newSpace()
	} else {
		r.decoder, r.ownDecoder = newDecoder(0), true
	}
	if err = r.loadEnds(id, want); err == nil {
		err = r.loadSections()
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// loadEnds reads header and footer.
func (r *Run) loadEnds(id RunID, want *RunMeta) error {
	size, err := r.file.Bytes()
	if err != nil {
		return err
	}
	if want != nil && size != want.Bytes {
		return corrupt(r.name, min(size, want.Bytes), fmt.Sprintf("file has %d bytes, was sealed with %d", size, want.Bytes))
	}
	if size < headerBytes+footerBytes {
		return corrupt(r.name, size, "file is cut short")
	}
	b := make([]byte, footerBytes)
	if err := r.readAt(b[:headerBytes], 0); err != nil {
		return err
	}
	if what, newer := checkHeader(b[:headerBytes], id); newer {
		return ErrNewerFormat
	} else if what != "" {
		return corrupt(r.name, 0, what)
	}
	if err := r.readAt(b, size-footerBytes); err != nil {
		return err
	}
	f, what, newer := parseFooter(b, id, size)
	switch {
	case newer:
		return ErrNewerFormat
	case what != "":
		return corrupt(r.name, size-footerBytes, what)
	case want != nil && f.meta != *want:
		return corrupt(r.name, size-footerBytes, "footer is not the one that was sealed")
	}
	r.footer = f
	return nil
}

// loadSections reads what stays in memory.
func (r *Run) loadSections() error {
	loads := [sectionCount]struct {
		kind  blockKind
		parse func(payload []byte) bool
	}{
		sectionBodies:   {blockBodyIndex, r.parseBodyIndex},
		sectionKeys:     {blockKeyIndex, r.parseKeyIndex},
		sectionFilter:   {blockFilter, func(p []byte) (ok bool) { r.filter, ok = parseFilter(p); return ok }},
		sectionColumns:  {blockColumnIndex, r.parseColumnIndex},
		sectionDropped:  {blockDropped, r.parseDropped},
		sectionTerms:    {blockTermIndex, func(p []byte) (ok bool) { r.terms, ok = r.parseIndex(p, indexTable); return ok }},
		sectionPostings: {blockPostingIndex, func(p []byte) (ok bool) { r.postings, ok = r.parseIndex(p, indexPlain); return ok }},
	}
	for i, load := range loads {
		s := r.footer.sections[i]
		checked, err := r.readBlock(nil, load.kind, s.offset, int(s.bytes))
		if err != nil {
			return err
		}
		if !load.parse(checked.payload) {
			return corrupt(r.name, s.offset, load.kind.String()+" block has impossible contents")
		}
	}
	return nil
}

func (r *Run) parseIndex(payload []byte, shape indexShape) (*blockIndex, bool) {
	return parseBlockIndex(&byteReader{b: payload}, shape, r.footer.meta.Bytes-footerBytes)
}

func (r *Run) parseBodyIndex(payload []byte) (ok bool) {
	r.bodies, ok = r.parseIndex(payload, indexBodies)
	return ok && r.bodies.first[r.bodies.count()] == r.footer.meta.Rows
}

func (r *Run) parseKeyIndex(payload []byte) (ok bool) {
	b := byteReader{b: payload}
	r.keyMin = b.take(b.uvarint())
	r.keyMax = b.take(b.uvarint())
	if b.bad {
		return false
	}
	r.keys, ok = parseBlockIndex(&b, indexTable, r.footer.meta.Bytes-footerBytes)
	return ok
}

func (r *Run) parseColumnIndex(payload []byte) (ok bool) {
	r.columns, ok = r.parseIndex(payload, indexPlain)
	return ok && r.columns.count() == (int(r.footer.meta.Rows)+columnBlockRows-1)/columnBlockRows
}

func (r *Run) parseDropped(payload []byte) bool {
	dropped, err := ParseBitmap(payload, r.footer.meta.Rows)
	if err != nil {
		return false
	}
	r.live = roaring.New()
	r.live.AddRange(0, uint64(r.footer.meta.Rows))
	r.live.AndNot(dropped)
	return r.live.GetCardinality() == uint64(r.footer.meta.Live)
}

// Meta describes the run, as Seal did.
func (r *Run) Meta() RunMeta { return r.footer.meta }

// HasFieldTerms tells whether the run's terms of R4's fields are those of
// ExtractionVersion.
func (r *Run) HasFieldTerms() bool { return r.extractedBy(extractionFields) }

// HasContainedTerms tells whether the run has the terms of ParamContained.
func (r *Run) HasContainedTerms() bool { return r.extractedBy(extractionContained) }

// extractedBy tells whether rules from a version on made the terms. What a newer
// program made is not known here.
func (r *Run) extractedBy(oldest uint32) bool {
	return r.footer.extraction >= oldest && r.footer.extraction <= ExtractionVersion
}

// Extraction is the ExtractionVersion that made the run's terms. Only a run of
// this program's own version answers a search: in another one terms may be
// missing. 0 is a merge of several.
func (r *Run) Extraction() uint32 { return r.footer.extraction }

// Custom is how many of the fields that were added at run time have their terms
// in the run: so many from search.FieldCustomMin on.
func (r *Run) Custom() int { return int(r.footer.custom) }

// Keys counts the distinct keys of live rows.
func (r *Run) Keys() uint64 { return r.footer.keys }

// Live is the set of ordinals that were not dropped. Shared: do not modify.
func (r *Run) Live() *roaring.Bitmap { return r.live }

// MemoryBytes is what the open run holds in memory, without cached blocks.
func (r *Run) MemoryBytes() int64 {
	total := int64(0)
	for _, x := range []*blockIndex{r.bodies, r.keys, r.columns, r.terms, r.postings} {
		total += x.memoryBytes()
	}
	if r.filter != nil {
		total += int64(len(r.filter.fuse.Fingerprints) + len(r.filter.bloom))
	}
	return total + int64(r.live.GetSizeInBytes())
}

// Close closes the file and forgets the cached blocks. Slices that Body gave stay valid.
func (r *Run) Close() error {
	if r.ownDecoder {
		r.decoder.Close()
	}
	if r.cache != nil {
		r.cache.drop(r.space)
	}
	if err := r.file.Close(); err != nil {
		return fmt.Errorf("cannot close run %q: %w", r.name, err)
	}
	return nil
}

// SealedUnder tells the key that the file is encrypted under; false: it is plain.
func (r *Run) SealedUnder() (sealed.KeyID, bool) { return sealed.KeyOf(r.file) }

// readAt fills b; a file that ends before is damaged.
func (r *Run) readAt(b []byte, offset int64) error {
	n, err := r.file.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt(r.name, offset+int64(n), "file is cut short")
	}
	return fmt.Errorf("cannot read run %q at offset %d: %w", r.name, offset, err)
}

// readBlock reads and checks one block, into dst's room if it suffices.
func (r *Run) readBlock(dst []byte, kind blockKind, offset int64, length int) (checkedBlock, error) {
	if cap(dst) < length {
		dst = make([]byte, length)
	}
	dst = dst[:length]
	if err := r.readAt(dst, offset); err != nil {
		return checkedBlock{}, err
	}
	checked, what := checkBlock(dst, r.footer.meta.ID, offset, kind)
	if what != "" {
		return checkedBlock{}, corrupt(r.name, offset, what)
	}
	return checked, nil
}

// block gives the i-th block of a kind, through the cache.
func (r *Run) block(kind blockKind, index *blockIndex, i int) (*cachedBlock, error) {
	offset := index.offsets[i]
	k := cacheKey{space: r.space, offset: offset}
	if r.cache != nil {
		if b := r.cache.get(k); b != nil {
			return b, nil
		}
	}
	checked, err := r.readBlock(nil, kind, offset, int(index.lengths[i]))
	if err != nil {
		return nil, err
	}
	b := &cachedBlock{payload: checked.payload}
	if kind == blockBodies {
		if err := r.decodeBodies(b, checked, i); err != nil {
			return nil, err
		}
	}
	if r.cache != nil {
		r.cache.put(k, b)
	}
	return b, nil
}

// decodeBodies decodes body block i into b, with new memory of just its size.
func (r *Run) decodeBodies(b *cachedBlock, checked checkedBlock, i int) error {
	var room []byte
	if checked.codec != codecNone {
		room = make([]byte, 0, checked.rawBytes)
	}
	raw, err := decodeBlock(r.decoder, &room, checked)
	if err != nil {
		return corrupt(r.name, r.bodies.offsets[i], err.Error())
	}
	return r.parseBodies(b, raw, i)
}

func (r *Run) parseBodies(b *cachedBlock, raw []byte, i int) error {
	entries, ok := parseBodyEntries(b.entries, raw)
	if !ok || len(entries) != int(r.bodies.first[i+1]-r.bodies.first[i]) {
		return r.impossible(blockBodies, r.bodies, i)
	}
	b.payload, b.entries = raw, entries
	return nil
}

func (r *Run) impossible(kind blockKind, index *blockIndex, i int) error {
	return corrupt(r.name, index.offsets[i], kind.String()+" block has impossible contents")
}
