package httpapi

import (
	"errors"
	"fmt"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
)

// matches finds resources of a type by a search query, at most limit of them. It
// is the one place where conditional interactions ask the search.
func (x *exchange) matches(typ fhir.TypeCode, query string, limit int) (ids [][]byte, err error) {
	if x.server.search == nil {
		return nil, notSupported(fasthttp.StatusNotImplemented, "A condition by search, '%s?%s', is not supported by this server.", typ, query)
	}
	return x.server.search(typ, query, limit)
}

// existsError stops a conditional create: the resource is there.
type existsError struct{ id []byte }

func (e *existsError) Error() string { return "the resource exists already" }

// checkNoneExists evaluates If-None-Exist of a create: nil, or an *existsError.
func (x *exchange) checkNoneExists() error {
	given := x.ctx.Request.Header.PeekAll("If-None-Exist")
	switch {
	case len(given) == 0:
		return nil
	case len(given) > 1 || len(given[0]) == 0 || string(given[0]) == "&" || string(given[0]) == "?":
		return badRequest("The header If-None-Exist is not one search query.")
	}
	query := given[0]
	if query[0] == '?' {
		query = query[1:]
	}
	ids, err := x.matches(x.addr.typ, string(query), 2)
	switch {
	case err != nil:
		return err
	case len(ids) == 1:
		return &existsError{ids[0]}
	case len(ids) > 1:
		return x.notSelective()
	}
	return nil
}

func (x *exchange) notSelective() error {
	return &problem{fasthttp.StatusPreconditionFailed, codeProcessing, fmt.Sprintf("Conditional operation on %s was not attempted because search criteria was not selective enough.", x.addr.typ)}
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
