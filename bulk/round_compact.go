package bulk

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// compactBelow: a run in which fewer than one row of so many is left is
// written anew without the others, whose bodies would stay in it for nothing.
// An import that repeats another leaves few.
const compactBelow = 4

// compact moves the rows that became versions to a new run and puts it in the
// place of the worker's.
func (m *merge) compact(worker int, w *lineScanner) error {
	// By the same fields: what was accepted by them is accepted again.
	fresh, err := m.round.job.newLineScanner(w.builder.Extraction())
	if err != nil {
		return err
	}
	superseded, err := m.copyRows(worker, w, fresh)
	if err != nil {
		return fmt.Errorf("%w (and removing it: %v)", err, fresh.builder.Abort())
	}
	if err := w.builder.Abort(); err != nil {
		return fmt.Errorf("%w (and removing its copy: %v)", err, fresh.builder.Abort())
	}
	w.builder, w.rows = fresh.builder, fresh.rows
	m.superseded[worker] = superseded
	return nil
}

func (m *merge) copyRows(worker int, w, fresh *lineScanner) (*roaring.Bitmap, error) {
	superseded := roaring.New()
	for ordinal := range w.rows {
		r := &w.rows[ordinal]
		if !r.kept {
			continue
		}
		if err := copyRow(w, fresh, index.Ordinal(ordinal)); err != nil {
			return nil, err
		}
		if old := m.superseded[worker]; old != nil && old.Contains(uint32(ordinal)) {
			superseded.Add(uint32(len(fresh.rows)))
		}
		fresh.rows = append(fresh.rows, *r)
	}
	fresh.builder.SortKeys()
	for ordinal := range fresh.rows {
		fresh.builder.SetRow(index.Ordinal(ordinal), fresh.rows[ordinal].columns())
	}
	return superseded, nil
}

// copyRow scans a body again for its terms and appends it.
func copyRow(w, fresh *lineScanner, o index.Ordinal) error {
	stored, err := w.builder.Body(o)
	if err != nil {
		return err
	}
	resource, err := fresh.scanner.Scan(stored.Body)
	if err != nil {
		return fmt.Errorf("cannot scan a body again: %w", err)
	}
	if w.rows[o].deleted {
		fresh.builder.DiscardTerms()
	}
	_, err = fresh.builder.Append(resource.Type, resource.ID, resource.IDAt, stored.Body, stored.Splice)
	return err
}

// columns is the version that a row became.
func (r *row) columns() index.Row {
	c := index.Row{Type: r.typ, VersionID: r.version, LastUpdated: fhir.Instant{Milli: r.milli, OffsetMinutes: r.zone}}
	if r.deleted {
		c.Flags = index.FlagDeleted
	}
	return c
}
