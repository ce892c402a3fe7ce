package httpapi

import (
	"errors"
	"strconv"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
	"kiln/httpapi/access"
)

// selected is what the criteria of a conditional write have found.
type selected struct {
	version *engine.Version // nil: nothing
}

// selectedBy searches, unless a transaction has done so.
func (x *exchange) selectedBy() (*engine.Version, error) {
	if x.selected != nil {
		return x.selected.version, nil
	}
	return x.the(criteriaOf(x.addr.typ, x.ctx.QueryArgs()))
}

// conditionalUpdate prepares PUT {type}?criteria: it updates the one match, and
// creates a resource when there is none.
func (x *exchange) conditionalUpdate() (engine.Change, error) {
	condition, err := x.conditionalHeaders()
	if err != nil {
		return engine.Change{}, err
	}
	if err := x.checkWrite(); err != nil {
		return engine.Change{}, err
	}
	r, err := x.scanned(x.ctx.PostBody())
	if err != nil {
		return engine.Change{}, err
	}
	v, err := x.selectedBy()
	if err != nil {
		return engine.Change{}, err
	}
	if v != nil {
		if len(r.ID) > 0 && string(r.ID) != string(v.ID) {
			return engine.Change{}, badRequest("Found result with Id '%s', which did not match the provided Id '%s'.", v.ID, r.ID)
		}
		x.addr.id = v.ID
		condition = x.unchangedSince(v, condition)
	}
	if v == nil && len(r.ID) == 0 {
		if x.selected == nil { // a transaction has given it out
			x.addr.id = []byte(x.server.opts.NewID())
		}
		condition.Absent = !condition.HasVersion && !condition.Present
	}
	if len(r.ID) > 0 {
		x.addr.id = append([]byte(nil), r.ID...)
		return engine.Change{Type: x.addr.typ, ID: x.addr.id, IDAt: r.IDAt, Body: r.Body, Splice: r.Splice, If: condition}, nil
	}
	body, idAt, splice := fhir.AppendBodyWithID(nil, r, x.addr.id)
	return engine.Change{Type: x.addr.typ, ID: x.addr.id, IDAt: idAt, Body: body, Splice: splice, If: condition}, nil
}

// conditionalHeaders are those of a write that is conditional on a search too.
func (x *exchange) conditionalHeaders() (engine.Precondition, error) {
	condition, err := x.precondition()
	if err == nil && condition.Absent {
		err = notSupported(fasthttp.StatusBadRequest, "The header If-None-Match is not supported together with search criteria.")
	}
	return condition, err
}

// unchangedSince is the condition that what was selected still is as it was: it
// may not match any more. A version that the client has named counts more.
func (x *exchange) unchangedSince(v *engine.Version, condition engine.Precondition) engine.Precondition {
	if condition.HasVersion {
		return condition
	}
	x.computed = true
	return engine.Precondition{Version: v.VersionID, HasVersion: true}
}

// conditionalPatch prepares PATCH {type}?criteria.
func (x *exchange) conditionalPatch() (engine.Change, error) {
	if x.snap == nil { // the patch is for the version that was selected
		snap, err := x.server.opts.Store.Snapshot()
		if err != nil {
			return engine.Change{}, err
		}
		x.snap = snap
		defer func() {
			x.snap = nil
			snap.Release()
		}()
	}
	v, err := x.selectedBy()
	if err != nil {
		return engine.Change{}, err
	}
	if v == nil {
		return engine.Change{}, &problem{fasthttp.StatusNotFound, codeNotFound, "No resource of type '" + x.addr.typ.String() + "' matches the criteria."}
	}
	x.addr.id = v.ID
	change, err := x.patch()
	if x.computed {
		change.If.Version = v.VersionID // another one may have been read since
	}
	return change, err
}

// conditionalDeleteOne prepares DELETE {type}?criteria inside a transaction,
// which has searched.
func (x *exchange) conditionalDeleteOne() (engine.Change, error) {
	condition, err := x.conditionalHeaders()
	if err != nil {
		return engine.Change{}, err
	}
	v, err := x.selectedBy()
	if err != nil {
		return engine.Change{}, err
	}
	if v == nil {
		panic("BUG: a transaction prepares a delete of nothing")
	}
	x.addr.id = v.ID
	return engine.Change{Type: x.addr.typ, ID: v.ID, Delete: true, If: x.unchangedSince(v, condition)}, nil
}

// conditionalDelete answers DELETE {type}?criteria: of one resource, or with
// _count of so many at once.
func (x *exchange) conditionalDelete() error {
	if err := x.checkReturn(); err != nil {
		return err
	}
	unlock, err := x.lockCondition()
	if err != nil {
		return err
	}
	defer unlock()
	condition, err := x.conditionalHeaders()
	if err != nil {
		return err
	}
	limit, several, err := x.deleteLimit()
	if err != nil {
		return err
	}
	c := criteriaOf(x.addr.typ, x.ctx.QueryArgs())
	for attempt := 1; ; attempt++ {
		found, err := x.matches(c, max(limit, 2))
		if err != nil {
			return err
		}
		if len(found) > 1 && !several {
			return x.notSelective()
		}
		done, change, err := x.deleteAll(found[:min(len(found), limit)], condition)
		var conflict *engine.ConflictError
		if errors.As(err, &conflict) && attempt < computedAttemptsMax && x.computed {
			continue
		}
		switch {
		case errors.As(err, &conflict):
			return x.refused(&change, conflict)
		case err != nil:
			return err
		}
		x.answerDelete(&done)
		return nil
	}
}

// deleteLimit reads _count, and takes it from the criteria.
func (x *exchange) deleteLimit() (limit int, several bool, err error) {
	text, err := x.single("_count")
	if err != nil || text == "" {
		return 1, false, err
	}
	limit, err = strconv.Atoi(text)
	if err != nil || limit < 1 || limit > conditionalDeletesMax {
		return 0, false, badRequest("The value '%s' of the parameter '_count' is not a number from 1 to %d.", text, conditionalDeletesMax)
	}
	x.ctx.QueryArgs().Del("_count")
	return limit, true, nil
}

// deleteAll deletes all or none. done is that of the one resource; of several
// there is nothing to tell.
func (x *exchange) deleteAll(found []engine.Version, condition engine.Precondition) (done engine.Committed, first engine.Change, err error) {
	if len(found) == 0 {
		return engine.Committed{Unchanged: true}, first, nil
	}
	var changes []engine.Change
	if err := x.reachesAll(access.Delete, found); err != nil {
		return done, first, err
	}
	for i := range found {
		changes = append(changes, engine.Change{Type: x.addr.typ, ID: found[i].ID, Delete: true, If: x.unchangedSince(&found[i], condition)})
	}
	all, err := x.commitAll(x.parentContext(), changes)
	if err != nil {
		return done, changes[0], err
	}
	for i := range changes {
		x.removed = append(x.removed, string(changes[i].ID))
	}
	if len(all) == 1 {
		done = all[0]
	}
	return done, changes[0], nil
}
