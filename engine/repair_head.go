package engine

import (
	"path"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
	"kiln/wal"
)

// repairWriter writes runs one version after the other.
type repairWriter struct {
	p         *repair
	kind      ingestKind
	b         *index.Builder
	extractor *index.Extractor
	rows      []index.Row
	known     *roaring.Bitmap
}

// repairMemoryBytes is when a run that is being built is sealed.
const repairMemoryBytes = 256 << 20

// append adds a version.
func (w *repairWriter) append(row index.Row, id []byte, idAt uint32, body []byte, splice fhir.Splice, superseded bool) error {
	limit := w.p.opts.memoryBytes
	if limit == 0 {
		limit = repairMemoryBytes
	}
	if w.b != nil && w.b.MemoryBytes() > limit {
		if err := w.seal(); err != nil {
			return err
		}
	}
	if w.b == nil {
		extraction, err := w.p.opts.newExtraction(w.p.r.fields)
		if err != nil {
			return err
		}
		w.b, err = index.NewBuilder(index.BuilderOptions{
			FS: w.p.opts.FS, Dir: path.Join(w.p.path(repairTemp), runsDir), ID: w.p.newID(), Extraction: extraction, Pool: w.p.opts.builders,
		})
		if err != nil {
			return err
		}
		w.extractor, w.rows, w.known = extraction.NewExtractor(w.b), nil, roaring.New()
	}
	if row.Flags&index.FlagDeleted == 0 {
		if _, err := w.extractor.Scan(body); err != nil && !wasRead(err) {
			w.b.DiscardTerms() // as a flush does
		}
	}
	o, err := w.b.Append(row.Type, id, idAt, body, splice)
	if err != nil {
		return err
	}
	w.rows = append(w.rows, row)
	if superseded {
		w.known.Add(uint32(o))
	}
	return nil
}

// seal ends the run, which is published at the LSN of the repair.
func (w *repairWriter) seal() error {
	if w.b == nil {
		return nil
	}
	w.b.SortKeys()
	for o, row := range w.rows {
		w.b.SetRow(index.Ordinal(o), row)
	}
	meta, err := w.b.Seal(w.p.ctx)
	if err != nil {
		return err
	}
	w.b = nil
	w.p.addNew(&repairedRun{
		meta: meta, publishLSN: w.p.lastLSN, kind: w.kind, rank: meta.ID, known: w.known,
		dir: path.Join(w.p.path(repairTemp), runsDir),
	})
	return nil
}

// abort gives up what was not sealed.
func (w *repairWriter) abort(err error) error {
	if err != nil && w.b != nil {
		_ = w.b.Abort() // repair.tmp is removed as a whole
	}
	return err
}

// writeHead writes the versions that the log still has.
func (p *repair) writeHead() error {
	w := &repairWriter{p: p, kind: ingestFlush}
	log := wal.NewReader(p.opts.FS, p.path(logDir))
	defer log.Close() // only read from
	for _, e := range p.r.entries {
		if e.purged != 0 {
			continue
		}
		if err := p.ctx.Err(); err != nil {
			return w.abort(err)
		}
		body := make([]byte, e.bodyBytes)
		err := log.ReadAt(body, e.at)
		if err == nil && bodyCRC(body) != e.crc {
			err = corruptBody(e.at, e.lsn)
		}
		if err == nil {
			err = w.append(e.row(), body[e.idAt:e.idAt+uint32(e.idBytes)], e.idAt, body, e.splice, e.superseded != 0)
		}
		if err != nil {
			return w.abort(err)
		}
	}
	return w.abort(w.seal())
}

// writeGaps writes a row for each version that is known to be lost.
func (p *repair) writeGaps() error {
	w := &repairWriter{p: p, kind: ingestImport}
	from := len(p.runs)
	for i := range p.gaps {
		g := &p.gaps[i]
		typ, id, _, ok := index.ParseKey(nil, []byte(g.key))
		if !ok {
			continue
		}
		body, idAt, splice := fhir.StubBody(nil, typ, id)
		row := index.Row{
			Type: typ, VersionID: g.version, Flags: index.FlagDeleted | index.FlagLost,
			LastUpdated: fhir.Instant{Milli: g.milli, OffsetMinutes: fhir.OffsetZ},
		}
		if err := w.append(row, id, idAt, body, splice, true); err != nil {
			return w.abort(err)
		}
		if err := p.report(Finding{Kind: FoundLost, Type: typ.String(), ID: string(id), Version: g.version, What: g.why}); err != nil {
			return w.abort(err)
		}
	}
	if err := w.abort(w.seal()); err != nil {
		return err
	}
	for _, x := range p.runs[from:] {
		x.superseded = x.known
	}
	return nil
}
