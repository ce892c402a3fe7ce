package engine

import (
	"context"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// Bodies streams the bodies of versions of one run, in file order: each block
// is read and decoded once, and none goes through the cache. Importers compare
// many lines with what is stored. What fn gets holds until it returns.
func (n *Snapshot) Bodies(ctx context.Context, id index.RunID, want *roaring.Bitmap, fn func(index.Ordinal, index.Stored) error) error {
	r := n.view.run(id)
	if r == nil {
		return fmt.Errorf("cannot read bodies of run %016x: it is not in this snapshot", uint64(id))
	}
	return r.run.Scan(ctx, want, func(o index.Ordinal, _ index.Row, stored index.Stored) error { return fn(o, stored) })
}
