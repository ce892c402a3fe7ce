package engine

import (
	"context"
	"fmt"
	"sync"

	"kiln/index"
)

// headTerms is the search terms of a generation's entries. They are made when a
// search first asks for them, of all entries that have none yet: commits,
// replay and flushes neither wait for them nor hold their memory.
type headTerms struct {
	mu    sync.Mutex // guards all below, and is held while a search reads
	table *index.MemoryTerms
	next  int // the first entry whose terms are not in the table
	space []byte
}

// SearchHead calls fn for the snapshot's head generations, oldest first, with
// their search terms. The ordinals below a bound are the versions that the
// snapshot may show: base and ordinal together are Place.Ordinal of a place in
// the head. As in a run, they include superseded versions and, without terms,
// deleted ones. fn keeps nothing of the table and does not wait for other
// searches: they wait for it.
//
// The first search after many writes pays for their terms, about 4 microseconds
// each. Errors are those of reading the log, of ctx, and of fn.
func (n *Snapshot) SearchHead(ctx context.Context, fn func(base uint64, terms *index.MemoryTerms, below index.Ordinal) error) error {
	for _, g := range n.view.gens {
		if count := g.countAt(n.lsn); count > 0 {
			if err := n.searchGen(ctx, g, count, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *Snapshot) searchGen(ctx context.Context, g *headGen, count int, fn func(uint64, *index.MemoryTerms, index.Ordinal) error) error {
	t := &g.terms
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.table == nil {
		t.table = index.NewMemoryTerms()
	}
	if t.next < count {
		x := n.s.extractor(t.table)
		defer n.s.keepExtractor(x)
		for ; t.next < count; t.next++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := t.add(n.s, x, g.entry(t.next)); err != nil {
				return fmt.Errorf("cannot make the search terms of a version of LSN %d: %w", g.entry(t.next).lsn, err)
			}
		}
	}
	return fn(g.base, t.table, index.Ordinal(count))
}

// add makes the terms of the next entry. Deleted versions have none.
func (t *headTerms) add(s *Store, x *index.Extractor, e *headEntry) error {
	if !e.deleted {
		v, err := s.readEntry(e, t.space)
		if err != nil {
			return err
		}
		t.space = v.Body
		if _, err := x.Scan(v.Body); err != nil {
			t.table.Discard()
			return err
		}
		if cap(t.space) > headSpaceKept {
			t.space = nil
		}
	}
	t.table.Commit(index.Ordinal(t.next))
	return nil
}

// headSpaceKept bounds the buffer that stays with a generation.
const headSpaceKept = 1 << 20

// extractor lends an Extractor; the caller gives it back to keepExtractor.
func (s *Store) extractor(sink index.TermSink) *index.Extractor {
	x, ok := s.extractors.Get().(*index.Extractor)
	if !ok {
		return s.extraction.NewExtractor(sink)
	}
	x.Reset(sink)
	return x
}

// keepExtractor takes an Extractor back, without what it wrote to.
func (s *Store) keepExtractor(x *index.Extractor) {
	x.Reset(noTerms{})
	s.extractors.Put(x)
}

// noTerms is a sink that keeps nothing.
type noTerms struct{}

func (noTerms) AddTerm(index.Param, []byte) {}
