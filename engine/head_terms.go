package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"kiln/index"
)

// headTerms is the search terms of a generation's entries. They are made when a
// search first asks for them, of all entries that have none yet: commits,
// replay and flushes neither wait for them nor hold their memory. What they will
// take at most is known from the commits (headGen.termsCost), so that the head
// is flushed before it is too much.
//
// Searches read them together; one that finds entries without terms waits for
// the others to end and makes them. Whoever waits gives up with its context.
type headTerms struct {
	// users lets many read or one write; what follows is theirs.
	users *semaphore.Weighted
	table *index.MemoryTerms
	next  int // the first entry whose terms are not in the table
	space []byte
	bytes atomic.Int64 // what the table takes; for anybody
	// made is by what the table's terms were made.
	made *index.Extraction
}

// headTermsUsers is the weight of one that writes; each that reads has 1.
const headTermsUsers = 1 << 30

// withHeadTerms calls fn with the search terms of the first count entries of a
// generation; an ordinal is an entry's place in it. As in a run, they include
// superseded versions and, but for date, type and deletion, not deleted ones. fn
// keeps nothing of the table and asks for terms of younger generations only.
//
// The first search after many writes pays for their terms, about 10 microseconds
// each. Errors are those of reading the log, of ctx, and of fn; ErrQueryTooLarge
// for a generation that holds more than a table can.
func (n *Snapshot) withHeadTerms(ctx context.Context, g *headGen, count int, fn func(*index.MemoryTerms) error) error {
	t := &g.terms
	for {
		if err := t.users.Acquire(ctx, 1); err != nil {
			return err
		}
		if t.made == n.s.Extraction() && t.next >= count {
			defer t.users.Release(1)
			return fn(t.table)
		}
		t.users.Release(1)
		if err := t.fill(ctx, n.s, g, count); err != nil {
			return err
		}
	}
}

// drop lets the memory go, unless somebody reads: a generation that has become a
// run is searched by what began before only, and may be held for long.
func (t *headTerms) drop() {
	if t.users.TryAcquire(headTermsUsers) {
		t.table, t.made, t.next, t.space = nil, nil, 0, nil
		t.bytes.Store(0)
		t.users.Release(headTermsUsers)
	}
}

// fill makes the terms of the first count entries.
func (t *headTerms) fill(ctx context.Context, s *Store, g *headGen, count int) error {
	if err := t.users.Acquire(ctx, headTermsUsers); err != nil {
		return err
	}
	defer t.users.Release(headTermsUsers)
	x := s.extractor(noTerms{})
	defer s.keepExtractor(x)
	if t.made != x.Extraction() { // none yet, or fields were added
		t.table, t.next, t.made = index.NewMemoryTerms(), 0, x.Extraction()
	}
	x.Reset(t.table)
	defer func() { t.bytes.Store(t.table.MemoryBytes()) }()
	for ; t.next < count; t.next++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if t.table.Full() {
			return fmt.Errorf("%w: the head holds too many search terms; flush it more often", ErrQueryTooLarge)
		}
		if err := t.add(s, x, g.entry(t.next)); err != nil {
			return fmt.Errorf("cannot make the search terms of a version of LSN %d: %w", g.entry(t.next).lsn, err)
		}
	}
	t.table.Sort()
	return nil
}

// add makes the terms of the next entry: as those of a run's row.
func (t *headTerms) add(s *Store, x *index.Extractor, e *headEntry) error {
	if !e.isDeleted() {
		v, err := s.readEntry(e, t.space)
		if err != nil {
			return err
		}
		t.space = v.Body
		if _, err := x.Scan(v.Body); err != nil && !wasRead(err) {
			t.table.Discard()
			return err
		}
		if cap(t.space) > headSpaceKept {
			t.space = nil
		}
	}
	t.table.AddRow(e.row())
	t.table.Commit(index.Ordinal(t.next))
	return nil
}

// headSpaceKept bounds the buffer that stays with a generation.
const headSpaceKept = 1 << 20

// wasRead tells of an error of Extractor.Scan that all terms were made but for a
// value that cannot be one. A version that joins the store is refused for it; one that
// was there before the field was added is only not found by that value.
func wasRead(err error) bool { return errors.Is(err, index.ErrTerms) }
