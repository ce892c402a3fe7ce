package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// Resources in the "contained" of others have no terms in the store, but for their
// types (index.ParamContained). Those say which versions to read: the holders. Their
// bodies are read in the store's order, a chunk at a time, the terms of what they
// contain are made, and the expression is evaluated on these (contained_chunk.go).
//
// The order is that of the store: by LSN, source and row, inside a row the resource
// itself and then what it contains, by place. A page that has read as much as it may
// ends behind the last holder that was read, with as many matches as there were.

// ContainedQuery asks for resources in the "contained" of others. Its Types and Where
// are about those resources; what names resources of the store (Keys) takes their
// ids. Sort is not for them.
type ContainedQuery struct {
	Query
	// Among is what the resources are among that contain some, and that stand for
	// themselves; nil: all.
	Among *Expr
	// Own asks for the resources that stand for themselves as well.
	Own bool
	// Parts makes each contained resource a match; otherwise the resource that
	// contains some is one, once.
	Parts bool
}

// Part is a contained resource.
type Part struct {
	Type fhir.TypeCode
	ID   string // inside its container; "" without one
	Body []byte // of the container's
	// number is its place in the container, from 1 on.
	number uint32
}

// ErrContainedCount refuses to count matches for which too many versions have to be
// read.
var ErrContainedCount = errors.New("too many resources have to be read to count the contained ones")

const (
	// containedRowsMax and containedBytesMax bound the holders that a page reads:
	// about a second of one core.
	containedRowsMax  = 20_000
	containedBytesMax = 64 << 20
)

// SearchContained calls fn for each match of the query's page, in order; part is nil
// for a resource of the store. What fn gets holds for ever. A page may have fewer
// matches than Limit, even none, and be followed by more: see Page.More. Errors: as
// Search.
func (n *Snapshot) SearchContained(ctx context.Context, q *ContainedQuery, fn func(v *Version, part *Part) error) (Page, error) {
	c, err := n.newContainedSearch(ctx, q)
	if err != nil {
		return Page{}, fmt.Errorf("cannot search contained resources: %w", err)
	}
	if err := c.open(); err != nil {
		return Page{}, err
	}
	return c.page(fn)
}

// CountContained is how many matches the query has on all pages, if that takes
// reading at most holdersMax versions: ErrContainedCount otherwise. Errors as for
// Count.
func (n *Snapshot) CountContained(ctx context.Context, q *ContainedQuery, holdersMax uint64) (uint64, error) {
	whole := *q
	whole.After, whole.Limit = Cursor{}, 0
	c, err := n.newContainedSearch(ctx, &whole)
	if err != nil {
		return 0, fmt.Errorf("cannot count contained resources: %w", err)
	}
	holders, err := c.among.count()
	if err != nil {
		return 0, err
	}
	if holders > holdersMax {
		return 0, ErrContainedCount
	}
	return c.count()
}

// containedSearch is one such search under way.
type containedSearch struct {
	q     *ContainedQuery
	s     *searching // of the query: what stands for itself
	among *searching // of all that contain a resource of the types
	// own and holders are the rows that are to come; own is nil when not asked for.
	own, holders *rowStream
	at           *cursorPlace
	read         int // holders
	bytes        int // of their bodies
	delivered    int
	result       Page
}

func (n *Snapshot) newContainedSearch(ctx context.Context, q *ContainedQuery) (*containedSearch, error) {
	c, own := &containedSearch{q: q}, q.Query
	own.Where = among(q.Where, q.Among)
	var err error
	if c.s, err = n.newSearch(ctx, &own); err != nil {
		return nil, err
	}
	c.among, err = n.newSearch(ctx, &Query{Where: among(containing(q.Types), q.Among), AsOf: q.AsOf, After: q.After})
	return c, err
}

// among is e inside of what all is; nil: it is everything.
func among(e, all *Expr) *Expr {
	switch {
	case all == nil:
		return e
	case e == nil:
		return all
	}
	return &Expr{Op: And, Args: []*Expr{e, all}}
}

// containing is having a contained resource of one of some types; none: of any.
func containing(types []fhir.TypeCode) *Expr {
	e := &Expr{Op: Terms, Name: "containing"}
	for _, t := range types {
		e.Walks = append(e.Walks, index.ExactWalk(index.ParamContained, index.AppendType(nil, t)))
	}
	if len(types) == 0 {
		e.Walks = []index.Walk{{Param: index.ParamContained}}
	}
	return e
}

// open opens the streams behind the cursor.
func (c *containedSearch) open() (err error) {
	if c.at, err = c.among.findCursor(); err != nil {
		return err
	}
	if c.holders, err = c.among.rowsBehind(c.at); err != nil || !c.q.Own {
		return err
	}
	c.own, err = c.s.rowsBehind(c.at)
	return err
}

// rowStream gives the matches of a query in the store's order, current ones only.
type rowStream struct {
	s       *searching
	streams []*stream
	next    rowPlace // when ready
	ready   bool
	done    bool
}

// rowPlace is a row of a source.
type rowPlace struct {
	src *source
	row uint32
	lsn uint64
}

// before tells whether a place is before another in the store's order. The sources of
// two searches of one snapshot have the same order.
func (p *rowPlace) before(o *rowPlace) bool {
	switch {
	case p.lsn != o.lsn:
		return p.lsn < o.lsn
	case p.src.order != o.src.order:
		return p.src.order < o.src.order
	}
	return p.row < o.row
}

func (s *searching) rowsBehind(at *cursorPlace) (*rowStream, error) {
	streams, err := s.streams(at)
	return &rowStream{s: s, streams: streams}, err
}

