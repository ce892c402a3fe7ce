package bulk

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"

	"kiln/fhir"
)

// blockWriter writes the patients of one part of an export, each as a block: a
// header that names the patient, the Patient, what else is in the compartment. A
// block is parted only where it is too large for a file of its own; the next file
// then begins with the header again (HL7 Bulk Data Access 3.0, organizeOutputBy).
type blockWriter struct {
	sink   *exportSink
	file   *exportFile // nil: none is open
	header []byte      // of the patient
	here   int64       // lines of the patient in the file, without the header
	asked  int         // lines since others were let compute
	wrote  func(lines uint64)
}

// exportBlocksStem is what the names of files organized by patients begin with.
const exportBlocksStem = "ByPatient"

// appendBlockHeader appends the line that a patient's block begins with. Ids need no escapes.
func appendBlockHeader(dst, owner []byte) []byte {
	dst = append(dst, `{"resourceType":"Parameters","parameter":[{"name":"header","valueReference":{"reference":"Patient/`...)
	return append(append(dst, owner...), `"}}]}`+"\n"...)
}

// isBlockHeader tells whether a resource is such a line, of any server.
func isBlockHeader(r *fhir.Resource) (header bool) {
	if string(r.TypeName) != "Parameters" {
		return false
	}
	fhir.Members(r.Body, 0, func(key []byte, at, _ int) bool {
		if string(key) != "parameter" || r.Body[at] != '[' {
			return true
		}
		fhir.Elements(r.Body, at, func(at, _ int) bool {
			name, _ := fhir.MemberText(r.Body, at, "name")
			header = string(name) == "header"
			return false
		})
		return false
	})
	return header
}

// begin begins the block of a patient with so many lines, which have so many bytes.
func (b *blockWriter) begin(ctx context.Context, owner []byte, lines, bytes int64) error {
	b.header, b.here = appendBlockHeader(b.header[:0], owner), 0
	if f := b.file; f != nil {
		maximum := b.sink.maximum
		if f.Count+1+lines > maximum.lines || f.encoder.size()+int64(len(b.header))+bytes > maximum.bytes {
			return b.end(ctx)
		}
	}
	return nil
}

// line writes a line of the patient, which has its end.
func (b *blockWriter) line(ctx context.Context, text []byte) error {
	f := b.file
	if f == nil || b.here > 0 && (f.Count >= b.sink.maximum.lines || f.encoder.size() >= b.sink.maximum.bytes) {
		if err := b.next(ctx); err != nil {
			return err
		}
	}
	if b.here == 0 {
		if err := b.append(b.header); err != nil {
			return err
		}
	}
	b.here++
	if err := b.append(text); err != nil {
		return err
	}
	if b.sink.out.full() {
		return b.sink.rest(func() error { return b.sink.out.wait(ctx) })
	}
	if b.asked++; b.asked == exportTurnRows {
		b.wrote(exportTurnRows)
		b.asked = 0
		return b.sink.rest(func() error { return nil })
	}
	return nil
}

func (b *blockWriter) append(line []byte) error {
	b.file.Count++
	return b.file.encoder.(*lineEncoder).append(line)
}

// next begins another file. A patient who has lines in the one before goes on there.
func (b *blockWriter) next(ctx context.Context) error {
	before := b.file
	var err error
	if b.file, err = b.sink.next(ctx, 0); err != nil {
		return err
	}
	if before == nil {
		return nil
	}
	before.Continues, b.here = b.file.Name, 0
	return b.sink.end(ctx, before)
}

// end ends the last file, which becomes durable meanwhile.
func (b *blockWriter) end(ctx context.Context) error {
	f := b.file
	if f == nil {
		return nil
	}
	b.file, b.sink.open[0] = nil, nil
	return b.sink.end(ctx, f)
}

// blockFormat writes lines that are made already.
type blockFormat struct{ lineFormat }

func (blockFormat) stem(fhir.TypeCode) string { return exportBlocksStem }

// blocks writes the patients of a part in the order of their ids.
func (b *blockWriter) blocks(ctx context.Context, s *spill, part int, bytesMax int64) error {
	if s.parts[part].bytes <= bytesMax {
		var all []spilled
		err := s.each(part, func(e spilled) error { all = append(all, e); return nil })
		if err != nil {
			return err
		}
		s.forget(part)
		return b.byPatient(ctx, all)
	}
	sizes := map[string]blockSize{}
	err := s.each(part, func(e spilled) error {
		size := sizes[string(e.owner)]
		size.add(&e)
		sizes[string(e.owner)] = size
		return nil
	})
	if err != nil {
		return err
	}
	// As many patients together as fit: the part is read for each such batch.
	var batch []string
	var held int64
	for _, owner := range slices.Sorted(maps.Keys(sizes)) {
		if held+sizes[owner].bytes > bytesMax {
			if err := b.batch(ctx, s, part, batch); err != nil {
				return err
			}
			batch, held = batch[:0], 0
		}
		if sizes[owner].bytes > bytesMax {
			if err := b.large(ctx, s, part, owner, sizes[owner]); err != nil {
				return err
			}
			continue
		}
		batch, held = append(batch, owner), held+sizes[owner].bytes
	}
	return b.batch(ctx, s, part, batch)
}

// blockSize is what a patient has.
type blockSize struct{ lines, bytes int64 }

func (z *blockSize) add(e *spilled) {
	z.lines++
	z.bytes += int64(len(e.text))
}

// batch writes some patients of a part, whose ids are sorted.
func (b *blockWriter) batch(ctx context.Context, s *spill, part int, owners []string) error {
	if len(owners) == 0 {
		return nil
	}
	var theirs []spilled
	err := s.each(part, func(e spilled) error {
		if _, ok := slices.BinarySearch(owners, string(e.owner)); ok {
			e.text = bytes.Clone(e.text) // the chunk has lines of others, too
			e.owner = bytes.Clone(e.owner)
			theirs = append(theirs, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.byPatient(ctx, theirs)
}

// large writes a patient who has more than is held in memory: first the Patient,
// then the rest as it comes.
func (b *blockWriter) large(ctx context.Context, s *spill, part int, owner string, size blockSize) error {
	if err := b.begin(ctx, []byte(owner), size.lines, size.bytes); err != nil {
		return err
	}
	for _, first := range []bool{true, false} {
		err := s.each(part, func(e spilled) error {
			if string(e.owner) != owner || (e.typ == patientType()) != first {
				return nil
			}
			return b.line(ctx, e.text)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// byPatient writes lines as blocks; in a block the Patient comes first, then the types in turn.
func (b *blockWriter) byPatient(ctx context.Context, all []spilled) error {
	blocks := map[string][]spilled{}
	for i := range all {
		blocks[string(all[i].owner)] = append(blocks[string(all[i].owner)], all[i])
	}
	for _, owner := range slices.Sorted(maps.Keys(blocks)) {
		var size blockSize
		theirs := blocks[owner]
		for i := range theirs {
			size.add(&theirs[i])
		}
		slices.SortStableFunc(theirs, func(x, y spilled) int { return cmp.Compare(typeRank(x.typ), typeRank(y.typ)) })
		if err := b.begin(ctx, []byte(owner), size.lines, size.bytes); err != nil {
			return err
		}
		for i := range theirs {
			if err := b.line(ctx, theirs[i].text); err != nil {
				return err
			}
		}
	}
	return nil
}

func typeRank(t fhir.TypeCode) fhir.TypeCode {
	if t == patientType() {
		return 0
	}
	return t
}
