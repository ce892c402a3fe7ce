package index

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/internal/vfs"
)

// ReindexOptions are explicit.
type ReindexOptions struct {
	FS  vfs.FS
	Dir string // as BuilderOptions.Dir
	ID  RunID
	// NewID gives ids for files that are there for a while only.
	NewID func() RunID
	Input MergeInput
	// Fields are all that were added at run time, in the order of their numbers;
	// the result has the terms of each.
	Fields []*search.Field
	Pool   *BuilderPool // as BuilderOptions.Pool
	Pace   func(ctx context.Context, bytes int) error

	memoryBytes int64 // in tests: instead of reindexMemoryBytes; 0: that
}

// ReindexReport counts what was done.
type ReindexReport struct {
	Read uint64 // versions whose bodies were read
	// Unindexable are those with a value that cannot be a term, which is left
	// out; the other terms are there.
	Unindexable uint64
}

// Reindex writes one sealed run with the rows of another under the same
// ordinals, and with the terms that the present rules and fields give. Where only
// added fields are missing, only the versions of their types are read and all other
// terms are copied. They are copied, too, where ParamContained is missing; a run
// whose terms of fields were made by other rules gets all anew. All else is as with
// Merge.
func Reindex(ctx context.Context, opts ReindexOptions) (RunMeta, ReindexReport, error) {
	r, err := newRemaking(ctx, opts)
	if err != nil {
		return RunMeta{}, ReindexReport{}, fmt.Errorf("cannot index run %016x again: %w", uint64(opts.Input.Run.Meta().ID), err)
	}
	var meta RunMeta
	if err = r.scan(); err == nil {
		meta, err = Merge(ctx, MergeOptions{
			FS: opts.FS, Dir: opts.Dir, ID: opts.ID, Inputs: []MergeInput{opts.Input}, Pace: opts.Pace, remake: r,
		})
		if closeErr := r.close(); err == nil && closeErr != nil {
			err = errors.Join(closeErr, opts.FS.Remove(runPath(opts.Dir, opts.ID)))
		}
	} else {
		err = errors.Join(err, r.close())
	}
	if err != nil {
		return RunMeta{}, r.report, fmt.Errorf("cannot index run %016x again: %w", uint64(opts.Input.Run.Meta().ID), err)
	}
	return meta, r.report, nil
}

// remaking makes terms of a run's bodies. What does not fit in memory is spilled:
// each piece is a term table of its own in a file of its own, and they are merged
// as those of runs are.
type remaking struct {
	ctx        context.Context
	opts       ReindexOptions
	custom     int
	keepBelow  Param // terms of lower parameters are kept
	contained  bool  // but for ParamContained, whose terms are made
	extraction *Extraction
	types      []fhir.TypeCode // of the versions to read; none: all
	memory     *builderMemory
	pieces     []*Run
	report     ReindexReport
	read       int // bytes since the last Pace
}

// reindexMemoryBytes is when the terms that were made are spilled. A worker of an
// import holds about as much.
const reindexMemoryBytes = 64 << 20

func newRemaking(ctx context.Context, opts ReindexOptions) (*remaking, error) {
	r := &remaking{ctx: ctx, opts: opts, custom: len(opts.Fields)}
	if r.opts.memoryBytes == 0 {
		r.opts.memoryBytes = reindexMemoryBytes
	}
	run, err := opts.Input.Run, error(nil)
	r.contained = !run.HasContainedTerms()
	if !run.HasFieldTerms() || run.Custom() > len(opts.Fields) {
		r.keepBelow, r.contained = search.FieldMin, true
		r.extraction, err = NewExtraction(opts.Fields)
	} else {
		missing := opts.Fields[run.Custom():]
		r.keepBelow = Param(search.FieldCustomMin + run.Custom())
		if !r.contained {
			r.types = typesOf(missing)
		}
		r.extraction, err = newExtraction(missing, r.contained)
	}
	if err != nil {
		return nil, err
	}
	r.memory = opts.Pool.get()
	return r, nil
}

// keeps tells whether the input's terms of a parameter are kept.
func (r *remaking) keeps(p Param) bool {
	return p < r.keepBelow && !(p == ParamContained && r.contained)
}

// typesOf is the types that have one of the fields; none: all.
func typesOf(fields []*search.Field) (types []fhir.TypeCode) {
	for _, f := range fields {
		if f.Type == 0 {
			return nil
		}
		types = append(types, f.Type)
	}
	return types
}

