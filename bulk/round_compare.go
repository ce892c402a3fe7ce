package bulk

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"kiln/engine"
	"kiln/fhir"
	"kiln/index"
)

// window holds keys whose rows must be compared with older contents. The
// comparisons are done in the order in which the old bodies lie in the store,
// so that each block is read and decoded once, and the keys are resolved after.
type window struct {
	bytes    int64
	keys     []windowKey
	arena    []byte // key texts
	lines    []lineAt
	versions []engine.KeyVersion
	compares []comparison
	dates    []int32 // of the key being added: its versions by date
}

// windowKey is one key; its slices are ends in the window's arenas.
type windowKey struct {
	key, lines, versions, compares span
}

// span is a part of an arena.
type span struct{ from, to int32 }

func spanOf[T any](arena []T, s span) []T { return arena[s.from:s.to:s.to] }

// comparison asks whether a row has the content of a stored version.
type comparison struct {
	at      lineAt
	line    int32 // index in its key
	version int32 // index in its key's versions
	owner   int32 // the key in the window
	same    bool
}

// Bytes in memory of the window's parts, for its bound.
const (
	windowKeyBytes     = 32
	windowLineBytes    = 8
	windowVersionBytes = 56
	comparisonBytes    = 24
)

// add takes the key at hand, its lines and those of its versions that matter.
func (w *window) add(m *merge, key []byte, versions []engine.KeyVersion) {
	k := windowKey{
		key:      span{int32(len(w.arena)), int32(len(w.arena) + len(key))},
		lines:    span{int32(len(w.lines)), int32(len(w.lines) + len(m.lines))},
		versions: span{from: int32(len(w.versions))},
		compares: span{from: int32(len(w.compares))},
	}
	w.arena = append(w.arena, key...)
	w.lines = append(w.lines, m.lines...)
	w.versions = append(w.versions, versions...)
	k.versions.to = int32(len(w.versions))
	w.addComparisons(m, int32(len(w.keys)), w.versions[k.versions.from:])
	k.compares.to = int32(len(w.compares))
	w.keys = append(w.keys, k)
	w.bytes += int64(len(key)) + windowKeyBytes + int64(len(m.lines))*windowLineBytes +
		int64(k.versions.to-k.versions.from)*windowVersionBytes + int64(k.compares.to-k.compares.from)*comparisonBytes
}

// addComparisons lists what the resolver is likely to ask: the first undated
// line against the current version, and dated lines against versions of their
// date. What else it asks is read on the spot. They are in the order of lines.
func (w *window) addComparisons(m *merge, owner int32, versions []engine.KeyVersion) {
	w.sortDates(versions)
	undated := false
	for i, at := range m.lines {
		r := m.row(at)
		add := func(version int32) {
			w.compares = append(w.compares, comparison{at: at, line: int32(i), version: version, owner: owner})
		}
		if r.class != classUndated {
			for _, n := range w.dated(versions, r.milli) {
				add(n)
			}
			continue
		}
		for n := range versions {
			if !undated && !r.deleted && versions[n].Current {
				add(int32(n))
			}
		}
		undated = true
	}
}

// sortDates sorts a key's versions by date, for dated.
func (w *window) sortDates(versions []engine.KeyVersion) {
	w.dates = w.dates[:0]
	for n := range versions {
		w.dates = append(w.dates, int32(n))
	}
	slices.SortFunc(w.dates, func(a, b int32) int {
		return cmp.Or(cmp.Compare(versions[a].LastUpdated.Milli, versions[b].LastUpdated.Milli), cmp.Compare(a, b))
	})
}

// dated lists the versions of a date, in their order.
func (w *window) dated(versions []engine.KeyVersion, milli int64) []int32 {
	first := sort.Search(len(w.dates), func(i int) bool { return versions[w.dates[i]].LastUpdated.Milli >= milli })
	last := first
	for last < len(w.dates) && versions[w.dates[last]].LastUpdated.Milli == milli {
		last++
	}
	return w.dates[first:last]
}

// findComparison gives the comparison of a line with a stored version; nil when
// it was not foreseen. compares are one key's.
func findComparison(compares []comparison, line int, v known) *comparison {
	first := sort.Search(len(compares), func(i int) bool { return int(compares[i].line) >= line })
	for i := first; i < len(compares) && int(compares[i].line) == line; i++ {
		if ^compares[i].version == v.ref {
			return &compares[i]
		}
	}
	return nil
}

// reset empties the window and keeps its memory.
func (w *window) reset() {
	w.bytes = 0
	w.keys, w.arena, w.lines = w.keys[:0], w.arena[:0], w.lines[:0]
	w.versions, w.compares = w.versions[:0], w.compares[:0]
}

// flushWindow compares and resolves everything in the window.
func (m *merge) flushWindow(ctx context.Context) error {
	w := &m.window
	if len(w.keys) == 0 {
		return nil
	}
	if err := m.compareAll(ctx); err != nil {
		return err
	}
	for _, k := range w.keys {
		compares := spanOf(w.compares, k.compares)
		lines, versions := spanOf(w.lines, k.lines), spanOf(w.versions, k.versions)
		key := spanOf(w.arena, k.key)
		same := func(line int, v known) (bool, error) {
			if c := findComparison(compares, line, v); c != nil {
				return c.same, nil
			}
			return m.compareNow(key, lines, versions, line, v)
		}
		if err := m.resolveKey(key, versions, lines, same); err != nil {
			return err
		}
	}
	w.reset()
	return nil
}

