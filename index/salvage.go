package index

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/internal/vfs"
)

// SalvageOptions are explicit.
type SalvageOptions struct {
	FS  vfs.FS
	Dir string // of the damaged run
	ID  RunID
	// Meta is what others know of the run; nil: nobody does, and its footer or its
	// indexes must tell how many rows there are.
	Meta *RunMeta
	// Out is where runs are written, under ids that NewID gives: more than one, when
	// one would take over MemoryBytes to build.
	Out         string
	NewID       func() RunID
	MemoryBytes int64 // 0: salvageMemoryBytes
	Extraction  *Extraction
	Pool        *BuilderPool
	// Void rows are left out, Superseded ones are told of again; by ordinal, or nil.
	Void, Superseded *roaring.Bitmap
	// OwnLSN says that rows have LSNs of their own. Where those are not known rows get
	// one of a neighbour, or FloorLSN.
	OwnLSN   bool
	FloorLSN uint64
	// Lost is told of each version whose content is not there any more, Doubt of what
	// may not be as it was.
	Lost  func(LostVersion)
	Doubt func(Doubtful)
}

// LostVersion is a version without its content. Of one that is known the key and
// the number are; of others only the row.
type LostVersion struct {
	Ordinal   Ordinal
	Known     bool
	Type      fhir.TypeCode
	ID        []byte
	VersionID int64
}

// Doubtful is a version of which something is not as it was.
type Doubtful struct {
	Type      fhir.TypeCode
	ID        []byte
	VersionID int64
	What      string
}

// SalvagedRun is a sealed run with what a damaged one still had.
type SalvagedRun struct {
	Meta       RunMeta
	Superseded *roaring.Bitmap // by the new ordinals
}

// salvageMemoryBytes is when a run that is being built is sealed.
const salvageMemoryBytes = 256 << 20

// Salvage writes runs with every version that a damaged run still has, in its order.
// Blocks are found by their own frames, so that nothing else must be whole: what
// lies in damaged blocks of keys, columns or terms is made again from the others.
// A version whose content is lost stays as a row with FlagLost, when key and
// number are known. The damaged file is not changed. After an error no run is left.
func Salvage(ctx context.Context, opts SalvageOptions) ([]SalvagedRun, error) {
	if opts.MemoryBytes == 0 {
		opts.MemoryBytes = salvageMemoryBytes
	}
	s := &salvage{ctx: ctx, opts: opts, known: map[uint32]knownRow{}}
	err := s.open()
	if err == nil {
		err = s.all()
	}
	if err = errors.Join(err, s.close(err != nil)); err != nil {
		return nil, fmt.Errorf("cannot salvage run %016x: %w", uint64(opts.ID), err)
	}
	return s.out, nil
}

// salvage is one Salvage.
type salvage struct {
	ctx  context.Context
	opts SalvageOptions
	// r has the file, and as much of what an open run has as is found.
	r      *Run
	bytes  int64
	blocks [blockKinds][]placedBlock // that check out, by offset
	gaps   []section                 // between them
	bodies []bodySpan
	// columns are the places of the column blocks; 0: lost.
	columns []section
	live    *roaring.Bitmap // nil: not known
	needs   *roaring.Bitmap // rows of which columns or body are lost
	known   map[uint32]knownRow
	builder *salvageBuilder
	out     []SalvagedRun
}

// bodySpan is rows whose bodies lie in one block, or are lost.
type bodySpan struct {
	first, rows uint32
	block       section // of no bytes: lost
}

// knownRow is what the key table and the store's own terms say of a row.
type knownRow struct {
	typ     fhir.TypeCode
	id      []byte
	version int64
	milli   int64
	dated   bool
	deleted bool
}

func (s *salvage) open() error {
	name := runPath(s.opts.Dir, s.opts.ID)
	file, err := s.opts.FS.Open(name)
	if err != nil {
		return err
	}
	s.r = &Run{file: file, name: name, decoder: newDecoder(0), ownDecoder: true, cache: nil}
	s.r.footer.meta.ID = s.opts.ID
	s.bytes, err = file.Bytes()
	return err
}

func (s *salvage) all() error {
	if err := s.findBlocks(); err != nil {
		return err
	}
	if err := s.countRows(); err != nil {
		return err
	}
	for _, step := range []func() error{s.placeBodies, s.placeColumns, s.findLive, s.readKeys, s.readTerms, s.write} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// close lets go of everything; failed removes what was written.
func (s *salvage) close(failed bool) error {
	var err error
	if s.builder != nil {
		err = s.builder.b.Abort()
	}
	if failed {
		for _, run := range s.out {
			err = errors.Join(err, s.opts.FS.Remove(runPath(s.opts.Out, run.Meta.ID)))
		}
	}
	if s.r != nil {
		err = errors.Join(err, s.r.Close())
	}
	return err
}

// countRows finds out how many rows the run has.
func (s *salvage) countRows() error {
	meta := &s.r.footer.meta
	if s.opts.Meta != nil {
		*meta = *s.opts.Meta
		return nil
	}
	if s.bytes >= footerBytes {
		b := make([]byte, footerBytes)
		if err := s.r.readAt(b, s.bytes-footerBytes); err != nil {
			return err
		}
		if f, what, _ := parseFooter(b, s.opts.ID, s.bytes); what == "" {
			*meta = f.meta
			return nil
		}
	}
	meta.Rows = RowsMax // so that the index is read; it tells
	if x, err := s.index(blockBodyIndex, indexBodies); err != nil {
		return err
	} else if x != nil {
		meta.Rows = x.first[x.count()]
		return nil
	}
	meta.Rows = 0
	for _, block := range s.blocks[blockBodies] {
		b, err := s.body(block.section)
		if err != nil {
			return err
		}
		meta.Rows += uint32(len(b.entries))
	}
	return nil
}

// index reads the index of some blocks; nil when it is lost.
func (s *salvage) index(kind blockKind, shape indexShape) (*blockIndex, error) {
	payload, err := s.only(kind)
	if payload == nil || err != nil {
		return nil, err
	}
	x, ok := parseBlockIndex(&byteReader{b: payload}, shape, s.bytes)
	if !ok {
		return nil, nil
	}
	return x, nil
}

// only reads the block of a kind that there is one of; nil when it is lost.
func (s *salvage) only(kind blockKind) ([]byte, error) {
	if len(s.blocks[kind]) != 1 {
		return nil, nil
	}
	at := s.blocks[kind][0]
	checked, err := s.r.readBlock(nil, kind, at.offset, int(at.bytes))
	return checked.payload, err
}

// body reads a block of bodies that was found.
func (s *salvage) body(at section) (*cachedBlock, error) {
	checked, err := s.r.readBlock(nil, blockBodies, at.offset, int(at.bytes))
	if err != nil {
		return nil, err
	}
	raw, err := decodeBlock(s.r.decoder, new([]byte), checked)
	if err != nil {
		return nil, corrupt(s.r.name, at.offset, err.Error())
	}
	entries, ok := parseBodyEntries(nil, raw)
	if !ok {
		return nil, corrupt(s.r.name, at.offset, "bodies block has impossible contents")
	}
	return &cachedBlock{payload: raw, entries: entries}, nil
}
