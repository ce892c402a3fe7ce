package query

import (
	"context"
	"errors"

	"kiln/engine"
)

// Page is what to run of a search.
type Page struct {
	Limit int           // matches at most
	Bytes int           // the page ends behind the match whose body reaches it
	After engine.Cursor // zero: the first page
	AsOf  uint64        // of the first page; 0: this is it
	Total bool          // count the matches of all pages
}

// Result is a page of a search.
type Result struct {
	Matches, Included []engine.Version
	// Parts has for each match the contained resource that is meant, or nil for the
	// resource itself. nil without Search.Contained.
	Parts []*engine.Part
	Total uint64
	// Known: Total was counted.
	Known bool
	Next  engine.Cursor
	More  bool
	AsOf  uint64
	Plan  *engine.Explanation // with Search.Explain
}

// Run runs a page. Errors are *Error and the engine's.
func (s *Search) Run(ctx context.Context, store *engine.Store, snap *engine.Snapshot, page Page) (*Result, error) {
	asOf := page.AsOf
	if asOf == 0 {
		asOf = snap.LSN()
	}
	if s.contained.asked {
		return s.runContained(ctx, store, snap, page, asOf)
	}
	q, err := s.query(ctx, snap, asOf)
	if err != nil {
		return nil, worded(err)
	}
	result := &Result{AsOf: asOf}
	if s.Explain {
		result.Plan = &engine.Explanation{}
		q.Explain = result.Plan
	}
	if page.Total {
		if result.Total, err = snap.Count(ctx, q); err != nil {
			return nil, worded(err)
		}
		result.Known, q.Explain = true, nil
	}
	if page.Limit == 0 {
		return result, nil
	}
	q.Sort, q.After, q.Limit = s.Sort, page.After, page.Limit
	if err := result.read(ctx, snap, q, page.Bytes); err != nil {
		return nil, worded(err)
	}
	return result, s.bringTo(ctx, store, snap, result)
}

// bringTo adds what the includes say to a page.
func (s *Search) bringTo(ctx context.Context, store *engine.Store, snap *engine.Snapshot, result *Result) (err error) {
	u := runner{ctx: ctx, snap: snap, asOf: result.AsOf, base: s.base, access: s.access}
	result.Included, err = s.bring(u, store, result.shown())
	return worded(err)
}

// First finds at most limit matches.
func (s *Search) First(ctx context.Context, snap *engine.Snapshot, limit int) (matches []engine.Version, err error) {
	if err := s.refuseContained(); err != nil {
		return nil, err
	}
	q, err := s.query(ctx, snap, snap.LSN())
	if err != nil {
		return nil, worded(err)
	}
	q.Limit = limit
	_, err = snap.Search(ctx, q, func(v *engine.Version) error {
		matches = append(matches, *v)
		return nil
	})
	return matches, worded(err)
}

// Worded turns the engine's refusals of a search into an *Error; others stay as they are.
func Worded(err error) error { return worded(err) }

// worded turns the engine's refusals of a search into words for the client.
func worded(err error) error {
	switch {
	case errors.Is(err, engine.ErrQueryTooLarge):
		return tooCostly("The search needs too much memory; narrow it.")
	case errors.Is(err, engine.ErrInsideTooMany):
		return tooCostly("The chain reads too many resources that refer to what they contain; narrow the search.")
	case errors.Is(err, engine.ErrUnsortable):
		return notSupported("A parameter of '_sort' has no order.")
	}
	return err
}

// errPageFull ends a page that has reached its size.
var errPageFull = errors.New("page full")

// pageTypical matches have room from the start.
const pageTypical = 16

// read collects the page's matches.
func (r *Result) read(ctx context.Context, snap *engine.Snapshot, q *engine.Query, bytesMax int) error {
	size := 0
	r.Matches = make([]engine.Version, 0, min(q.Limit, pageTypical))
	page, err := snap.Search(ctx, q, func(v *engine.Version) error {
		if size >= bytesMax {
			return errPageFull
		}
		size += len(v.Body)
		r.Matches = append(r.Matches, *v)
		return nil
	})
	return r.end(page, err)
}

// end notes how to go on.
func (r *Result) end(page engine.Page, err error) error {
	r.Next, r.More = page.Next, page.More
	if errors.Is(err, errPageFull) {
		r.More = true
		return nil
	}
	return err
}
