package engine

import (
	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// voidRows are the rows of a run that were taken out: by a write that raced with
// the import, before anybody saw them, or by a purge, which snapshots from
// before do not see. Never changed; nil is none.
type voidRows struct {
	all *roaring.Bitmap // every void row
	// purges are the rows of all that snapshots before an LSN still see, in LSN
	// order. A row is purged once at most.
	purges []bulkMark
}

func newVoidRows(all *roaring.Bitmap) *voidRows {
	if all == nil || all.IsEmpty() {
		return nil
	}
	return &voidRows{all: all}
}

// contains tells whether a row is void at an LSN. It costs more the more purges
// are younger than that.
func (v *voidRows) contains(o index.Ordinal, lsn uint64) bool {
	if v == nil || !v.all.Contains(uint32(o)) {
		return false
	}
	for i := len(v.purges) - 1; i >= 0 && v.purges[i].lsn > lsn; i-- {
		if v.purges[i].ordinals.Contains(uint32(o)) {
			return false
		}
	}
	return true
}

// at is the set of rows that are void at an LSN; nil: none. Do not modify.
func (v *voidRows) at(lsn uint64) *roaring.Bitmap {
	if v == nil {
		return nil
	}
	rows := v.all
	for i := len(v.purges) - 1; i >= 0 && v.purges[i].lsn > lsn; i-- {
		rows = roaring.AndNot(rows, v.purges[i].ordinals)
	}
	return rows
}

// with adds rows that are void from lsn on.
func (v *voidRows) with(lsn uint64, ordinals *roaring.Bitmap) *voidRows {
	added := bulkMark{lsn: lsn, ordinals: ordinals}
	if v == nil {
		return &voidRows{all: ordinals, purges: []bulkMark{added}}
	}
	return &voidRows{all: roaring.Or(v.all, ordinals), purges: append(v.purges[:len(v.purges):len(v.purges)], added)}
}

// folded forgets what only snapshots before lsn need.
func (v *voidRows) folded(lsn uint64) *voidRows {
	if v == nil || len(v.purges) == 0 || v.purges[0].lsn > lsn {
		return v
	}
	rest := v.purges
	for len(rest) > 0 && rest[0].lsn <= lsn {
		rest = rest[1:]
	}
	return &voidRows{all: v.all, purges: append([]bulkMark(nil), rest...)}
}

// isVoid tells whether a row was taken out, as of an LSN.
func (r *runState) isVoid(o index.Ordinal, lsn uint64) bool { return r.void.Load().contains(o, lsn) }

// voidAt is the set of rows that were taken out up to an LSN; nil: none. Do not modify.
func (r *runState) voidAt(lsn uint64) *roaring.Bitmap { return r.void.Load().at(lsn) }

// visible is the set of rows that exist at an LSN: live and not void. Do not modify.
func (r *runState) visible(lsn uint64) *roaring.Bitmap {
	void := r.voidAt(lsn)
	if void == nil {
		return r.run.Live()
	}
	return roaring.AndNot(r.run.Live(), void)
}

// purge takes rows out from lsn on. Only the committer and recovery call it,
// before lsn becomes visible. The bitmap is not changed any more.
func (r *runState) purge(lsn uint64, ordinals *roaring.Bitmap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.void.Store(r.void.Load().with(lsn, ordinals))
}

// trimVoid forgets void rows that the run does not have: a merge left them out.
// The run is open, and nobody reads it yet.
func (r *runState) trimVoid() {
	if v := r.void.Load(); v != nil {
		r.void.Store(newVoidRows(roaring.And(v.all, r.run.Live())))
	}
}
