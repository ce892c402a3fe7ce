package engine

import (
	"context"
	"fmt"

	"kiln/fhir"
	"kiln/index"
)

// Matches tells whether an expression chooses a version by what is in it: an older one
// too, and one that is yet to be written. Keys are compared with its type and id. It
// costs the version's search terms, and no look into the store. Errors as for Search.
func (n *Snapshot) Matches(ctx context.Context, v *Version, where *Expr) (bool, error) {
	s, err := n.newSearch(ctx, &Query{Where: where})
	if err != nil {
		return false, fmt.Errorf("cannot judge %v/%s: %w", v.Type, v.ID, err)
	}
	defer s.end()
	table := index.NewMemoryTerms()
	if err := n.s.VersionTerms(v, table.AddTerm); err != nil {
		return false, err
	}
	table.AddRow(index.Row{Type: v.Type, VersionID: v.VersionID, LastUpdated: v.LastUpdated, LSN: v.LSN})
	table.Commit(0)
	whole := heldPart{Part{Type: v.Type, ID: string(v.ID), Body: v.Body}, &holder{version: *v}}
	chunk := &containedChunk{terms: table, parts: []heldPart{whole}, whole: true}
	rows, err := chunk.eval(s, where, nil)
	if err != nil {
		return false, fmt.Errorf("cannot judge %v/%s: %w", v.Type, v.ID, err)
	}
	return !rows.IsEmpty(), nil
}

// LastLive is the newest version of a resource that is no deletion and was not lost,
// of those with a number below before (0: of all): what a deleted resource was. ErrNotFound.
func (n *Snapshot) LastLive(t fhir.TypeCode, id []byte, before int64) (Version, error) {
	var best found
	var rowErr error
	key := index.AppendKey(make([]byte, 0, keyBytesTypical), t, id)
	err := n.versions(key, func(f found) bool {
		if f.versionID <= best.versionID || before != 0 && f.versionID >= before {
			return true
		}
		var row index.Row
		if row, rowErr = f.row(); rowErr != nil {
			return false
		}
		if row.Flags&(index.FlagDeleted|index.FlagLost) == 0 {
			best = f
		}
		return true
	})
	switch {
	case err != nil:
		return Version{}, err
	case rowErr != nil:
		return Version{}, rowErr
	case !best.ok():
		return Version{}, ErrNotFound
	}
	return n.read(best)
}
