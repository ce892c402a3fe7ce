package index

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/klauspost/compress/zstd"

	"kiln/internal/vfs"
)

// MergeInput is one run of a merge.
type MergeInput struct {
	Run *Run
	// PublishLSN is written into rows whose LSN is 0.
	PublishLSN uint64
	// Void rows do not become part of the result; nil: none.
	Void *roaring.Bitmap
}

// MergeOptions are explicit.
type MergeOptions struct {
	FS     vfs.FS
	Dir    string // as BuilderOptions.Dir
	ID     RunID
	Inputs []MergeInput // in the order of the result's ordinals
	// Pace is told how many bytes were read since the last call, about every
	// mergeStepBytes, and may wait so that others get the disk and the
	// processor; its error ends the merge. nil: full speed.
	Pace func(ctx context.Context, bytes int) error

	// remake, when not nil, makes terms of one input's bodies: see Reindex.
	remake *remaking

	fuseKeysMax uint64 // in tests: instead of mergeFuseKeysMax; 0: that
}

// Merge writes one sealed run with the rows of all inputs. A row's ordinal is
// its old one plus the rows of all inputs before its own: a constant for each
// input, so that whoever knows a place can work out the new one.
//
// A void row becomes a dropped row: it has no key, no term, no columns and an
// empty body. A body block without void rows is copied as it was compressed,
// and only its frame is new, since that covers the place.
//
// Memory is bounded by bytes: a block of each table of each input, the indexes
// of the result, the filter, and the postings of one term. The result's bytes
// depend on the inputs only. After an error the file is removed; damage of an input is
// a *vfs.CorruptError that names it.
func Merge(ctx context.Context, opts MergeOptions) (RunMeta, error) {
	name := tempPath(opts.Dir, opts.ID)
	file, err := opts.FS.Create(name)
	if err != nil {
		return RunMeta{}, fmt.Errorf("cannot create run %q: %w", name, err)
	}
	m := &merger{ctx: ctx, opts: opts, file: file, out: newFileWriter(file, name, opts.ID, nil)}
	m.out.flushBytes = mergeWriteBytes
	m.out.buf = appendHeader(m.out.buf, opts.ID)
	err = m.write()
	if err == nil {
		name, err = publishFile(opts.FS, file, opts.Dir, opts.ID)
	}
	err = errors.Join(err, file.Close())
	if err != nil {
		return RunMeta{}, fmt.Errorf("cannot merge into run %q: %w", name, errors.Join(err, opts.FS.Remove(name)))
	}
	return m.footer.meta, nil
}

// merger is one merge.
type merger struct {
	ctx    context.Context
	opts   MergeOptions
	inputs []*mergeInput
	file   vfs.File
	out    *fileWriter
	footer footer
	disk   []byte
	raw    []byte        // of a body block that is written anew
	enc    *zstd.Encoder // likewise; nil: not needed yet
	read   int           // bytes since the last Pace
	sent   int64         // offset up to which the file was handed to the disk
}

// mergeInput is an input with what the merge knows about it.
type mergeInput struct {
	MergeInput
	number int             // among the inputs
	base   uint32          // ordinal of its first row in the result
	void   *roaring.Bitmap // rows that lose their keys and terms; nil: none
	live   *roaring.Bitmap // the others
}

func (m *merger) write() error {
	if err := m.begin(); err != nil {
		return err
	}
	for _, step := range []func() error{m.bodies, m.keys, m.columns, m.dropped, m.terms} {
		if err := step(); err != nil {
			return err
		}
	}
	return m.out.footer(&m.footer)
}

// begin counts and bounds.
func (m *merger) begin() error {
	meta := &m.footer.meta
	meta.ID = m.opts.ID
	rows := uint64(0)
	for i, in := range m.opts.Inputs {
		theirs := in.Run.Meta()
		x := &mergeInput{MergeInput: in, number: i, base: uint32(rows), live: in.Run.Live()}
		if in.Void != nil && in.Void.Intersects(x.live) {
			x.void, x.live = in.Void, roaring.AndNot(x.live, in.Void)
		}
		m.inputs = append(m.inputs, x)
		rows += uint64(theirs.Rows)
		if rows > RowsMax {
			return fmt.Errorf("the runs have over %d rows together", RowsMax)
		}
		if theirs := in.Run.Extraction(); i == 0 {
			m.footer.extraction, m.footer.custom = theirs, uint32(in.Run.Custom())
		} else if theirs != m.footer.extraction {
			m.footer.extraction = 0 // no rules made all of these terms
		}
		m.footer.custom = min(m.footer.custom, uint32(in.Run.Custom()))
		meta.Live += uint32(x.live.GetCardinality())
		meta.BodyBytesRaw += theirs.BodyBytesRaw
	}
	meta.Rows = uint32(rows)
	if m.opts.remake != nil {
		m.footer.extraction, m.footer.custom = ExtractionVersion, uint32(m.opts.remake.custom)
	}
	return nil
}

// step counts bytes that were read, lets others have their turn, and keeps the
// file's unwritten pages few: one long sync at the end would hold up the log's.
func (m *merger) step(bytes int) error {
	m.read += bytes
	if m.read < mergeStepBytes {
		return nil
	}
	if err := m.ctx.Err(); err != nil {
		return err
	}
	if bytes := m.out.base - m.sent; bytes >= mergeWriteBackBytes {
		m.file.WriteBack(m.sent, bytes)
		m.sent = m.out.base
	}
	if m.opts.Pace != nil {
		if err := m.opts.Pace(m.ctx, m.read); err != nil {
			return err
		}
	}
	m.read = 0
	return nil
}

// roomFor gives a slice of n bytes, in buf's room if it suffices.
func roomFor(buf []byte, n int) []byte {
	if cap(buf) < n {
		return make([]byte, n)
	}
	return buf[:n]
}

// dropped writes which rows are none: those that were, and the void ones.
func (m *merger) dropped() error {
	dropped := roaring.New()
	dropped.AddRange(0, uint64(m.footer.meta.Rows))
	for _, in := range m.inputs {
		dropped.AndNot(roaring.AddOffset(in.live, in.base))
	}
	dropped.RunOptimize()
	bytes, err := dropped.ToBytes()
	if err != nil {
		return err
	}
	m.footer.sections[sectionDropped], err = m.out.section(blockDropped, bytes)
	return err
}
