package bulk

import (
	"cmp"
	"math"
	"slices"
	"sort"
)

// Bounds of the date index. The few versions that most keys have are looked
// through one by one, which is faster than any index.
const (
	// indexLinesMin lines of a key make an index pay.
	indexLinesMin = 16
	// indexTailMin versions are left out of it at least.
	indexTailMin = 64
	// indexTailShare lets the versions that are left out grow with the root of
	// those that are in: n lines in units of their own then cost about
	// n*sqrt(n), in looking through the rest and in merging it.
	indexTailShare = 16
)

// dateIndex finds versions of a long history by date and by number. It has the
// first covered versions of the history; the rest is looked through.
type dateIndex struct {
	covered  int
	entries  []dateEntry // by date, then by place in the history
	merged   []dateEntry // buffer
	versions map[int64]struct{}
}

// dateEntry is a version and what lies around it. Only positive versions
// count for what follows; -1, 0 and MaxInt64 stand for none.
type dateEntry struct {
	milli   int64
	version int64
	place   int32 // in the history
	from    int32 // this entry or the next one after it
	to      int32 // this entry or the next one before it; the first of its date
	highest int64 // version of this entry and all before
	lowest  int64 // version of this entry and all after
}

func (x *dateIndex) reset() {
	if x.covered == 0 {
		return
	}
	x.covered, x.entries, x.versions = 0, x.entries[:0], nil
}

// cover takes up a history that has grown enough.
func (x *dateIndex) cover(history []known) {
	tail := len(history) - x.covered
	if tail <= indexTailMin || tail*tail <= indexTailShare*x.covered {
		return
	}
	if x.versions == nil {
		x.versions = make(map[int64]struct{}, len(history))
	}
	from := len(x.entries)
	for i := x.covered; i < len(history); i++ {
		x.versions[history[i].version] = struct{}{}
		x.entries = append(x.entries, dateEntry{milli: history[i].at.Milli, version: history[i].version, place: int32(i)})
	}
	x.covered = len(history)
	slices.SortFunc(x.entries[from:], func(a, b dateEntry) int {
		return cmp.Or(cmp.Compare(a.milli, b.milli), cmp.Compare(a.place, b.place))
	})
	x.merge(from)
	x.link()
}

// merge merges the two sorted parts of the entries. Those of the second come
// later in the history.
func (x *dateIndex) merge(from int) {
	if from == 0 {
		return
	}
	out := slices.Grow(x.merged[:0], len(x.entries))
	old, fresh := x.entries[:from], x.entries[from:]
	for len(old) > 0 && len(fresh) > 0 {
		if old[0].milli <= fresh[0].milli {
			out, old = append(out, old[0]), old[1:]
		} else {
			out, fresh = append(out, fresh[0]), fresh[1:]
		}
	}
	out = append(append(out, old...), fresh...)
	x.entries, x.merged = out, x.entries
}

// link fills in what lies around each entry.
func (x *dateIndex) link() {
	entries := x.entries
	to, highest := int32(-1), int64(0)
	for i := range entries {
		e := &entries[i]
		if e.version > 0 {
			if to < 0 || entries[to].milli != e.milli {
				to = int32(i)
			}
			highest = max(highest, e.version)
		}
		e.to, e.highest = to, highest
	}
	from, lowest := int32(-1), int64(math.MaxInt64)
	for i := len(entries) - 1; i >= 0; i-- {
		e := &entries[i]
		if e.version > 0 {
			from, lowest = int32(i), min(lowest, e.version)
		}
		e.from, e.lowest = from, lowest
	}
}

// search is the number of the first entry whose date is not before milli.
func (x *dateIndex) search(milli int64) int {
	return sort.Search(len(x.entries), func(i int) bool { return x.entries[i].milli >= milli })
}

// dated lists the entries of a date, in the order of the history.
func (x *dateIndex) dated(milli int64) []dateEntry {
	first := x.search(milli)
	last := first
	for last < len(x.entries) && x.entries[last].milli == milli {
		last++
	}
	return x.entries[first:last]
}

// fits is resolver.fits for the covered versions.
func (x *dateIndex) fits(line *incoming) bool {
	if _, taken := x.versions[line.version]; taken {
		return false
	}
	if line.version <= 0 {
		return true
	}
	later := x.search(line.at.Milli + 1)
	if later > 0 && x.entries[later-1].highest > line.version {
		return false
	}
	return later == len(x.entries) || x.entries[later].lowest > line.version
}

// neighbours are the positive versions next above and below a date, which are
// known{} when there is none.
func (x *dateIndex) neighbours(history []known, milli int64) (above, below known) {
	if i := x.search(milli + 1); i < len(x.entries) && x.entries[i].from >= 0 {
		above = history[x.entries[x.entries[i].from].place]
	}
	if i := x.search(milli); i > 0 && x.entries[i-1].to >= 0 {
		below = history[x.entries[x.entries[i-1].to].place]
	}
	return above, below
}
