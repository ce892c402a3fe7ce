package httpapi

import (
	"context"
	"errors"
	"fmt"

	"kiln/engine"
	"kiln/fhir"
	"kiln/httpapi/access"
	"kiln/query"
)

// limitHistory leaves the versions that the client may read in a history.
//
// Of a type or the system the terms of all versions tell which had been in reach, and
// all deletions are added, which have none; then each is judged as if it was read by its
// number (judge.reachesOld). What is judged and not shown is bounded for each page, so
// a page may be shorter than asked for, even empty, and have a next link. Those versions
// are others' deletions, and what was once in the client's reach and is no more.
//
// A number of all versions is told only where it is asked for alone. That of others' is in
// no number, and paging tokens, which name the place of the last version that was
// judged, are sealed.
func (x *exchange) limitHistory(ctx context.Context, snap *engine.Snapshot, page *historyPage) error {
	q := &page.query
	switch {
	case x.who == nil, q.Type == 0 && x.who.MayAll(access.Search), len(q.ID) == 0 && q.Type != 0 && !x.isLimited(access.Search, q.Type):
		return nil
	case len(q.ID) == 0:
		return x.limitHistories(ctx, snap, page)
	case !x.isLimited(access.Read, q.Type):
		return nil
	}
	members, err := x.versionsInReach(ctx, snap, q)
	q.Among = members
	return err
}

// limitHistories is limitHistory for those of a type, and of the system.
func (x *exchange) limitHistories(ctx context.Context, snap *engine.Snapshot, page *historyPage) error {
	q, types := &page.query, []fhir.TypeCode{page.query.Type}
	if q.Type == 0 {
		types = nil
		for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
			types = append(types, t)
		}
	}
	j := x.judge(ctx, snap, access.Search)
	of, err := j.versionsOnceInReach(types)
	if err != nil {
		return err
	}
	if q.Of = of; len(j.made) == 0 {
		return nil // all of some types
	}
	q.Judge, q.JudgeMax = j.reachesOld, historyJudgedMax
	if !page.countOnly {
		return nil
	}
	page.total, err = countJudged(ctx, snap, *q)
	return err
}

// versionsOnceInReach takes the versions of some types whose content is in reach, and
// deletions. Never nil without an error.
func (j *judge) versionsOnceInReach(types []fhir.TypeCode) ([]engine.ScanOf, error) {
	of, whole := []engine.ScanOf{}, []fhir.TypeCode(nil)
	for _, t := range types {
		grant := j.x.may(j.needs, t)
		if grant.Whole {
			whole = append(whole, t)
			continue
		}
		if grant.None() {
			continue
		}
		where, err := j.condition(t, grant)
		if err != nil {
			return nil, err
		}
		of = append(of, engine.ScanOf{Types: []fhir.TypeCode{t}, Where: engine.OrDeleted(where)})
	}
	if len(whole) > 0 {
		of = append(of, engine.ScanOf{Types: whole})
	}
	return of, nil
}

// countJudged counts a history that is judged version by version.
func countJudged(ctx context.Context, snap *engine.Snapshot, q engine.HistoryQuery) (total int64, err error) {
	q.Count, q.JudgeMax = 0, historyCountedMax
	_, more, err := snap.History(ctx, q, func(*engine.Version) error {
		total++
		return nil
	})
	if more && err == nil {
		err = &query.Error{Kind: query.TooCostly, Text: fmt.Sprintf("More than %d versions would have to be looked at to count them. Ask for pages, or name a shorter time by _since and _before.", historyCountedMax)}
	}
	return total, historyRefusal(err)
}

// historyRefusal words what the search in a limited history can fail of.
func historyRefusal(err error) error {
	var refused *query.Error
	if errors.As(err, &refused) || errors.Is(err, engine.ErrReindex) || errors.Is(err, engine.ErrQueryTooLarge) || errors.Is(err, engine.ErrInsideTooMany) {
		return searchError(query.Worded(err))
	}
	return err
}

// versionsInReach are those of one resource. 404 when its present state is not.
func (x *exchange) versionsInReach(ctx context.Context, snap *engine.Snapshot, q *engine.HistoryQuery) ([]engine.HistoryMember, error) {
	now, err := snap.Get(q.Type, q.ID)
	if err != nil {
		return nil, x.notThere(err)
	}
	j := x.judge(ctx, snap, access.Read)
	if ok, err := j.reaches(&now); err != nil || !ok {
		return nil, x.notThere(err)
	}
	members := []engine.HistoryMember{}
	whole := engine.HistoryQuery{Type: q.Type, ID: q.ID, Among: q.Among, LSN: q.LSN}
	_, _, err = snap.History(ctx, whole, func(v *engine.Version) error {
		ok, err := j.reaches(v)
		if ok {
			members = append(members, engine.HistoryMember{Key: engine.Key{Type: v.Type, ID: v.ID}, Version: v.VersionID})
		}
		return err
	})
	if errors.Is(err, engine.ErrNotFound) {
		return nil, x.missing()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot judge a history: %w", err)
	}
	return members, nil
}
