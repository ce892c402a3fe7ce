package bulk

import (
	"fmt"
	"slices"

	"kiln/engine"
	"kiln/fhir"
	"kiln/index"
)

// resolveConflicts is called in the commit slot with the keys that somebody
// else wrote after the round's snapshot: their rows are resolved again, as if
// the round came after those writes.
func (m *merge) resolveConflicts(conflicts []engine.Conflict, next *progress) error {
	workers := make(map[index.RunID]int32, len(m.round.workers))
	for i, w := range m.round.workers {
		workers[w.builder.ID()] = int32(i)
	}
	refused := false
	for i := range conflicts {
		some, err := m.resolveConflict(&conflicts[i], workers)
		if err != nil {
			return err
		}
		refused = refused || some
	}
	if !refused {
		return nil
	}
	return m.round.writeRefusals(next)
}

// resolveConflict decides about one key's rows; refused tells whether one of
// them is now refused.
func (m *merge) resolveConflict(c *engine.Conflict, workers map[index.RunID]int32) (refused bool, err error) {
	at := func(i int32) lineAt {
		worker, ok := workers[c.Rows[i].Place.Run]
		if !ok {
			panic("BUG: a conflict of a run that is not of the round")
		}
		return lineAt{worker, c.Rows[i].Place.Ordinal}
	}
	order := make([]int32, len(c.Rows))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return m.compareLines(at(a), at(b)) })

	r := &m.resolver
	r.lines, r.history = r.lines[:0], r.history[:0]
	for _, i := range order {
		r.lines = append(r.lines, m.incoming(m.row(at(i))))
	}
	for i, v := range c.Versions {
		r.history = append(r.history, known{version: v.VersionID, at: v.LastUpdated, deleted: v.Deleted, ref: ^int32(i)})
	}
	r.same = func(line int, v known) (bool, error) { return m.sameInConflict(c, order, line, v) }
	if err := r.resolve(); err != nil {
		return false, err
	}
	for n, i := range order {
		refused = m.carryOutConflict(c, &c.Rows[i], m.row(at(i)), &r.outcomes[n]) || refused
	}
	return refused, nil
}

// carryOutConflict applies a verdict to a row that had become a version.
func (m *merge) carryOutConflict(c *engine.Conflict, row *engine.ConflictRow, r *row, o *outcome) (refused bool) {
	switch o.verdict {
	case verdictKept:
		row.VersionID, row.LastUpdated = o.version, o.at
		return false
	case verdictSame:
		row.Drop = true
		return false
	case verdictDuplicate:
		m.refuse(c.Key, r, refusedDuplicate)
	case verdictConflict:
		m.refuse(c.Key, r, refusedVersion)
	default:
		panic("BUG: a line was not resolved")
	}
	row.Drop = true
	m.loadedRows[m.round.chunks[r.chunk].input]--
	return true
}

// sameInConflict compares a row with an earlier row or a version of the store.
func (m *merge) sameInConflict(c *engine.Conflict, order []int32, line int, v known) (bool, error) {
	fresh := c.Rows[order[line]].Stored.Body
	if v.ref >= 0 {
		return sameContent(fresh, c.Rows[order[v.ref]].Stored.Body), nil
	}
	stored, err := m.conflictBody(c, c.Versions[^v.ref])
	if err != nil {
		return false, fmt.Errorf("cannot read a version that came in between: %w", err)
	}
	return fhir.EqualContent(fresh, stored.Body), nil
}

// conflictBody reads a version on a snapshot of now, since it may be newer
// than the round's.
func (m *merge) conflictBody(c *engine.Conflict, v engine.KeyVersion) (engine.Version, error) {
	now, err := m.round.job.store.Snapshot()
	if err != nil {
		return engine.Version{}, err
	}
	defer now.Release()
	return now.BodyAt(c.Key, v)
}
