package httpapi

import (
	"errors"
	"fmt"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/httpapi/access"
)

// limitHistory leaves the versions that the client may read in a history. Those of one
// resource are judged one by one. Histories of a type or of the system are for who may
// read all that they tell of: what left a compartment, or was deleted in it, is found
// by no search.
func (x *exchange) limitHistory(snap *engine.Snapshot, page *historyPage) error {
	q := &page.query
	switch {
	case x.who == nil, q.Type == 0 && x.who.MayAll(access.Search), len(q.ID) == 0 && q.Type != 0 && !x.isLimited(access.Search, q.Type):
		return nil
	case len(q.ID) == 0:
		return &problem{fasthttp.StatusForbidden, codeForbidden, "This history tells of resources that are not for this client. Read the histories of single resources, or of a type of which all are."}
	case !x.isLimited(access.Read, q.Type):
		return nil
	}
	members, err := x.versionsInReach(snap, q)
	if err != nil {
		return err
	}
	q.Among = members
	return nil
}

// versionsInReach are those of one resource. 404 when its present state is not.
func (x *exchange) versionsInReach(snap *engine.Snapshot, q *engine.HistoryQuery) ([]engine.HistoryMember, error) {
	now, err := snap.Get(q.Type, q.ID)
	if err != nil {
		return nil, x.notThere(err)
	}
	if ok, err := x.reaches(snap, access.Read, &now); err != nil || !ok {
		return nil, x.notThere(err)
	}
	ctx, cancel := x.workContext()
	defer cancel()
	members := []engine.HistoryMember{}
	whole := engine.HistoryQuery{Type: q.Type, ID: q.ID, Among: q.Among, LSN: q.LSN}
	_, _, err = snap.History(ctx, whole, func(v *engine.Version) error {
		ok, err := v.Deleted || v.Lost, error(nil)
		if !ok {
			ok, err = x.reaches(snap, access.Read, v)
		}
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
