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

// judge decides about single versions for a request: by what is in them, whatever
// their number and whether they are stored. The conditions of a type are made once.
type judge struct {
	x     *exchange
	ctx   context.Context
	snap  *engine.Snapshot
	needs access.Needs // one of access.Read to access.Delete
	made  map[fhir.TypeCode]*engine.Expr
}

func (x *exchange) judge(ctx context.Context, snap *engine.Snapshot, needs access.Needs) *judge {
	return &judge{x: x, ctx: ctx, snap: snap, needs: needs, made: map[fhir.TypeCode]*engine.Expr{}}
}

// condition is what of a type is in reach of a client that reaches some of it only.
func (j *judge) condition(t fhir.TypeCode, grant access.Grant) (*engine.Expr, error) {
	if where, ok := j.made[t]; ok {
		return where, nil
	}
	limits := query.Access{Options: j.x.ruleOptions()}
	where, err := limits.Condition(j.ctx, j.snap, t, allowed(grant))
	if err != nil {
		return nil, searchError(err)
	}
	j.made[t] = where
	return where, nil
}

// reaches tells whether a version is in reach. Of a deletion, and of a version that
// was lost, the last one before it that has content counts; without one it is not.
func (j *judge) reaches(v *engine.Version) (bool, error) {
	grant := j.x.may(j.needs, v.Type)
	if grant.Whole || grant.None() {
		return grant.Whole, nil
	}
	if v.Deleted || v.Lost {
		last, err := j.snap.LastLive(v.Type, v.ID, v.VersionID)
		if errors.Is(err, engine.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("cannot read what was deleted: %w", err)
		}
		v = &last
	}
	where, err := j.condition(v.Type, grant)
	if err != nil {
		return false, err
	}
	matches, err := j.snap.Matches(j.ctx, v, where)
	if err != nil && !errors.Is(err, engine.ErrUnindexable) {
		err = searchError(err)
	}
	return matches && err == nil, err
}

// reachesOld tells whether a version of a history is in reach: the resource as it is
// now, or was when it was deleted, has to be, and so has the version. So who has a resource
// that was somebody else's does not get what it was, and who had it gets nothing any more.
func (j *judge) reachesOld(v *engine.Version) (bool, error) {
	if !j.x.isLimited(j.needs, v.Type) {
		return true, nil
	}
	now, err := j.snap.Get(v.Type, v.ID)
	if errors.Is(err, engine.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read a resource: %w", err)
	}
	ok, err := j.reaches(&now)
	if err != nil || !ok || now.VersionID == v.VersionID {
		return ok, err
	}
	return j.reaches(v)
}

// reaches is for one version.
func (x *exchange) reaches(snap *engine.Snapshot, needs access.Needs, v *engine.Version) (bool, error) {
	if x.who == nil {
		return true, nil
	}
	// Nearly always: a context costs more than this.
	if grant := x.may(needs, v.Type); grant.Whole || grant.None() {
		return grant.Whole, nil
	}
	ctx, cancel := x.workContext()
	defer cancel()
	return x.judge(ctx, snap, needs).reaches(v)
}

// reachesVersion tells whether the client may read one version of a history.
func (x *exchange) reachesVersion(snap *engine.Snapshot, v *engine.Version) (bool, error) {
	ctx, cancel := x.workContext()
	defer cancel()
	return x.judge(ctx, snap, access.Read).reachesOld(v)
}
