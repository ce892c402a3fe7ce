package index

import (
	"cmp"
	"encoding/binary"
	"fmt"

	"kiln/fhir"
	"kiln/internal/vfs"
)

// BuilderOptions are explicit.
type BuilderOptions struct {
	FS  vfs.FS
	Dir string // runs are made here as "%016x.run.tmp" and renamed by Seal
	ID  RunID
	// Pool lends the builder its memory until Seal or Abort; nil: new memory.
	Pool *BuilderPool
	// Extraction makes the terms that the builder is given; nil: that of R4's
	// fields. The run tells by which fields its terms were made.
	Extraction *Extraction
	// BlockBytes is the raw size at which a body block is closed; 0: 120 KiB.
	BlockBytes int
}

// Builder writes one run, front to back. Not safe for concurrent use. Steps:
// (AddTerm* Append)*, then SortKeys, KeyCursor, SetRow or Drop for every ordinal,
// then Seal. Its memory is about MemoryBytes: bodies go to disk as they come.
// After an error of Append, Body or Seal only Abort is left.
type Builder struct {
	fs   vfs.FS
	dir  string
	id   RunID
	name string   // the file's name now
	file vfs.File // nil after Seal and Abort
	pool *BuilderPool
	*builderMemory

	extraction *Extraction
	blockBytes int
	out        *fileWriter
	bodies     blockIndex
	bodyBytes  int64
	keys       []byte // every key, one behind the other; not lent, as cursors give slices of it away
	sorted     bool
}

// NewBuilder creates the temporary file.
func NewBuilder(opts BuilderOptions) (*Builder, error) {
	if opts.Extraction == nil {
		var err error
		if opts.Extraction, err = LoadExtraction(); err != nil {
			return nil, err
		}
	}
	name := tempPath(opts.Dir, opts.ID)
	file, err := opts.FS.Create(name)
	if err != nil {
		return nil, fmt.Errorf("cannot create run %q: %w", name, err)
	}
	b := &Builder{
		fs: opts.FS, dir: opts.Dir, id: opts.ID, name: name, file: file, pool: opts.Pool,
		builderMemory: opts.Pool.get(), extraction: opts.Extraction, blockBytes: cmp.Or(opts.BlockBytes, bodyBlockBytes),
	}
	b.out = newFileWriter(file, name, opts.ID, b.writeBuffer)
	b.out.buf = appendHeader(b.out.buf, opts.ID)
	return b, nil
}

// ID is the run's id.
func (b *Builder) ID() RunID { return b.id }

// Extraction is what the terms are to be made by.
func (b *Builder) Extraction() *Extraction { return b.extraction }

// AddTerm adds a term of the version whose Append comes next. value is copied;
// a value given twice for one version counts once.
func (b *Builder) AddTerm(p Param, value []byte) {
	if p < paramGivenMin {
		panic(fmt.Sprintf("BUG: parameter %d is the builder's own", p))
	}
	b.terms.add(p, value)
}

// DiscardTerms forgets the terms added since the last Append (the line was refused).
func (b *Builder) DiscardTerms() { b.terms.discard() }

// Append adds one version's body. idAt is the offset of the id's text inside
// body. Errors: ErrBodyTooLarge and ErrFull, which leave the builder as it was
// but for the pending terms; any other error ends it.
func (b *Builder) Append(t fhir.TypeCode, id []byte, idAt uint32, body []byte, sp fhir.Splice) (Ordinal, error) {
	if b.sorted {
		panic("BUG: Append after SortKeys")
	}
	if err := b.roomFor(id, idAt, body, sp); err != nil {
		b.terms.discard()
		return 0, err
	}
	if len(b.open) > 0 && len(b.open)+len(body) > b.blockBytes {
		if err := b.closeBlock(); err != nil {
			return 0, err
		}
	}
	o := Ordinal(len(b.keyEnds))
	b.openEntries = append(b.openEntries, bodyEntry{
		off: uint32(len(b.open)), length: uint32(len(body)), idAt: idAt, idLen: uint32(len(id)), splice: sp,
	})
	b.open = append(b.open, body...)
	b.bodyBytes += int64(len(body))
	b.keys = AppendKey(withRoom(b.keys, 4+2*len(id)), t, id)
	b.keyEnds = append(withRoom(b.keyEnds, 1), uint32(len(b.keys)))
	b.terms.commit(uint32(o))
	return o, nil
}

func (b *Builder) roomFor(id []byte, idAt uint32, body []byte, sp fhir.Splice) error {
	idEnd := int64(idAt) + int64(len(id))
	if idEnd > int64(len(body)) || int64(sp.At) > int64(len(body)) || string(body[idAt:idEnd]) != string(id) {
		panic("BUG: the id or the splice is not where it was said to be in the body")
	}
	switch {
	case len(body) > BodyBytesMax:
		return ErrBodyTooLarge
	case len(b.keyEnds) >= RowsMax, len(b.keys) > arenaBytesMax, b.terms.full():
		return ErrFull
	}
	return b.out.err
}

