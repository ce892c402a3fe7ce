package query

import (
	"context"
	"errors"

	"kiln/engine"
)

// contained says which resources a search is for, by _contained and _containedType
// (R4 search.html#contained).
type contained struct {
	asked bool // those inside of others
	own   bool // and those that stand for themselves, as without asking
	parts bool // the answer has the contained resources, and not what contains them
}

// contained reads _contained and _containedType, which say what the conditions are
// about.
func (r *reader) contained(parameters []Parameter) error {
	seen := map[string]bool{}
	c := &r.search.contained
	for _, p := range parameters {
		if p.Name != "_contained" && p.Name != "_containedType" {
			continue
		}
		if seen[p.Name] {
			return invalid("The parameter '%s' is given more than once.", p.Name)
		}
		seen[p.Name] = true
		switch p.Name + "=" + p.Value {
		case "_contained=", "_contained=false", "_containedType=", "_containedType=container":
		case "_contained=true":
			c.asked = true
		case "_contained=both":
			c.asked, c.own = true, true
		case "_containedType=contained":
			c.parts = true
		default:
			values := map[string]string{"_contained": "false, true and both", "_containedType": "container and contained"}
			return invalid("The value '%s' of the parameter '%s' is none of %s.", p.Value, p.Name, values[p.Name])
		}
	}
	return nil
}

// checkContained refuses a condition that cannot be about contained resources.
// depth is 0 for what is about the resources that are searched.
func (r *reader) checkContained(code string, depth int) error {
	if !r.search.contained.asked || depth > 0 {
		return nil
	}
	switch code {
	case "_has", "_list":
		return notSupported("The parameter '%s' is not supported with '_contained': only what contains a resource refers to it. Leave it out, or search for what contains the resource.", code)
	case "_lastUpdated":
		return notSupported("The parameter '_lastUpdated' is not supported with '_contained': contained resources have none of their own. Leave it out.")
	}
	return nil
}

// Contained tells whether the matches may be resources inside of others, or be of
// other types than those that are searched since they contain a match.
func (s *Search) Contained() bool { return s.contained.asked }

// refuseContained refuses what is not for answers to clients.
func (s *Search) refuseContained() error {
	if s.contained.asked {
		return notSupported("The parameter '_contained' is not supported here: only resources that are not contained in others are chosen. Leave it out.")
	}
	return nil
}

const (
	// containedCountMax bounds the resources that are read to count, when the client
	// insists: some ten seconds, and the request's deadline is there, too.
	containedCountMax = 1_000_000
	// containedCountUnasked bounds them when the client does not say that it wants a
	// total: what one page may read.
	containedCountUnasked = 20_000
)

// runContained is Run for what resources contain. A client finds it in what it may find,
// whatever its type is: who reads a resource reads what is in it.
func (s *Search) runContained(ctx context.Context, store *engine.Store, snap *engine.Snapshot, page Page, asOf uint64) (*Result, error) {
	u := &runner{ctx: ctx, snap: snap, asOf: asOf, base: s.base, access: s.access}
	where, err := u.expr(s.where)
	if err != nil {
		return nil, worded(err)
	}
	q := &engine.ContainedQuery{Query: engine.Query{Types: s.Types, Where: where, AsOf: asOf}, Own: s.contained.own, Parts: s.contained.parts}
	if s.access != nil {
		if q.Among, _, err = u.anyAllowed(nil, s.access.Find); err != nil {
			return nil, worded(err)
		}
	}
	result := &Result{AsOf: asOf}
	if s.Explain {
		result.Plan = &engine.Explanation{}
		q.Explain = result.Plan
	}
	if page.Total {
		if result.Total, result.Known, err = s.countContained(ctx, snap, q, page.Limit == 0 || s.Total == "accurate"); err != nil {
			return nil, worded(err)
		}
		q.Explain = nil
	}
	if page.Limit == 0 {
		return result, nil
	}
	q.Sort, q.After, q.Limit = s.Sort, page.After, page.Limit
	if err := result.readContained(ctx, snap, q, page.Bytes); err != nil {
		return nil, worded(err)
	}
	return result, s.bringTo(ctx, store, snap, result)
}

// countContained counts the matches; known is false when nobody insists, and it would
// take long.
func (s *Search) countContained(ctx context.Context, snap *engine.Snapshot, q *engine.ContainedQuery, insist bool) (total uint64, known bool, err error) {
	most := uint64(containedCountUnasked)
	if insist {
		most = containedCountMax
	}
	total, err = snap.CountContained(ctx, q, most)
	switch {
	case errors.Is(err, engine.ErrContainedCount) && insist:
		return 0, false, tooCostly("More than %d resources contain some of the type that is searched; all would have to be read to count the matches. Ask for pages, with _total=none.", most)
	case errors.Is(err, engine.ErrContainedCount):
		return 0, false, nil
	}
	return total, err == nil, err
}

// readContained collects the page's matches.
func (r *Result) readContained(ctx context.Context, snap *engine.Snapshot, q *engine.ContainedQuery, bytesMax int) error {
	size := 0
	page, err := snap.SearchContained(ctx, q, func(v *engine.Version, part *engine.Part) error {
		if size >= bytesMax {
			return errPageFull
		}
		if size += len(v.Body); part != nil {
			size += len(part.Body) - len(v.Body)
		}
		r.Matches, r.Parts = append(r.Matches, *v), append(r.Parts, part)
		return nil
	})
	return r.end(page, err)
}

// shown are the matches as the answer has them: contained resources with no id, as
// none of theirs names a resource of the store.
func (r *Result) shown() []engine.Version {
	shown := r.Matches
	for i, part := range r.Parts {
		if part == nil {
			continue
		}
		if &shown[0] == &r.Matches[0] {
			shown = append([]engine.Version(nil), shown...)
		}
		shown[i] = engine.Version{Type: part.Type, Body: part.Body}
	}
	return shown
}
