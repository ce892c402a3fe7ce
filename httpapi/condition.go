package httpapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
	"kiln/httpapi/access"
	"kiln/query"
)

// criteria are a condition by search: of If-None-Exist, of the address of a
// conditional update, patch or delete, or of a conditional reference.
type criteria struct {
	typ        fhir.TypeCode
	parameters []query.Parameter
}

// readCriteria reads "identifier=1&..." as in an address.
func readCriteria(typ fhir.TypeCode, text string) criteria {
	var args fasthttp.Args
	args.Parse(text)
	return criteriaOf(typ, &args)
}

// criteriaOf are a query's parameters without those that are about the answer.
func criteriaOf(typ fhir.TypeCode, args *fasthttp.Args) criteria {
	c := criteria{typ: typ}
	for name, value := range args.All() {
		if string(name) != "_format" && string(name) != "_pretty" {
			c.parameters = append(c.parameters, query.Parameter{Name: string(name), Value: string(value)})
		}
	}
	return c
}

// key is the same for equal criteria in any order.
func (c criteria) key() string {
	parts := make([]string, 0, 1+len(c.parameters))
	for _, p := range c.parameters {
		parts = append(parts, p.Name+"="+p.Value)
	}
	slices.Sort(parts)
	return c.typ.String() + "?" + strings.Join(parts, "&")
}

// String is for answers.
func (c criteria) String() string { return c.key() }

// matches finds what criteria select, at most limit resources. It is the one
// place where conditional interactions ask the search. Nothing is left out of
// criteria, whatever the client prefers: the rest would select too much.
func (x *exchange) matches(c criteria, limit int) ([]engine.Version, error) {
	for _, p := range c.parameters {
		if p.Value == "" {
			return nil, badRequest("The criteria '%s' have no value for '%s'.", c, p.Name)
		}
	}
	if err := x.check(access.Search, c.typ); err != nil {
		return nil, err
	}
	options := x.queryOptions()
	options.Lenient = false
	search, err := query.Parse([]fhir.TypeCode{c.typ}, c.parameters, options)
	if err != nil {
		return nil, searchError(err)
	}
	if !search.Conditions() {
		return nil, badRequest("The request has no criteria to select a resource of type '%s' by.", c.typ)
	}
	snap, done, err := x.snapshot()
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := x.workContext()
	defer cancel()
	found, err := search.First(ctx, snap, limit)
	if err != nil {
		return nil, searchError(err)
	}
	return found, nil
}

// the finds the one resource that criteria select; nil: there is none.
func (x *exchange) the(c criteria) (*engine.Version, error) {
	found, err := x.matches(c, 2)
	switch {
	case err != nil:
		return nil, err
	case len(found) > 1:
		return nil, x.notSelective()
	case len(found) == 0:
		return nil, nil
	}
	return &found[0], nil
}

func (x *exchange) notSelective() error {
	return &problem{fasthttp.StatusPreconditionFailed, codeProcessing, fmt.Sprintf("Conditional operation on %s was not attempted because search criteria was not selective enough.", x.addr.typ)}
}

// existsError stops a conditional create: the resource is there.
type existsError struct{ id []byte }

func (e *existsError) Error() string { return "the resource exists already" }

// noneExist reads If-None-Exist; ok is false without one.
func (x *exchange) noneExist() (c criteria, ok bool, err error) {
	given := x.ctx.Request.Header.PeekAll("If-None-Exist")
	switch {
	case len(given) == 0:
		return c, false, nil
	case len(given) > 1 || len(strings.Trim(string(given[0]), "?& ")) == 0:
		return c, false, badRequest("The header If-None-Exist is not one search query.")
	}
	return readCriteria(x.addr.typ, strings.TrimPrefix(string(given[0]), "?")), true, nil
}

// checkNoneExists evaluates If-None-Exist of a create: nil, or an *existsError.
func (x *exchange) checkNoneExists() error {
	c, ok, err := x.noneExist()
	if err != nil || !ok {
		return err
	}
	v, err := x.the(c)
	if err == nil && v != nil {
		return &existsError{v.ID}
	}
	return err
}

// existing reads the resource that a conditional create has found.
func (x *exchange) existing(id []byte) (*engine.Version, error) {
	snap, done, err := x.snapshot()
	if err != nil {
		return nil, err
	}
	defer done()
	v, err := snap.Get(x.addr.typ, id)
	if err == nil && v.Deleted {
		err = engine.ErrNotFound
	}
	if errors.Is(err, engine.ErrNotFound) {
		return nil, &problem{fasthttp.StatusConflict, codeConflict, "The resource that was found was deleted meanwhile; try again."}
	}
	return &v, err
}

// answerExisting answers a conditional create that has found its resource.
func (x *exchange) answerExisting(id []byte) error {
	v, err := x.existing(id)
	if err != nil {
		return err
	}
	change := engine.Change{Type: v.Type, ID: v.ID, Body: v.Body, Splice: v.Splice}
	done := engine.Committed{VersionID: v.VersionID, LastUpdated: v.LastUpdated, Unchanged: true, LSN: v.LSN}
	x.ctx.Response.Header.Set("Location", x.versionURL(&change, &done))
	x.answerWrite(&change, &done)
	return nil
}

// conditionLocks keep two conditional writes with equal criteria from both
// finding nothing, and both creating: one searches when the other's write is
// visible. Criteria share a lock by hash.
//
// That is all that is promised. Different criteria that select the same resource
// do not exclude each other, and neither do plain writes and imports: what they
// make while a condition is evaluated counts as made after it, as if the
// conditional write had been a moment faster.
type conditionLocks [conditionLocksCount]chan struct{}

func newConditionLocks() *conditionLocks {
	l := &conditionLocks{}
	for i := range l {
		l[i] = make(chan struct{}, 1)
	}
	return l
}

// lock waits for all keys; it takes them in one order, so that nobody waits in a
// circle.
func (l *conditionLocks) lock(ctx context.Context, keys []string) (unlock func(), err error) {
	var held []uint64
	for _, key := range keys {
		held = append(held, xxhash.Sum64String(key)%conditionLocksCount)
	}
	slices.Sort(held)
	held = slices.Compact(held)
	release := func(n int) {
		for _, i := range held[:n] {
			<-l[i]
		}
	}
	for n, i := range held {
		select {
		case l[i] <- struct{}{}:
		case <-ctx.Done():
			release(n)
			return nil, ctx.Err()
		}
	}
	return func() { release(len(held)) }, nil
}

// lockCondition locks what the exchange's write is conditional on, if anything.
func (x *exchange) lockCondition() (unlock func(), err error) {
	c, ok, err := x.noneExist()
	if err != nil {
		return nil, err
	}
	if x.server.table.rows[x.row].conditional {
		c, ok = criteriaOf(x.addr.typ, x.ctx.QueryArgs()), true
	}
	if !ok {
		return func() {}, nil
	}
	ctx, cancel := x.workContext()
	defer cancel()
	return x.server.conditions.lock(ctx, []string{c.key()})
}
