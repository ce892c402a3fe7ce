package bulk

import (
	"cmp"
	"slices"
	"sort"
)

// dropAlreadyStored finds the lines whose date the key already has: the same
// version again counts as loaded, anything else is a conflict. Only the first
// stored versions of r.history count: lines of this batch are compared with
// each other by dropRepeated.
func (r *resolver) dropAlreadyStored(from, to, stored int) error {
	for i := from; i < to; i++ {
		line := &r.lines[i]
		if line.class == classUndated || r.outcomes[i].verdict != verdictOpen {
			continue
		}
		if err := r.compareWithStored(i, stored); err != nil {
			return err
		}
	}
	return nil
}

// compareWithStored judges a line by the stored versions of its date.
func (r *resolver) compareWithStored(i, stored int) error {
	milli := r.lines[i].at.Milli
	for _, e := range r.dates.dated(milli) {
		if done, err := r.compareWithOne(i, r.history[e.place]); done || err != nil {
			return err
		}
	}
	for _, k := range r.history[r.dates.covered:stored] {
		if k.at.Milli != milli {
			continue
		}
		if done, err := r.compareWithOne(i, k); done || err != nil {
			return err
		}
	}
	return nil
}

// compareWithOne judges a line by a stored version of its date; done when it
// is that version.
func (r *resolver) compareWithOne(i int, k known) (done bool, err error) {
	same, err := r.sameVersion(i, k)
	if err != nil {
		return false, err
	}
	r.outcomes[i].verdict = verdictConflict
	if same {
		r.outcomes[i].verdict = verdictSame
	}
	return same, nil
}

// sameVersion tells whether a dated line repeats a known version.
func (r *resolver) sameVersion(i int, k known) (bool, error) {
	line := &r.lines[i]
	if line.deleted != k.deleted || line.class == classVersioned && line.version != k.version {
		return false, nil
	}
	return r.same(i, k)
}

// byDate lists the open lines of a class, latest first.
func (r *resolver) byDate(from, to int, class lineClass) []int32 {
	r.order = r.order[:0]
	for i := from; i < to; i++ {
		if r.lines[i].class == class && r.outcomes[i].verdict == verdictOpen {
			r.order = append(r.order, int32(i))
		}
	}
	slices.SortFunc(r.order, func(a, b int32) int { return cmp.Compare(r.lines[b].at.Milli, r.lines[a].at.Milli) })
	return r.order
}

// resolveVersioned is class A: versions must be free, and fall with their dates,
// among the lines of the batch and against both neighbours in history.
func (r *resolver) resolveVersioned(from, to, stored int) {
	order := r.byDate(from, to, classVersioned)
	r.dropRepeatedVersions(order)
	above := int64(0) // version of the line kept before, which is later; 0: none
	for _, i := range order {
		line := &r.lines[i]
		if r.outcomes[i].verdict != verdictOpen {
			continue
		}
		if line.version == 0 {
			r.outcomes[i].verdict = verdictDuplicate
			continue
		}
		if line.version < 0 && !r.allowNegative || line.version > 0 && above != 0 && line.version >= above {
			r.outcomes[i].verdict = verdictConflict
			continue
		}
		if line.version > 0 {
			above = line.version
		}
		if r.fits(line, stored) {
			r.keep(int(i), line.version, line.at)
		} else {
			r.outcomes[i].verdict = verdictConflict
		}
	}
}

// dropRepeatedVersions keeps the latest line of each version. order has the
// latest first.
func (r *resolver) dropRepeatedVersions(order []int32) {
	if len(order) < 2 {
		return
	}
	seen := make(map[int64]bool, len(order))
	for _, i := range order {
		version := r.lines[i].version
		if seen[version] {
			r.outcomes[i].verdict = verdictDuplicate
		}
		seen[version] = true
	}
}

// fits tells whether a version is free, and every positive version that is
// later is higher and every earlier one is lower.
func (r *resolver) fits(line *incoming, stored int) bool {
	if r.dates.covered > 0 && !r.dates.fits(line) {
		return false
	}
	for _, k := range r.history[r.dates.covered:stored] {
		if k.version == line.version {
			return false
		}
		if line.version > 0 && k.version > 0 && (k.at.Milli > line.at.Milli) != (k.version > line.version) {
			return false
		}
	}
	return true
}

// resolveDated is class B: lines from the current date on get the next
// versions, older ones a free number between their neighbours, counted down
// from the later one, or a negative number.
func (r *resolver) resolveDated(from, to int) {
	order := r.byDate(from, to, classDated)
	if len(order) == 0 {
		return
	}
	current, ok := r.current()
	newer := len(order)
	if ok {
		newer = sort.Search(len(order), func(n int) bool { return r.lines[order[n]].at.Milli < current.at.Milli })
	}
	r.coverHistory()
	r.numberLate(order[newer:], len(r.history), r.lowest)
	version := current.version
	for n := newer - 1; n >= 0; n-- {
		version++
		r.keep(int(order[n]), version, r.lines[order[n]].at)
	}
}

// numberLate numbers the lines older than the current version, latest first.
// The neighbours are versions known before this step.
func (r *resolver) numberLate(order []int32, knownBefore int, lowest int64) {
	for n, i := range order {
		line, nth := &r.lines[i], int64(n+1)
		above, below := r.neighbours(line.at.Milli, knownBefore)
		switch {
		case above-below > nth:
			r.keep(int(i), above-nth, line.at)
		case r.allowNegative:
			r.keep(int(i), lowest-nth, line.at)
		default:
			r.outcomes[i].verdict = verdictConflict
		}
	}
}

// neighbours are the positive versions next above and below a date; 0: none.
func (r *resolver) neighbours(milli int64, knownBefore int) (above, below int64) {
	up, down := r.dates.neighbours(r.history, milli)
	for _, k := range r.history[r.dates.covered:knownBefore] {
		switch {
		case k.version <= 0:
		case k.at.Milli > milli && (up.version == 0 || k.at.Milli < up.at.Milli):
			up = k
		case k.at.Milli < milli && (down.version == 0 || k.at.Milli > down.at.Milli):
			down = k
		}
	}
	return up.version, down.version
}
