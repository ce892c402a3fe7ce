package engine

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// ScanQuery selects current, not deleted versions.
type ScanQuery struct {
	Types      []fhir.TypeCode // empty: all
	SinceMilli int64           // lastUpdated >= ; 0: no bound
}

// ScanPart is a piece of a scan that one worker streams in file order. It is
// good until the snapshot is released.
type ScanPart struct {
	n    *Snapshot
	run  *runState       // nil: the head
	rows *roaring.Bitmap // of the run
	// head entries, oldest first
	entries []*headEntry
}

// scanPartOrdinals is how many ordinals of a run make a part: about an import's
// run, so that the workers share a merged run. A block that two parts share is decoded twice.
const scanPartOrdinals = 128 << 10

// ScanParts cuts a scan into independent parts (some of each run and one for
// the head); parts without rows are left out.
func (n *Snapshot) ScanParts(q ScanQuery) ([]ScanPart, error) {
	var parts []ScanPart
	for _, r := range n.view.runs {
		rows, err := n.scanRows(r, q)
		if err != nil {
			return nil, err
		}
		for rest := rows.Iterator(); rest.HasNext(); {
			end := rest.PeekNext() + scanPartOrdinals // index.RowsMax is far below 2^32
			part := roaring.New()
			part.AddRange(uint64(rest.PeekNext()), uint64(end))
			part.And(rows)
			parts = append(parts, ScanPart{n: n, run: r, rows: part})
			rest.AdvanceIfNeeded(end)
		}
	}
	if entries := n.scanEntries(q); len(entries) > 0 {
		parts = append(parts, ScanPart{n: n, entries: entries})
	}
	return parts, nil
}

// scanRows is the run's current, live rows that the query wants.
func (n *Snapshot) scanRows(r *runState, q ScanQuery) (*roaring.Bitmap, error) {
	rows := roaring.AndNot(r.visible(n.lsn), r.superseded(n.lsn))
	deleted, err := r.run.Postings(index.ParamDeleted, nil)
	if err != nil {
		return nil, err
	}
	rows.AndNot(deleted)
	if len(q.Types) > 0 && !rows.IsEmpty() {
		types, err := r.ofTypes(q.Types...)
		if err != nil {
			return nil, err
		}
		rows.And(types)
	}
	if q.SinceMilli != 0 && !rows.IsEmpty() {
		since, err := r.run.Range(index.ParamLastUpdated, index.AppendMilli(nil, q.SinceMilli), nil)
		if err != nil {
			return nil, err
		}
		rows.And(since)
	}
	return rows, nil
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

func (n *Snapshot) scanEntries(q ScanQuery) []*headEntry {
	wanted := func(t fhir.TypeCode) bool {
		for _, w := range q.Types {
			if w == t {
				return true
			}
		}
		return len(q.Types) == 0
	}
	var entries []*headEntry
	for _, g := range n.view.gens {
		for i := range g.countAt(n.lsn) {
			e := g.entry(i)
			if !e.isDeleted() && e.isCurrentAt(n.lsn) && !e.isPurgedAt(n.lsn) && wanted(e.typ) && (q.SinceMilli == 0 || e.lastUpdated.Milli >= q.SinceMilli) {
				entries = append(entries, e)
			}
		}
	}
	return entries
}

// Rows counts the versions the part will deliver.
func (p *ScanPart) Rows() uint64 {
	if p.run == nil {
		return uint64(len(p.entries))
	}
	return p.rows.GetCardinality()
}

// Run streams them; each block is read and decoded once.
func (p *ScanPart) Run(ctx context.Context, fn func(*Version) error) error {
	var v Version
	if p.run != nil {
		return p.run.run.Scan(ctx, p.rows, func(_ index.Ordinal, row index.Row, stored index.Stored) error {
			v = makeVersion(p.run.dated(row), stored)
			return fn(&v)
		})
	}
	var space []byte
	for _, e := range p.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if v, err = p.n.s.readEntry(e, space); err != nil {
			return err
		}
		space = v.Body
		if err := fn(&v); err != nil {
			return err
		}
	}
	return nil
}
