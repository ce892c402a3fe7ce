package engine

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// chosenRows are the versions that HistoryQuery.Of takes, by run and by generation of
// the head.
type chosenRows struct {
	runs map[*runState]*roaring.Bitmap
	gens map[*headGen]*roaring.Bitmap
}

// chooseHistory evaluates Of, in bounds of a client's search.
func (n *Snapshot) chooseHistory(ctx context.Context, q *HistoryQuery) error {
	if len(q.Of) == 0 {
		return nil // nothing, if it is not nil
	}
	scan, err := n.scan(ctx, ScanQuery{Of: q.Of, Versions: ScanAllOrDeleted, AsOf: n.historyLSN(q)}, false)
	if err != nil {
		return err
	}
	defer scan.search.end()
	q.chosen = chosenRows{runs: map[*runState]*roaring.Bitmap{}, gens: map[*headGen]*roaring.Bitmap{}}
	for i := range scan.chosen {
		if of := &scan.chosen[i]; of.src.run != nil {
			q.chosen.runs[of.src.run] = of.rows
		} else {
			q.chosen.gens[of.src.gen] = of.rows
		}
	}
	return nil
}

// ofRun is the rows of a run. Do not modify.
func (c *chosenRows) ofRun(r *runState) *roaring.Bitmap {
	if rows := c.runs[r]; rows != nil {
		return rows
	}
	return roaring.New()
}

// choosesHead tells whether an entry of the head is taken.
func (q *HistoryQuery) choosesHead(g *headGen, i int) bool {
	if q.Of == nil {
		return true
	}
	rows := q.chosen.gens[g]
	return rows != nil && rows.Contains(uint32(i))
}

// OrDeleted is where, and all deletions: those have nothing that a condition could be
// about. Versions that are lost have the same mark.
func OrDeleted(where *Expr) *Expr {
	deleted := &Expr{Op: Terms, Walks: []index.Walk{index.ExactWalk(index.ParamDeleted, nil)}, Name: "deleted"}
	return &Expr{Op: Or, Args: []*Expr{where, deleted}}
}