// rows are those whose terms are made: of all versions, as when they joined the
// store, but for deleted ones.
func (r *remaking) rows() (*roaring.Bitmap, error) {
	run := r.opts.Input.Run
	rows := run.Live().Clone()
	if void := r.opts.Input.Void; void != nil {
		rows.AndNot(void)
	}
	deleted, err := run.Postings(ParamDeleted, nil)
	if err != nil {
		return nil, err
	}
	rows.AndNot(deleted)
	if len(r.types) == 0 {
		return rows, nil
	}
	wanted := roaring.New()
	for _, t := range r.types {
		some, err := run.Postings(ParamType, binary.BigEndian.AppendUint16(nil, uint16(t)))
		if err != nil {
			return nil, err
		}
		wanted.Or(some)
	}
	rows.And(wanted)
	return rows, nil
}

// scan reads the bodies and makes the pieces.
func (r *remaking) scan() error {
	if r.opts.Input.Run.Custom() == r.custom && !r.contained {
		return nil
	}
	rows, err := r.rows()
	if err != nil {
		return err
	}
	extractor := r.extraction.NewExtractor(setSink{r.memory.terms})
	err = r.opts.Input.Run.Scan(r.ctx, rows, func(o Ordinal, _ Row, stored Stored) error {
		return r.row(extractor, o, stored.Body)
	})
	if err != nil {
		return err
	}
	return r.spill()
}

// setSink gives terms to a set.
type setSink struct{ set *termSet }

func (s setSink) AddTerm(p Param, value []byte) { s.set.add(p, value) }

// row makes the terms of one version.
func (r *remaking) row(extractor *Extractor, o Ordinal, body []byte) error {
	r.report.Read++
	if _, err := extractor.Scan(body); err != nil {
		r.report.Unindexable++
		if !errors.Is(err, ErrTerms) {
			r.memory.terms.discard()
		}
	}
	r.memory.terms.commit(uint32(o))
	if r.memory.terms.usedBytes() > r.opts.memoryBytes || r.memory.terms.full() {
		if err := r.spill(); err != nil {
			return err
		}
	}
	if r.read += len(body); r.read < mergeStepBytes {
		return nil
	}
	read := r.read
	r.read = 0
	if r.opts.Pace == nil {
		return r.ctx.Err()
	}
	return r.opts.Pace(r.ctx, read)
}

// spill writes the terms that were made as a piece.
func (r *remaking) spill() error {
	if len(r.memory.terms.recs) == 0 {
		return nil
	}
	id := r.opts.NewID()
	name := tempPath(r.opts.Dir, id)
	file, err := r.opts.FS.Create(name)
	if err != nil {
		return fmt.Errorf("cannot create %q: %w", name, err)
	}
	piece := &Run{file: file, name: name, decoder: r.opts.Input.Run.decoder}
	piece.footer.meta.ID, piece.footer.meta.Rows = id, r.opts.Input.Run.Meta().Rows
	r.pieces = append(r.pieces, piece)
	out := newFileWriter(file, name, id, r.memory.writeBuffer)
	w := newTermWriter(out)
	if err := r.memory.writeGiven(r.ctx, w, func(rows []uint32) []uint32 { return rows }); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	if err := out.flush(); err != nil {
		return err
	}
	piece.terms, piece.postings = &w.table.index, &w.index
	r.memory.writeBuffer = out.buf
	r.memory.terms.reset()
	return nil
}

// close removes the pieces and gives the memory back.
func (r *remaking) close() error {
	r.memory.terms.reset()
	r.opts.Pool.put(r.memory)
	var err error
	for _, piece := range r.pieces {
		err = errors.Join(err, piece.file.Close(), r.opts.FS.Remove(piece.name))
	}
	r.pieces = nil
	return err
}

// remadeTables walks what is kept of the input's terms, and the pieces.
func (m *merger) remadeTables() (tableMerge, error) {
	r, in := m.opts.remake, m.inputs[0]
	walks := []*tableWalk{{
		m: m, in: in, kind: blockTerms, index: in.Run.terms, skip: skipPosting, block: -1, postings: -1,
		keep: func(key []byte) bool { return r.keeps(Param(binary.BigEndian.Uint16(key))) },
	}}
	for i, piece := range r.pieces {
		part := &mergeInput{MergeInput: MergeInput{Run: piece}, number: i + 1}
		walks = append(walks, &tableWalk{m: m, in: part, kind: blockTerms, index: piece.terms, skip: skipPosting, block: -1, postings: -1})
	}
	return newTableMerge(walks)
}