// peek gives the next row; ok is false at the end.
func (r *rowStream) peek() (p *rowPlace, ok bool, err error) {
	for !r.ready && !r.done {
		if err := r.s.check(); err != nil {
			return nil, false, err
		}
		t, err := r.s.next(r.streams)
		if err != nil {
			return nil, false, err
		}
		if t == nil {
			r.done = true
			break
		}
		r.next = rowPlace{src: t.src, lsn: t.lsn, row: t.rows.Next()}
		if err := t.settle(r.s); err != nil {
			return nil, false, err
		}
		if r.ready, err = r.s.isMatch(r.next.src, r.next.row); err != nil {
			return nil, false, err
		}
	}
	return &r.next, r.ready, nil
}

// skip takes the row that peek gave.
func (r *rowStream) skip() { r.ready = false }

// page delivers a page.
func (c *containedSearch) page(fn func(*Version, *Part) error) (Page, error) {
	c.result = Page{AsOf: c.s.asOf, Next: c.q.After}
	for {
		chunk, err := c.nextChunk()
		if err != nil {
			return c.result, err
		}
		full, err := c.deliverChunk(chunk, fn)
		if full || err != nil || chunk.last == nil {
			return c.result, err
		}
		if c.read >= containedRowsMax || c.bytes >= containedBytesMax {
			if _, more, err := c.holders.peek(); more || err != nil {
				c.result.More, c.result.Next = true, chunk.behind()
				return c.result, err
			}
		}
	}
}

// deliverChunk delivers what was found in a chunk, and what stands for itself up to
// its end. It tells whether the page is full.
func (c *containedSearch) deliverChunk(chunk *containedChunk, fn func(*Version, *Part) error) (full bool, err error) {
	for {
		own, err := c.nextOwn(chunk.last)
		if err != nil {
			return false, err
		}
		var held *holder
		if len(chunk.found) > 0 {
			held = chunk.found[0]
		}
		switch {
		case own == nil && held == nil:
			return false, nil
		case held == nil || own != nil && own.before(&held.place):
			full, err = c.deliverOwn(own, nil, fn)
		case own == nil || held.place.before(own):
			chunk.found = chunk.found[1:]
			full, err = c.deliverHeld(held, fn)
		default:
			chunk.found = chunk.found[1:]
			full, err = c.deliverOwn(own, held, fn)
		}
		if full || err != nil {
			return full, err
		}
	}
}

// nextOwn is the next row that stands for itself, up to the end of a chunk (nil: no
// end); nil: there is none.
func (c *containedSearch) nextOwn(end *rowPlace) (*rowPlace, error) {
	if c.own == nil {
		return nil, nil
	}
	for {
		own, ok, err := c.own.peek()
		if !ok || err != nil || end != nil && end.before(own) {
			return nil, err
		}
		if !c.isCursors(own) {
			return own, nil
		}
		c.own.skip() // a part of it was delivered, so it was, too
	}
}

// isCursors tells whether a row is the one that the cursor is inside of.
func (c *containedSearch) isCursors(p *rowPlace) bool {
	return c.at != nil && c.at.part > 0 && p.src.order == c.at.order && p.row == c.at.row
}

// deliverOwn delivers a row that stands for itself, and what matches in it.
func (c *containedSearch) deliverOwn(own *rowPlace, held *holder, fn func(*Version, *Part) error) (full bool, err error) {
	place := *own
	c.own.skip()
	var v Version
	if held != nil {
		v = held.version
	} else if v, err = c.s.n.read(place.src.place(place.row)); err != nil {
		return false, err
	}
	if full, err = c.deliver(&v, nil, fn); full || err != nil || held == nil || !c.q.Parts {
		return full, err
	}
	return c.deliverHeld(held, fn)
}

// deliverHeld delivers a holder, or its parts that match.
func (c *containedSearch) deliverHeld(held *holder, fn func(*Version, *Part) error) (full bool, err error) {
	if !c.q.Parts {
		return c.deliver(&held.version, nil, fn)
	}
	for i := range held.parts {
		part := &held.parts[i]
		if c.isCursors(&held.place) && part.number < c.at.part {
			continue // the cursor's part is a number above that of the last delivered
		}
		if full, err = c.deliver(&held.version, part, fn); full || err != nil {
			return full, err
		}
	}
	return false, nil
}

// deliver gives one match to fn, unless the page is full.
func (c *containedSearch) deliver(v *Version, part *Part, fn func(*Version, *Part) error) (full bool, err error) {
	if c.q.Limit > 0 && c.delivered == c.q.Limit {
		c.result.More = true
		return true, nil
	}
	if err := fn(v, part); err != nil {
		return false, err
	}
	c.delivered++
	c.result.Next = Cursor{typ: v.Type, version: v.VersionID, id: string(v.ID)}
	switch {
	case part != nil:
		c.result.Next.part = part.number + 1
	case c.q.Parts:
		c.result.Next.part = 1
	}
	return false, nil
}

// count counts all matches.
func (c *containedSearch) count() (total uint64, err error) {
	own := make([]*roaring.Bitmap, len(c.s.sources))
	for i, src := range c.s.sources {
		if !c.q.Own {
			break
		}
		if own[i], err = c.s.settled(src); err != nil {
			return 0, err
		}
		total += own[i].GetCardinality()
	}
	if c.holders, err = c.among.rowsBehind(nil); err != nil {
		return 0, err
	}
	for {
		chunk, err := c.nextChunk()
		if err != nil || chunk.last == nil {
			return total, err
		}
		for _, held := range chunk.found {
			switch {
			case c.q.Parts:
				total += uint64(len(held.parts))
			case !c.q.Own || !own[held.place.src.order].Contains(held.place.row):
				total++
			}
		}
	}
}
