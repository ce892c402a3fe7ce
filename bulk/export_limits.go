package bulk

import (
	"errors"
	"fmt"
	"slices"

	"kiln/engine"
	"kiln/fhir"
	"kiln/query"
)

// ExportLimits bound an export to what its client may have. They are its client's
// when it was asked for, and hold to its end.
type ExportLimits struct {
	// Base is the server's own, by which references in the rules are meant: not one that
	// a client chose.
	Base string        `json:",omitempty"`
	All  []ExportLimit `json:",omitempty"` // several of a type: each
}

// ExportLimit is of one type: what matches any of its searches.
type ExportLimit struct {
	Type fhir.TypeCode
	Any  []ExportRule
}

// ExportRule is a search of a limit.
type ExportRule struct {
	Query      string // as its scope has it
	Parameters []query.Parameter
}

// Limit takes limits into a request. false: what it asks for cannot be limited. Of
// earlier versions and of deletions among them only the store's present state would tell whose
// they are by now, and a file of them is for good.
func (m *Manager) Limit(r *ExportRequest, limits ExportLimits) bool {
	if len(limits.All) == 0 {
		return true
	}
	if r.Limits = limits; len(r.Filters) == 0 {
		r.Parameters = m.opts.Parameters.Current().Mark()
	}
	return r.Versions == engine.ScanCurrent
}

// of are the searches of a type's limits.
func (l *ExportLimits) of(t fhir.TypeCode) (queries [][]string) {
	for i := range l.All {
		if l.All[i].Type != t {
			continue
		}
		var any []string
		for _, rule := range l.All[i].Any {
			any = append(any, rule.Query)
		}
		queries = append(queries, any)
	}
	return queries
}

func (l *ExportLimits) names(t fhir.TypeCode) bool {
	return slices.ContainsFunc(l.All, func(one ExportLimit) bool { return one.Type == t })
}

// limit is what of a type its client may have; nil: all.
func (s *exportScope) limit(t fhir.TypeCode) (*engine.Expr, error) {
	if e, ok := s.limits[t]; ok || !s.request.Limits.names(t) {
		return e, nil
	}
	reader := query.Access{Options: query.Options{Base: s.request.Limits.Base, Now: timeOf(s.at), Units: s.units, Table: s.parameters.Table}}
	all := &engine.Expr{Op: engine.And}
	for _, limit := range s.request.Limits.All {
		if limit.Type != t {
			continue
		}
		allowed := query.Allowed{}
		for _, rule := range limit.Any {
			allowed.Rules = append(allowed.Rules, query.Rule{Where: rule.Parameters})
		}
		e, err := reader.ConditionAsOf(s.ctx, s.snap, s.asOf, t, allowed)
		if err != nil {
			return nil, fmt.Errorf("cannot limit the export of %v: %w", t, err)
		}
		all.Args = append(all.Args, e)
	}
	if s.limits == nil {
		s.limits = map[fhir.TypeCode]*engine.Expr{}
	}
	s.limits[t] = all
	return all, nil
}

// mayTell tells whether its client may know of a deletion: what was deleted was in
// reach.
func (s *exportScope) mayTell(deletion *engine.Version) (bool, error) {
	limit, err := s.limit(deletion.Type)
	if limit == nil || err != nil {
		return err == nil, err
	}
	last, err := s.snap.LastLive(deletion.Type, deletion.ID, deletion.VersionID)
	if errors.Is(err, engine.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read what was deleted: %w", err)
	}
	return s.snap.Matches(s.ctx, &last, limit)
}

// limitedDeletions narrows a query of deletions of the system to those that its client
// may know of.
func (s *exportScope) limitedDeletions(q *engine.ScanQuery) error {
	var open, limited []fhir.TypeCode
	for _, t := range s.types() {
		if s.request.Limits.names(t) {
			limited = append(limited, t)
		} else {
			open = append(open, t)
		}
	}
	if len(limited) == 0 {
		return nil
	}
	some := *q
	some.Of = []engine.ScanOf{{Types: limited}}
	keys, err := s.scanKeys(some, s.mayTell)
	if err != nil {
		return err
	}
	q.Of = []engine.ScanOf{{Where: anyKey(keys)}}
	if len(open) > 0 {
		q.Of = append(q.Of, engine.ScanOf{Types: open})
	}
	return nil
}
