package bulk

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"kiln/engine"
	"kiln/fhir"
	"kiln/index"
)

// merge resolves the sorted keys of a round's runs against the store: every
// row gets its version or is dropped.
type merge struct {
	round      *round
	ingest     *engine.Ingest
	snapshot   *engine.Snapshot
	lookup     *engine.KeyLookup
	resolver   resolver
	cursors    []*mergeCursor
	superseded []*roaring.Bitmap // by worker; nil: none
	live       []int             // by worker: rows that became versions
	runs       int               // handed to the store
	batch      keyBatch
	lines      []lineAt // of the key at hand
	window     window

	loadedRows []int64 // by input: rows that count as loaded
}

// lineAt is a row: its worker and its ordinal in the worker's run.
type lineAt struct {
	worker  int32
	ordinal index.Ordinal
}

// mergeCursor is one run's sorted keys; key is nil at the end.
type mergeCursor struct {
	cursor *index.KeyCursor
	key    []byte
}

func (c *mergeCursor) next() {
	c.key = nil
	if c.cursor.Next() {
		c.key = c.cursor.Key()
	}
}

func (r *round) newMerge(ingest *engine.Ingest) *merge {
	m := &merge{
		round: r, ingest: ingest, snapshot: ingest.Snapshot(), lookup: ingest.Snapshot().KeyLookup(),
		superseded: make([]*roaring.Bitmap, len(r.workers)), live: make([]int, len(r.workers)),
		loadedRows: make([]int64, len(r.job.request.Inputs)),
	}
	m.resolver = resolver{mode: r.job.request.Mode, allowNegative: r.job.request.AllowNegativeVersions, instant: ingest.Instant()}
	return m
}

// sortKeys sorts each run's keys, all at once.
func (r *round) sortKeys(ctx context.Context) error {
	turns := &r.job.manager.turns
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range r.workers {
		group.Go(func() error {
			if err := turns.take(ctx); err != nil {
				return err
			}
			defer turns.give()
			w.builder.SortKeys()
			return nil
		})
	}
	return group.Wait()
}

// run walks all keys in order.
func (m *merge) run(ctx context.Context) error {
	turns := &m.round.job.manager.turns
	if err := turns.take(ctx); err != nil {
		return err
	}
	defer turns.give()
	for _, w := range m.round.workers {
		c := &mergeCursor{cursor: w.builder.KeyCursor()}
		c.next()
		m.cursors = append(m.cursors, c)
	}
	for m.nextBatch() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.lookup.Probe(m.batch.keys)
		for i := range m.batch.keys {
			if err := m.key(i); err != nil {
				return err
			}
			if m.window.bytes > windowBytesMax {
				if err := m.flushWindow(ctx); err != nil {
					return err
				}
			}
		}
	}
	return m.flushWindow(ctx)
}

// keyBatch is some keys that follow one another, and their rows: they are looked
// for in the store together.
type keyBatch struct {
	keys  [][]byte
	ends  []int // of each key's rows in lines
	lines []lineAt
}

// nextBatch collects the following keys; false at the end.
func (m *merge) nextBatch() bool {
	b := &m.batch
	b.keys, b.ends, b.lines = b.keys[:0], b.ends[:0], b.lines[:0]
	for len(b.keys) < lookupBatchKeys {
		key := m.lowest()
		if key == nil {
			break
		}
		m.collect(key)
		b.keys, b.ends = append(b.keys, key), append(b.ends, len(b.lines))
	}
	return len(b.keys) > 0
}

// lowest is the smallest key under the cursors; nil at the end.
func (m *merge) lowest() []byte {
	var low []byte
	for _, c := range m.cursors {
		if c.key != nil && (low == nil || bytes.Compare(c.key, low) < 0) {
			low = c.key
		}
	}
	return low
}

// collect adds the rows of a key to the batch, in request order, and moves the cursors on.
func (m *merge) collect(key []byte) {
	from := len(m.batch.lines)
	for i, c := range m.cursors {
		for c.key != nil && bytes.Equal(c.key, key) {
			m.batch.lines = append(m.batch.lines, lineAt{int32(i), c.cursor.Ordinal()})
			c.next()
		}
	}
	if lines := m.batch.lines[from:]; len(lines) > 1 {
		slices.SortFunc(lines, m.compareLines)
	}
}

func (m *merge) compareLines(a, b lineAt) int {
	left, right := m.row(a), m.row(b)
	if left.chunk != right.chunk {
		return int(left.chunk) - int(right.chunk)
	}
	return int(left.line) - int(right.line)
}