// closeBlock writes the open block.
func (b *Builder) closeBlock() error {
	n := len(b.openEntries)
	if n == 0 {
		return nil
	}
	raw := appendBodyEntries(b.open, b.openEntries)
	offset, length, err := b.out.compressed(blockBodies, b.enc, raw)
	if err != nil {
		return err
	}
	b.bodies.addRows(offset, length, n)
	b.open, b.openEntries = trimmed(raw), b.openEntries[:0]
	return nil
}

// Rows counts the ordinals so far, BodyBytes the bytes of their bodies.
func (b *Builder) Rows() int        { return len(b.keyEnds) }
func (b *Builder) BodyBytes() int64 { return b.bodyBytes }

// MemoryBytes is what the builder holds in memory, and will hold while it
// sorts and seals.
func (b *Builder) MemoryBytes() int64 {
	const fixed = 4 << 20 // encoder, and the blocks that are open or read back
	held := int64(cap(b.keys)) + b.bodies.memoryBytes() + int64(cap(b.out.buf)) + b.memoryBytes() + fixed
	rows, terms := int64(len(b.keyEnds)), int64(len(b.terms.recs))
	sealing := rows*(rowBytes+filterBuildBytes) + (rows+2*max(rows, terms))*sortItemBytes
	return held + sealing
}

// Body reads back an appended body (from the open block or from disk), for
// content comparison while resolving. The slices hold until the next call of
// any method of b. Ascending ordinals decode each block once.
func (b *Builder) Body(o Ordinal) (Stored, error) {
	if int(o) >= len(b.keyEnds) {
		panic(fmt.Sprintf("BUG: ordinal %d of %d", o, len(b.keyEnds)))
	}
	closed := uint32(0)
	if n := b.bodies.count(); n > 0 {
		closed = b.bodies.first[n]
	}
	if uint32(o) >= closed {
		return b.openEntries[uint32(o)-closed].stored(b.open), nil
	}
	block := b.bodies.blockOf(o)
	if err := b.loadBack(block); err != nil {
		return Stored{}, err
	}
	return b.readBack.entries[uint32(o)-b.bodies.first[block]].stored(b.readBack.raw), nil
}

func (b *Builder) loadBack(block int) error {
	r := &b.readBack
	if r.block == block+1 {
		return nil
	}
	r.block = 0
	offset, length := b.bodies.offsets[block], int(b.bodies.lengths[block])
	disk, err := b.out.read(r.disk, offset, length)
	if err != nil {
		return err
	}
	if offset < b.out.base {
		r.disk = disk
	}
	checked, what := checkBlock(disk, b.id, offset, blockBodies)
	if what != "" {
		return corrupt(b.out.name, offset, what)
	}
	raw, err := decodeBlock(b.dec, &r.room, checked)
	if err != nil {
		return corrupt(b.out.name, offset, err.Error())
	}
	if checked.codec == codecNone { // keep nothing of the write buffer
		r.room = append(r.room[:0], raw...)
		raw = r.room
	}
	r.raw = raw
	n := int(b.bodies.first[block+1] - b.bodies.first[block])
	entries, ok := parseBodyEntries(r.entries, r.raw)
	r.entries = entries
	if !ok || len(entries) != n {
		return corrupt(b.out.name, offset, "bodies block has impossible contents")
	}
	r.block = block + 1
	return nil
}

// Abort removes the unfinished file. After Seal it does nothing.
func (b *Builder) Abort() error {
	if b.file == nil {
		return nil
	}
	closeErr := b.release()
	if err := b.fs.Remove(b.name); err != nil {
		return fmt.Errorf("cannot remove run %q: %w", b.name, err)
	}
	return closeErr
}

// release closes the file and gives the memory back.
func (b *Builder) release() error {
	err := b.file.Close()
	if err != nil {
		err = fmt.Errorf("cannot close run %q: %w", b.name, err)
	}
	b.writeBuffer = b.out.buf
	b.pool.put(b.builderMemory)
	*b = Builder{fs: b.fs, dir: b.dir, id: b.id, name: b.name, out: &fileWriter{name: b.name}, builderMemory: &builderMemory{terms: &termSet{}}, sorted: true}
	return err
}

func (b *Builder) key(o uint32) []byte {
	start := uint32(0)
	if o > 0 {
		start = b.keyEnds[o-1]
	}
	end := b.keyEnds[o]
	return b.keys[start:end:end]
}

func (b *Builder) typeOf(o uint32) fhir.TypeCode {
	return fhir.TypeCode(binary.BigEndian.Uint16(b.key(o)))
}
