package engine

import (
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// choose makes the rows that a scan takes of a source.
func (c *Scan) choose(src *source) (scanRows, error) {
	if err := c.search.check(); err != nil {
		return scanRows{}, err
	}
	rows, doubtful, err := c.versionsOf(src)
	if err == nil {
		rows, err = c.dated(src, rows)
	}
	if err == nil && len(c.q.Of) > 0 {
		rows, err = c.taken(src, rows)
	}
	return scanRows{src: src, rows: rows, doubtful: doubtful}, err
}

// versionsOf is the rows up to AsOf that are versions of the query's kind, and
// those of them (and others) that are to be asked about. Do not modify either.
func (c *Scan) versionsOf(src *source) (rows, doubtful *roaring.Bitmap, err error) {
	if src.run == nil {
		return c.versionsOfHead(src), roaring.New(), nil
	}
	rows, doubtful = c.versionsOfRun(src.run)
	newer, err := src.run.boundary(c.search.asOf)
	if err != nil {
		return nil, nil, err
	}
	if newer < src.rows {
		rows = rows.Clone()
		rows.RemoveRange(uint64(newer), math.MaxUint32+1)
	}
	if c.q.Versions == ScanCurrentOrDeleted || c.q.Versions == ScanAllOrDeleted || rows.IsEmpty() {
		return rows, doubtful, nil
	}
	deleted, err := src.run.run.Postings(index.ParamDeleted, nil)
	if err != nil {
		return nil, nil, err
	}
	if c.q.Versions == ScanDeletions {
		return roaring.And(rows, deleted), doubtful, nil
	}
	return roaring.AndNot(rows, deleted), doubtful, nil
}

// versionsOfRun is versionsOf without regard to deletion and LSN.
func (c *Scan) versionsOfRun(r *runState) (rows, doubtful *roaring.Bitmap) {
	rows, doubtful = r.visible(c.search.n.lsn), roaring.New()
	if !c.q.Versions.ofCurrent() {
		return rows, doubtful
	}
	known, base := r.supersessions(), roaring.New()
	if asOf := c.search.asOf; asOf == c.search.n.lsn || asOf >= known.settled {
		base = known.base
	} else {
		doubtful = known.base
	}
	return roaring.AndNot(rows, foldMarks(base, known.marks, known.bulk, c.search.asOf)), doubtful
}

func (c *Scan) versionsOfHead(src *source) *roaring.Bitmap {
	rows := index.NewRowSet(src.rows)
	for i := range int(src.rows) {
		e := src.gen.entry(i)
		if !e.isPurgedAt(c.search.n.lsn) && (!c.q.Versions.ofCurrent() || e.isCurrentAt(c.search.asOf)) && c.q.Versions.wants(e.row().Flags) {
			rows.Add(uint32(i))
		}
	}
	return rows.Bitmap()
}

// wants tells whether versions that are deletions, or are none, are taken.
func (v ScanVersions) wants(flags index.Flags) bool {
	deleted := flags&index.FlagDeleted != 0
	switch v {
	case ScanCurrent, ScanAll:
		return !deleted
	case ScanDeletions:
		return deleted
	}
	return true
}

// dated keeps the rows inside the query's dates.
func (c *Scan) dated(src *source, rows *roaring.Bitmap) (*roaring.Bitmap, error) {
	since, until := c.q.SinceMilli, c.q.UntilMilli
	if (since == 0 && until == 0) || rows.IsEmpty() {
		return rows, nil
	}
	if src.run == nil {
		return src.filter(rows, func(e *headEntry) bool {
			milli := e.lastUpdated.Milli
			return (since == 0 || milli >= since) && (until == 0 || milli < until)
		}), nil
	}
	meta := src.run.run.Meta()
	var from, to []byte
	if since != 0 && meta.MilliMin < since {
		from = index.AppendMilli(nil, since)
	}
	if until != 0 && meta.MilliMax >= until {
		to = index.AppendMilli(nil, until)
	}
	if from == nil && to == nil {
		return rows, nil
	}
	dated, err := src.run.run.Range(index.ParamLastUpdated, from, to)
	if err != nil {
		return nil, err
	}
	dated.And(rows)
	return dated, nil
}

// taken keeps the rows that something of the query takes.
func (c *Scan) taken(src *source, rows *roaring.Bitmap) (*roaring.Bitmap, error) {
	all := roaring.New()
	for i := range c.q.Of {
		of := &c.q.Of[i]
		some, err := src.ofTypes(rows, of.Types)
		if err != nil {
			return nil, err
		}
		if of.Where != nil && !some.IsEmpty() {
			err = c.search.withTerms(src, of.Where.needs(), func(terms index.TermSource) error {
				e := evaluation{s: c.search, src: src, terms: terms}
				var err error
				some, err = e.eval(of.Where, some, nil)
				return err
			})
		}
		if err != nil {
			return nil, err
		}
		all.Or(some)
	}
	return all, nil
}

// ofTypes is those of rows that are of the types; none: all of them.
func (src *source) ofTypes(rows *roaring.Bitmap, types []fhir.TypeCode) (*roaring.Bitmap, error) {
	if len(types) == 0 || rows.IsEmpty() {
		return rows, nil
	}
	if src.run == nil {
		return src.filter(rows, func(e *headEntry) bool { return slices.Contains(types, e.typ) }), nil
	}
	of, err := src.run.ofTypes(types...)
	if err != nil {
		return nil, err
	}
	of.And(rows)
	return of, nil
}

// ofTypes is the rows of the types.
func (r *runState) ofTypes(types ...fhir.TypeCode) (*roaring.Bitmap, error) {
	all := roaring.New()
	for _, t := range types {
		rows, err := r.run.Postings(index.ParamType, []byte{byte(t >> 8), byte(t)})
		if err != nil {
			return nil, err
		}
		all.Or(rows)
	}
	return all, nil
}

// filter is those of a head's rows whose entries are wanted.
func (src *source) filter(rows *roaring.Bitmap, wanted func(*headEntry) bool) *roaring.Bitmap {
	kept := index.NewRowSet(src.rows)
	for it := rows.Iterator(); it.HasNext(); {
		if i := it.Next(); wanted(src.gen.entry(int(i))) {
			kept.Add(i)
		}
	}
	return kept.Bitmap()
}