// compareAll answers the window's comparisons, each worker's rows by one
// goroutine, since a builder reads back for one at a time.
func (m *merge) compareAll(ctx context.Context) error {
	byWorker := make([][]int32, len(m.round.workers))
	for i := range m.window.compares {
		worker := m.window.compares[i].at.worker
		byWorker[worker] = append(byWorker[worker], int32(i))
	}
	group, ctx := errgroup.WithContext(ctx)
	turns := &m.round.job.manager.turns
	turns.give() // this goroutine's, which only waits
	for _, list := range byWorker {
		group.Go(func() error {
			if err := turns.take(ctx); err != nil {
				return err
			}
			defer turns.give()
			return m.compareSome(ctx, list)
		})
	}
	err := group.Wait()
	// run gives it back, after an error too.
	return errors.Join(err, turns.take(context.WithoutCancel(ctx)))
}

// placedComparison is a comparison by where its stored version lies.
type placedComparison struct {
	place engine.Place
	i     int32 // in the window
}

func (m *merge) compareSome(ctx context.Context, list []int32) error {
	w := &m.window
	order := make([]placedComparison, len(list))
	for n, i := range list {
		c := &w.compares[i]
		order[n] = placedComparison{spanOf(w.versions, w.keys[c.owner].versions)[c.version].Place, i}
	}
	slices.SortFunc(order, func(a, b placedComparison) int {
		return cmp.Or(cmp.Compare(a.place.Run, b.place.Run), cmp.Compare(a.place.Ordinal, b.place.Ordinal))
	})
	for len(order) > 0 {
		n := 1
		for n < len(order) && order[n].place.Run == order[0].place.Run {
			n++
		}
		var err error
		if order[0].place.Run == 0 {
			err = m.compareWithHead(ctx, order[:n])
		} else {
			err = m.compareWithRun(ctx, order[:n])
		}
		if err != nil {
			return err
		}
		order = order[n:]
	}
	return nil
}

// compareWithHead reads one version at a time; the head is small.
func (m *merge) compareWithHead(ctx context.Context, order []placedComparison) error {
	w := &m.window
	for n, p := range order {
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		c := &w.compares[p.i]
		k := &w.keys[c.owner]
		same, err := m.sameAsStored(spanOf(w.arena, k.key), c.at, spanOf(w.versions, k.versions)[c.version])
		if err != nil {
			return err
		}
		c.same = same
	}
	return nil
}

// compareWithRun streams the versions of one run.
func (m *merge) compareWithRun(ctx context.Context, order []placedComparison) error {
	want := roaring.New()
	for _, p := range order {
		want.Add(uint32(p.place.Ordinal))
	}
	next := 0
	err := m.snapshot.Bodies(ctx, order[0].place.Run, want, func(o index.Ordinal, old index.Stored) error {
		for ; next < len(order) && order[next].place.Ordinal == o; next++ {
			c := &m.window.compares[order[next].i]
			fresh, err := m.round.workers[c.at.worker].builder.Body(c.at.ordinal)
			if err != nil {
				return fmt.Errorf("cannot read back a line: %w", err)
			}
			c.same = sameContent(fresh.Body, old.Body)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot compare with stored versions: %w", err)
	}
	if next != len(order) {
		panic("BUG: a version to compare with was not delivered")
	}
	return nil
}

// sameAsStored compares a row with a version of the store.
func (m *merge) sameAsStored(key []byte, at lineAt, v engine.KeyVersion) (bool, error) {
	old, err := m.snapshot.BodyAt(key, v)
	if err != nil {
		return false, fmt.Errorf("cannot read a stored version: %w", err)
	}
	fresh, err := m.round.workers[at.worker].builder.Body(at.ordinal)
	if err != nil {
		return false, fmt.Errorf("cannot read back a line: %w", err)
	}
	return sameContent(fresh.Body, old.Body), nil
}

// sameContent is fhir.EqualContent with its usual answer first.
func sameContent(a, b []byte) bool { return bytes.Equal(a, b) || fhir.EqualContent(a, b) }

// compareNow answers a question that was not foreseen: lines of one key in
// several units, mostly.
func (m *merge) compareNow(key []byte, lines []lineAt, versions []engine.KeyVersion, line int, v known) (bool, error) {
	if v.ref < 0 {
		return m.sameAsStored(key, lines[line], versions[^v.ref])
	}
	earlier := lines[v.ref]
	stored, err := m.round.workers[earlier.worker].builder.Body(earlier.ordinal)
	if err != nil {
		return false, fmt.Errorf("cannot read back a line: %w", err)
	}
	left := bytes.Clone(stored.Body)
	fresh, err := m.round.workers[lines[line].worker].builder.Body(lines[line].ordinal)
	if err != nil {
		return false, fmt.Errorf("cannot read back a line: %w", err)
	}
	return sameContent(left, fresh.Body), nil
}
