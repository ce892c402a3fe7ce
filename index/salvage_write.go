package index

import (
	"errors"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
)

// salvageBuilder is a run that is being written.
type salvageBuilder struct {
	b          *Builder
	extractor  *Extractor
	rows       []Row
	superseded *roaring.Bitmap
}

// write writes every row that is a version.
func (s *salvage) write() error {
	columns := &salvageColumns{s: s, block: -1}
	for _, span := range s.bodies {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		var b *cachedBlock
		if span.block.bytes > 0 {
			var err error
			if b, err = s.body(span.block); err != nil {
				return err
			}
		}
		for i := range span.rows {
			o := span.first + i
			if !s.live.Contains(o) || s.opts.Void != nil && s.opts.Void.Contains(o) {
				continue
			}
			if err := s.writeRow(columns, o, b, int(i)); err != nil {
				return err
			}
		}
	}
	return s.seal()
}

// writeRow writes one version, whose body is the i-th of b; nil: it is lost.
func (s *salvage) writeRow(columns *salvageColumns, o uint32, b *cachedBlock, i int) error {
	row, whole, err := columns.row(o)
	if err != nil {
		return err
	}
	if !whole {
		var dated bool
		if row, dated, err = columns.remake(o); err != nil {
			return err
		}
		if !dated { // of no use without its number and date
			b, row.LastUpdated.Milli = nil, s.r.footer.meta.MilliMin
		}
	}
	if b == nil {
		return s.writeLost(o, row)
	}
	stored := b.entries[i].stored(b.payload)
	if !whole {
		s.opts.Doubt(Doubtful{
			Type: row.Type, ID: stored.ID, VersionID: row.VersionID,
			What: "its columns were lost: the offset of lastUpdated, how it was written and when it was committed are not known",
		})
	}
	return s.append(o, row, stored, b.entries[i].idAt)
}

// writeLost writes a gap, where the version is known.
func (s *salvage) writeLost(o uint32, row Row) error {
	known, ok := s.known[o]
	lost := LostVersion{Ordinal: Ordinal(o), Known: ok, Type: known.typ, ID: known.id, VersionID: known.version}
	s.opts.Lost(lost)
	if !ok {
		return nil
	}
	row.Type, row.VersionID = known.typ, known.version
	row.Flags |= FlagDeleted | FlagLost
	body, idAt, splice := fhir.StubBody(nil, known.typ, known.id)
	return s.append(o, row, Stored{ID: known.id, Body: body, Splice: splice}, idAt)
}

// append writes a row into the run that is being built.
func (s *salvage) append(o uint32, row Row, stored Stored, idAt uint32) error {
	if s.builder != nil && s.builder.b.MemoryBytes() > s.opts.MemoryBytes {
		if err := s.seal(); err != nil {
			return err
		}
	}
	if s.builder == nil {
		b, err := NewBuilder(BuilderOptions{FS: s.opts.FS, Dir: s.opts.Out, ID: s.opts.NewID(), Pool: s.opts.Pool, Extraction: s.opts.Extraction})
		if err != nil {
			return err
		}
		s.builder = &salvageBuilder{b: b, extractor: b.Extraction().NewExtractor(b), superseded: roaring.New()}
	}
	w := s.builder
	if row.Flags&FlagDeleted == 0 {
		if _, err := w.extractor.Scan(stored.Body); err != nil && !errors.Is(err, ErrTerms) {
			w.b.DiscardTerms() // it was stored without, too
		}
	}
	at, err := w.b.Append(row.Type, stored.ID, idAt, stored.Body, stored.Splice)
	if errors.Is(err, ErrFull) {
		if err = s.seal(); err == nil {
			err = s.append(o, row, stored, idAt)
		}
		return err
	}
	if err != nil {
		return err
	}
	w.rows = append(w.rows, row)
	if s.opts.Superseded != nil && s.opts.Superseded.Contains(o) {
		w.superseded.Add(uint32(at))
	}
	return nil
}

// seal ends the run that is being built.
func (s *salvage) seal() error {
	w := s.builder
	if w == nil {
		return nil
	}
	w.b.SortKeys()
	for o, row := range w.rows {
		w.b.SetRow(Ordinal(o), row)
	}
	meta, err := w.b.Seal(s.ctx)
	if err != nil {
		return err
	}
	s.builder = nil
	s.out = append(s.out, SalvagedRun{Meta: meta, Superseded: w.superseded})
	return nil
}