func (m *merge) row(at lineAt) *row { return &m.round.workers[at.worker].rows[at.ordinal] }

// key decides about the rows of the batch's i-th key, or puts the decision off
// until the old contents are compared.
func (m *merge) key(i int) error {
	key, from := m.batch.keys[i], 0
	if i > 0 {
		from = m.batch.ends[i-1]
	}
	m.lines = m.batch.lines[from:m.batch.ends[i]]
	versions, err := m.stored(i, key)
	if err != nil {
		return fmt.Errorf("cannot look up a key: %w", err)
	}
	if len(versions) == 0 && len(m.lines) == 1 {
		at := m.lines[0]
		if r := m.row(at); r.class == classUndated || m.resolver.mode == InitialLoad {
			m.set(at, r, 1, m.resolver.instant)
			return nil
		}
	}
	if m.resolver.mode == InitialLoad {
		return m.resolveKey(key, versions, m.lines, nil)
	}
	m.window.add(m, key, versions)
	return nil
}

// stored is what the store has of the batch's i-th key, as far as it matters for the
// lines at hand: every version when one of them is dated, only the current one
// otherwise. It holds until the next look-up.
func (m *merge) stored(i int, key []byte) ([]engine.KeyVersion, error) {
	if m.resolver.mode == InitialLoad || !slices.ContainsFunc(m.lines, m.isDated) {
		return m.lookup.Current(i, key)
	}
	return m.lookup.Probed(i, key)
}

func (m *merge) isDated(at lineAt) bool { return m.row(at).class != classUndated }

// set gives a row its version.
func (m *merge) set(at lineAt, r *row, version int64, date fhir.Instant) {
	r.kept, r.version, r.milli, r.zone = true, version, date.Milli, date.OffsetMinutes
	m.live[at.worker]++
	m.round.workers[at.worker].builder.SetRow(at.ordinal, r.columns())
	m.loadedRows[m.round.chunks[r.chunk].input]++
}

// resolveKey runs the resolver for one key and carries its verdicts out.
func (m *merge) resolveKey(key []byte, versions []engine.KeyVersion, lines []lineAt, same sameFunc) error {
	r := &m.resolver
	r.same = same
	r.lines, r.history = r.lines[:0], r.history[:0]
	for _, at := range lines {
		r.lines = append(r.lines, m.incoming(m.row(at)))
	}
	for i, v := range versions {
		r.history = append(r.history, known{version: v.VersionID, at: v.LastUpdated, deleted: v.Deleted, ref: ^int32(i)})
	}
	if err := r.resolve(); err != nil {
		return err
	}
	current, _ := r.current()
	for i, at := range lines {
		m.carryOut(key, at, &r.outcomes[i], current.version > 0 && current.ref == int32(i))
	}
	for i, v := range versions {
		if v.Current && current.ref != ^int32(i) {
			m.ingest.Supersede(key, v.Place)
		}
	}
	return nil
}

// incoming is a row as the resolver sees it.
func (m *merge) incoming(r *row) incoming {
	return incoming{
		batch: m.round.chunks[r.chunk].batch, class: r.class, deleted: r.deleted,
		version: r.version, at: fhir.Instant{Milli: r.milli, OffsetMinutes: r.zone},
	}
}

// carryOut applies the verdict on one row.
func (m *merge) carryOut(key []byte, at lineAt, o *outcome, current bool) {
	r := m.row(at)
	switch o.verdict {
	case verdictKept:
		m.set(at, r, o.version, o.at)
		if !current {
			m.supersede(at)
		}
		return
	case verdictSame:
		m.loadedRows[m.round.chunks[r.chunk].input]++
	case verdictDuplicate:
		m.refuse(key, r, refusedDuplicate)
	case verdictConflict:
		m.refuse(key, r, refusedVersion)
	default:
		panic("BUG: a line was not resolved")
	}
	m.round.workers[at.worker].builder.Drop(at.ordinal)
}

// supersede marks a row of this round that is not current from the start.
func (m *merge) supersede(at lineAt) {
	if m.superseded[at.worker] == nil {
		m.superseded[at.worker] = roaring.New()
	}
	m.superseded[at.worker].Add(uint32(at.ordinal))
}

// refuse notes a line that the store stage does not take.
func (m *merge) refuse(key []byte, r *row, kind refusalKind) {
	_, id, _, ok := index.ParseKey(nil, key)
	if !ok {
		panic("BUG: a key of a run cannot be read")
	}
	info := m.round.chunks[r.chunk]
	info.refusals = append(info.refusals, refusal{arg: string(id), line: int64(r.line), offset: int64(r.offset), kind: kind})
}
