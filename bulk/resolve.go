package bulk

import (
	"cmp"
	"slices"

	"kiln/fhir"
)

// lineClass is what a line says about its version.
type lineClass uint8

const (
	classUndated   lineClass = iota // no kept lastUpdated: the store dates and numbers it
	classDated                      // lastUpdated kept, the store numbers it
	classVersioned                  // lastUpdated and versionId kept
)

// incoming is one line of a key, as the resolver sees it.
type incoming struct {
	batch   int32 // the unit; lines of one batch resolve together
	class   lineClass
	deleted bool
	version int64        // classVersioned
	at      fhir.Instant // classDated, classVersioned
}

// number is the version that deduplication compares; a line without one
// counts as 1.
func (in *incoming) number() int64 {
	if in.class == classVersioned {
		return in.version
	}
	return 1
}

// known is a version that a key has: of the store, or a line resolved before.
type known struct {
	version int64
	at      fhir.Instant
	deleted bool
	ref     int32 // the line's index, or ^index of the store's version
}

// verdict is what becomes of a line.
type verdict uint8

const (
	verdictOpen      verdict = iota
	verdictKept              // a new version
	verdictSame              // loaded, but nothing is written
	verdictDuplicate         // refused, text D
	verdictConflict          // refused, text V
)

// outcome is the verdict on one line and, when kept, its version.
type outcome struct {
	verdict verdict
	version int64
	at      fhir.Instant
}

// sameFunc tells whether a line has the same content as a known version
// (meta.versionId, meta.lastUpdated and the deleted state apart).
type sameFunc func(line int, k known) (bool, error)

// resolver decides what the lines of one key become: sections 3.3 and 3.4 of
// the contract. It is a pure function of the key's versions and lines; its
// buffers are kept between keys.
type resolver struct {
	mode          Mode
	allowNegative bool
	instant       fhir.Instant // given to lines that keep no date
	same          sameFunc

	lines    []incoming
	outcomes []outcome
	history  []known // of the store, then of the lines kept so far
	order    []int32

	// What history says as a whole, kept up to date by keep.
	best   known // the highest positive version, the first of equals; or known{}
	lowest int64 // the lowest negative version, or 0
	dates  dateIndex
}

// resolve fills r.outcomes for r.lines (in request order) against r.history
// (the store's versions in any order, ref = ^index), which grows by what is kept.
func (r *resolver) resolve() error {
	r.outcomes = slices.Grow(r.outcomes[:0], len(r.lines))[:len(r.lines)]
	clear(r.outcomes)
	r.best, r.lowest = known{}, 0
	r.dates.reset()
	for _, k := range r.history {
		r.note(k)
	}
	if r.mode == InitialLoad {
		r.resolveInitial()
		return nil
	}
	for from := 0; from < len(r.lines); {
		to := from + 1
		for to < len(r.lines) && r.lines[to].batch == r.lines[from].batch {
			to++
		}
		if err := r.resolveBatch(from, to); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// resolveInitial keeps the first line of a key that has no current version.
// Negative versions are none.
func (r *resolver) resolveInitial() {
	for i := range r.lines {
		if _, ok := r.current(); ok {
			r.outcomes[i].verdict = verdictDuplicate
			continue
		}
		r.keep(i, 1, r.instant)
	}
}

// resolveBatch takes the lines [from, to) of one unit: first those with
// versions, then those with dates, then the undated one.
func (r *resolver) resolveBatch(from, to int) error {
	stored := len(r.history)
	r.coverHistory()
	r.dropRepeated(from, to)
	if err := r.dropAlreadyStored(from, to, stored); err != nil {
		return err
	}
	r.resolveVersioned(from, to, stored)
	r.resolveDated(from, to)
	return r.resolveUndated(from, to)
}

// dropRepeated keeps one line of each lastUpdated (undated lines: one in all):
// that with the largest versionId by number, the first of equals.
func (r *resolver) dropRepeated(from, to int) {
	if to-from == 1 {
		return
	}
	r.order = r.order[:0]
	for i := from; i < to; i++ {
		r.order = append(r.order, int32(i))
	}
	slices.SortFunc(r.order, func(a, b int32) int {
		return cmp.Or(r.compareDates(a, b), cmp.Compare(r.lines[b].number(), r.lines[a].number()), cmp.Compare(a, b))
	})
	for n := 1; n < len(r.order); n++ {
		if r.compareDates(r.order[n-1], r.order[n]) == 0 {
			r.outcomes[r.order[n]].verdict = verdictDuplicate
		}
	}
}

// compareDates orders lines by lastUpdated, all undated ones equal and first.
func (r *resolver) compareDates(i, j int32) int {
	a, b := &r.lines[i], &r.lines[j]
	if a.class == classUndated || b.class == classUndated {
		return cmp.Compare(min(a.class, classDated), min(b.class, classDated))
	}
	return cmp.Compare(a.at.Milli, b.at.Milli)
}

// resolveUndated is an update as the API does it.
func (r *resolver) resolveUndated(from, to int) error {
	for i := from; i < to; i++ {
		if r.outcomes[i].verdict != verdictOpen {
			continue
		}
		current, ok := r.current()
		if !ok {
			r.keep(i, 1, r.instant)
			continue
		}
		if !r.lines[i].deleted {
			same, err := r.same(i, current)
			if err != nil {
				return err
			}
			if same {
				r.outcomes[i].verdict = verdictSame
				continue
			}
		}
		at := r.instant
		at.Milli = max(at.Milli, current.at.Milli+1)
		r.keep(i, current.version+1, at)
	}
	return nil
}

// current is the highest positive version: what a read returns.
func (r *resolver) current() (known, bool) { return r.best, r.best.version > 0 }

// note takes a version of the history into account.
func (r *resolver) note(k known) {
	if k.version > r.best.version {
		r.best = k
	}
	r.lowest = min(r.lowest, k.version)
}

// coverHistory lets the index catch up, when there are lines enough to use it.
// Until the next call the history before this point is all that it answers for.
func (r *resolver) coverHistory() {
	if len(r.lines) >= indexLinesMin {
		r.dates.cover(r.history)
	}
}

// keep makes a line a version.
func (r *resolver) keep(line int, version int64, at fhir.Instant) {
	r.outcomes[line] = outcome{verdictKept, version, at}
	k := known{version: version, at: at, deleted: r.lines[line].deleted, ref: int32(line)}
	r.history = append(r.history, k)
	r.note(k)
}
