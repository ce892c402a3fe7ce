package httpapi

import (
	"errors"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
	"kiln/httpapi/access"
	"kiln/query"
)

// What a client may do is decided in three places. authorize looks at the table's row
// and the address's type before anything else is looked at. Searches are limited to
// what may be found (query.Access), so counts, orders, pages, chains and includes know
// of nothing else. And what is read or written by its id is judged by itself (reaches).
//
// A client that reaches a part of a type only is told of the rest what it is told of
// what is not there.

// authorize decides about the interaction as a whole.
func (x *exchange) authorize() error {
	if x.row == rowNone {
		return nil
	}
	if x.who == nil && (x.server.opts.Auth == nil || x.isPublic(x.server.table.rows[x.row].method)) {
		return nil
	}
	if x.who == nil || !x.who.Has(x.server.table.rows[x.row].needs, x.typeAsked()) {
		return denied()
	}
	return nil
}

// typeAsked is the type that the address asks for; 0: several.
func (x *exchange) typeAsked() fhir.TypeCode {
	if x.addr.place == placeCompartment {
		return fhir.TypeByName(x.addr.name)
	}
	return x.addr.typ
}

// denied says no more than the contract's server does.
func denied() error {
	return &problem{fasthttp.StatusForbidden, codeForbidden, "Authorization failed."}
}

// may is what the client reaches of a type.
func (x *exchange) may(needs access.Needs, t fhir.TypeCode) access.Grant { return x.who.May(needs, t) }

// check denies what the client may not do with any resource of a type.
func (x *exchange) check(needs access.Needs, t fhir.TypeCode) error {
	if x.who != nil && !x.who.Has(needs, t) {
		return denied()
	}
	return nil
}

// searchAccess limits searches; nil: the client may find everything.
func (x *exchange) searchAccess() *query.Access {
	if x.who == nil || x.who.MayAll(access.Search) && x.who.MayAll(access.Read) {
		return nil
	}
	return &query.Access{
		Find:    func(t fhir.TypeCode) query.Allowed { return allowed(x.may(access.Search, t)) },
		Bring:   func(t fhir.TypeCode) query.Allowed { return allowed(x.may(access.Read, t)) },
		Options: x.ruleOptions(),
	}
}

// ruleOptions are those that rules are read by. The Host of a request, which its client
// chooses, makes no reference one to this server.
func (x *exchange) ruleOptions() query.Options {
	options := x.openOptions()
	options.Base = x.server.base
	return options
}

// allowed is a grant as searches take it.
func allowed(g access.Grant) query.Allowed {
	a := query.Allowed{Whole: g.Whole}
	for _, rule := range g.Rules {
		a.Rules = append(a.Rules, query.Rule{Patient: rule.Patient, Where: queryOf(rule.Query)})
	}
	return a
}

// queryOf are the parameters of a query's text.
func queryOf(text string) (parameters []query.Parameter) {
	var args fasthttp.Args
	args.Parse(text)
	for name, value := range args.All() {
		parameters = append(parameters, query.Parameter{Name: string(name), Value: string(value)})
	}
	return parameters
}

// isLimited: the client reaches a part of a type only.
func (x *exchange) isLimited(needs access.Needs, t fhir.TypeCode) bool {
	return x.who != nil && !x.may(needs, t).Whole
}

// permitted checks that the client may make a change: of what is there, and to what
// it becomes. What it reaches not is not there for it, so it creates no resource under
// an id of its own: that would tell which are taken. What was checked is what the change
// is conditional on from then on.
func (x *exchange) permitted(change *engine.Change) error {
	row := &x.server.table.rows[x.row]
	needs := row.needs & (access.Create | access.Update | access.Delete)
	if !x.isLimited(needs, change.Type) {
		return nil
	}
	snap, done, err := x.snapshot()
	if err != nil {
		return err
	}
	defer done()
	if !change.Delete {
		becomes := engine.Version{Type: change.Type, ID: change.ID, VersionID: 1, LastUpdated: fhir.Instant{Milli: x.now().UnixMilli()}, Body: change.Body, Splice: change.Splice}
		if ok, err := x.reaches(snap, needs, &becomes); err != nil || !ok {
			return orDenied(err)
		}
	}
	if needs == access.Create || row.conditional && change.If.Absent {
		return nil // under a new id
	}
	return x.permittedOld(snap, needs, change)
}

func orDenied(err error) error {
	if err == nil {
		err = denied()
	}
	return err
}

// permittedOld checks the version that a change is made of.
func (x *exchange) permittedOld(snap *engine.Snapshot, needs access.Needs, change *engine.Change) error {
	old, err := snap.Get(change.Type, change.ID)
	if err != nil {
		return x.notThere(err)
	}
	if ok, err := x.reaches(snap, needs, &old); err != nil || !ok {
		return x.notThere(err)
	}
	switch {
	case change.If.HasVersion:
		return x.permittedNamed(snap, needs, change, &old)
	case change.If.Absent && !old.Deleted, change.If.Present && old.Deleted:
		return x.refused(change, &engine.ConflictError{CurrentVersion: old.VersionID, CurrentDeleted: old.Deleted})
	}
	change.If = engine.Precondition{Version: old.VersionID, HasVersion: true}
	x.computed = true
	return nil
}

// permittedNamed checks a version that is not the current one: should it be that when
// the change is committed, it is the one that counts.
func (x *exchange) permittedNamed(snap *engine.Snapshot, needs access.Needs, change *engine.Change, old *engine.Version) error {
	if change.If.Version == old.VersionID {
		return nil
	}
	named, err := snap.Vread(change.Type, change.ID, change.If.Version)
	if errors.Is(err, engine.ErrNotFound) {
		return nil // the commit finds the same
	}
	if err != nil {
		return err
	}
	if ok, err := x.reaches(snap, needs, &named); err != nil || !ok {
		return x.notThere(err)
	}
	return nil
}

// reachesAll denies when some version is out of reach.
func (x *exchange) reachesAll(needs access.Needs, versions []engine.Version) error {
	if x.who == nil || len(versions) == 0 {
		return nil
	}
	snap, done, err := x.snapshot()
	if err != nil {
		return err
	}
	defer done()
	for i := range versions {
		if ok, err := x.reaches(snap, needs, &versions[i]); err != nil || !ok {
			return orDenied(err)
		}
	}
	return nil
}

// notThere is the answer for what is not there, and for what the client does not
// reach (nil).
func (x *exchange) notThere(err error) error {
	if err == nil || errors.Is(err, engine.ErrNotFound) {
		return x.missing()
	}
	return err
}

// mayShow tells whether an answer may have a resource that was written in it.
func (x *exchange) mayShow(v *engine.Version) bool {
	if x.who == nil {
		return true
	}
	snap, done, err := x.snapshot()
	if err != nil {
		return false
	}
	defer done()
	ok, err := x.reaches(snap, access.Read, v)
	return ok && err == nil
}
