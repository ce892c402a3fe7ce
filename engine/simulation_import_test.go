package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
)

// simRow is one row of an import as the simulation plans it.
type simRow struct {
	k       simKey
	v       simVersion
	late    bool // history with a negative version, or with one below the current: below
	below   bool
	drop    bool
	ordinal index.Ordinal
}

// ingest is one import round of one or two runs, with other writes between its
// snapshot and its end.
func (m *sim) ingest(depth int) error {
	g, err := m.s.BeginIngest(context.Background())
	if err != nil {
		return m.outcome(err, m.model)
	}
	m.keep++
	defer func() { m.keep-- }()
	planned := m.model.clone()
	var runs []map[index.Ordinal]*simRow
	for range 1 + m.rng.IntN(2) {
		rows, err := m.buildRun(g, planned)
		if err != nil {
			return m.abandon(g, err)
		}
		runs = append(runs, rows)
	}
	if depth == 0 {
		before := m.happened
		if err := m.meanwhile(m.rng.IntN(4)); err != nil {
			return errors.Join(err, g.Abandon())
		}
		m.sawBeside(before)
	}
	if m.rng.IntN(12) == 0 {
		m.saw("round abandoned")
		return m.abandon(g, nil)
	}
	return m.publish(g, runs)
}

// happened counts what changes where rows lie.
type happened struct{ flushes, merges, rounds int }

func (m *sim) sawBeside(before happened) {
	if m.happened.flushes > before.flushes {
		m.saw("round beside a flush")
	}
	if m.happened.merges > before.merges {
		m.saw("round beside a merge")
	}
	if m.happened.rounds > before.rounds {
		m.saw("round beside another")
	}
}

func (m *sim) abandon(g *Ingest, err error) error {
	return m.outcome(errors.Join(err, g.Abandon()), m.model)
}

// publish foretells the result: rows of keys that nobody else wrote are as
// planned; the others are resolved against the present.
func (m *sim) publish(g *Ingest, runs []map[index.Ordinal]*simRow) error {
	with := m.model.clone()
	job := m.job
	if m.rng.IntN(3) == 0 {
		m.job++
		job = m.job
	}
	ids := map[index.RunID]int{}
	for i, r := range g.runs {
		ids[r.run.Meta().ID] = i
	}
	resolve := func(conflicts []Conflict) error {
		m.saw("round with conflicts")
		for i := range conflicts {
			m.resolve(with, &conflicts[i], func(p Place) *simRow { return runs[ids[p.Run]][p.Ordinal] })
		}
		return nil
	}
	delete(with.progress, job)
	progress := func() []byte {
		with.progress[job] = fmt.Sprint("at ", m.rng.Uint32())
		return []byte(with.progress[job])
	}
	if m.rng.IntN(6) == 0 {
		progress = nil // the job ends
	}
	err := g.Publish(context.Background(), job, resolve, progress)
	m.note("round of %d runs: %v", len(runs), err)
	if err == nil || errors.Is(err, ErrOutcomeUnknown) {
		for _, rows := range runs {
			for _, row := range rows {
				if !row.drop {
					with.put(row.k, row.v)
				}
			}
		}
	}
	if err != nil {
		return errors.Join(m.outcome(err, with), ignoreIO(g.Abandon()))
	}
	m.saw("round published")
	m.happened.rounds++
	if len(runs) > 1 {
		m.saw("round of two runs")
	}
	return m.outcome(nil, with)
}

func ignoreIO(err error) error {
	if err == nil || errors.Is(err, vfs.ErrPowerCut) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) {
		return nil
	}
	return err
}

// resolve does what an import does with a key that was written meanwhile.
func (m *sim) resolve(with *simModel, c *Conflict, planned func(Place) *simRow) {
	scratch := with.clone()
	for i := range c.Rows {
		row := planned(c.Rows[i].Place)
		if row.late && !row.below {
			continue // its number is nobody else's
		}
		cur, found := scratch.current(row.k)
		if row.below || found && cur.body == row.v.body && cur.deleted == row.v.deleted {
			m.saw("round's row dropped")
			row.drop, c.Rows[i].Drop = true, true
			continue
		}
		m.saw("round's row written again")
		row.v.id = cur.id + 1
		row.v.milli = max(row.v.milli, cur.milli+1)
		c.Rows[i].VersionID, c.Rows[i].LastUpdated.Milli = row.v.id, row.v.milli
		scratch.put(row.k, row.v)
	}
}

// buildRun makes a run of random rows, resolved against planned, and adds it.
func (m *sim) buildRun(g *Ingest, planned *simModel) (map[index.Ordinal]*simRow, error) {
	b, err := m.s.NewRun()
	if err != nil {
		return nil, err
	}
	var rows []*simRow
	for range 1 + m.rng.IntN(6) {
		row := &simRow{k: m.someKey(), late: m.rng.IntN(5) == 0}
		row.v = simVersion{body: m.body(row.k), deleted: m.rng.IntN(6) == 0}
		r, err := b.Extraction().NewExtractor(b).Scan([]byte(row.v.body))
		if err != nil {
			return nil, errors.Join(err, b.Abort())
		}
		if row.v.deleted {
			b.DiscardTerms()
		}
		if row.ordinal, err = b.Append(row.k.typ, []byte(row.k.id), r.IDAt, r.Body, r.Splice); err != nil {
			return nil, errors.Join(err, b.Abort())
		}
		rows = append(rows, row)
	}
	b.SortKeys()
	kept, superseded, err := m.assign(g, b, planned, rows)
	if err != nil {
		return nil, errors.Join(err, b.Abort())
	}
	meta, err := b.Seal(context.Background())
	if err != nil {
		return nil, errors.Join(err, b.Abort())
	}
	return kept, g.Add(meta, superseded)
}

// assign gives the rows their versions, as an import does while it resolves: the
// next number or a later one, one that is free below the current, or history that
// has no number, which gets a negative one.
func (m *sim) assign(g *Ingest, b *index.Builder, planned *simModel, rows []*simRow) (map[index.Ordinal]*simRow, *roaring.Bitmap, error) {
	kept, superseded := map[index.Ordinal]*simRow{}, roaring.New()
	for _, row := range rows {
		cur, found := planned.current(row.k)
		gap := planned.gap(row.k)
		switch {
		case row.late && gap > 0 && m.rng.IntN(2) == 0:
			m.saw("round below another version")
			row.below = true
			row.v.id, row.v.milli = gap, m.now.UnixMilli()-m.rng.Int64N(2000)
			superseded.Add(uint32(row.ordinal))
		case row.late:
			m.saw("round with history")
			m.late--
			row.v.id, row.v.milli = m.late, m.now.UnixMilli()-m.rng.Int64N(2000)
			superseded.Add(uint32(row.ordinal))
		case found && cur.body == row.v.body && cur.deleted == row.v.deleted:
			b.Drop(row.ordinal)
			continue
		default:
			row.v.id, row.v.milli = cur.id+1, max(g.Instant().Milli, cur.milli+1)
			if m.rng.IntN(4) == 0 {
				m.saw("round with a gap")
				row.v.id += m.rng.Int64N(3)
			}
			if found {
				if err := m.supersede(g, rows, superseded, row.k, cur.id); err != nil {
					return nil, nil, err
				}
			}
		}
		r := index.Row{Type: row.k.typ, VersionID: row.v.id, LastUpdated: fhir.Instant{Milli: row.v.milli, OffsetMinutes: fhir.OffsetZ}}
		if row.v.deleted {
			r.Flags = index.FlagDeleted
		}
		b.SetRow(row.ordinal, r)
		planned.put(row.k, row.v)
		kept[row.ordinal] = row
	}
	return kept, superseded, nil
}

// gap is a free number below the current one; 0: none.
func (m *simModel) gap(k simKey) int64 {
	cur, _ := m.current(k)
	for id := int64(1); id < cur.id; id++ {
		if _, ok := m.keys[k][id]; !ok {
			return id
		}
	}
	return 0
}

// supersede marks the version that a row follows: in the store, in this run,
// or in a run that was added before.
func (m *sim) supersede(g *Ingest, rows []*simRow, superseded *roaring.Bitmap, k simKey, id int64) error {
	for _, row := range rows {
		if row.k == k && row.v.id == id {
			superseded.Add(uint32(row.ordinal))
			return nil
		}
	}
	for _, r := range g.runs {
		found, err := r.run.Lookup(nil, k.key())
		if err != nil {
			return err
		}
		for _, f := range found {
			if f.VersionID == id {
				r.superseded.Add(uint32(f.Ordinal))
				return nil
			}
		}
	}
	versions, err := g.Snapshot().KeyLookup().Versions(k.key())
	if err != nil {
		return err
	}
	for _, v := range versions {
		if v.VersionID == id {
			g.Supersede(k.key(), v.Place)
			return nil
		}
	}
	panic(fmt.Sprintf("version %d of %v is nowhere", id, k))
}
