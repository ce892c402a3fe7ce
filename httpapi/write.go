package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
)

// create answers POST {type}: the server gives the id.
func (x *exchange) create() error {
	if err := x.checkWrite(); err != nil {
		return err
	}
	for _, name := range [...]string{"If-Match", "If-None-Match"} {
		if len(x.ctx.Request.Header.Peek(name)) > 0 {
			return notSupported(fasthttp.StatusBadRequest, "The header %s is not supported on create.", name)
		}
	}
	return x.withBody(func(r *fhir.Resource) error {
		id := []byte(x.server.opts.NewID())
		body, idAt, splice := fhir.AppendBodyWithID(nil, r, id)
		x.addr.id = id
		return x.put(engine.Change{
			Type: x.addr.typ, ID: id, IDAt: idAt, Body: body, Splice: splice,
			If: engine.Precondition{Absent: true},
		})
	})
}

// update answers PUT {type}/{id}, which creates what is not there.
func (x *exchange) update() error {
	if err := x.checkWrite(); err != nil {
		return err
	}
	if !fhir.ValidID(x.addr.id) {
		return invalidID(x.addr.id)
	}
	condition, err := x.precondition()
	if err != nil {
		return err
	}
	return x.withBody(func(r *fhir.Resource) error {
		switch {
		case len(r.ID) == 0:
			return badRequest("The resource has no id; it must be the id of the address, '%s'.", x.addr.id)
		case string(r.ID) != string(x.addr.id):
			return badRequest("The resource's id '%s' is not the id of the address, '%s'.", r.ID, x.addr.id)
		}
		return x.put(engine.Change{
			Type: x.addr.typ, ID: x.addr.id, IDAt: r.IDAt, Body: r.Body, Splice: r.Splice, If: condition,
		})
	})
}

// delete answers DELETE {type}/{id}. Deleting what is not there is no error.
func (x *exchange) delete() error {
	if !fhir.ValidID(x.addr.id) {
		return invalidID(x.addr.id)
	}
	condition, err := x.precondition()
	if err != nil {
		return err
	}
	if condition.Absent {
		return notSupported(fasthttp.StatusBadRequest, "The header If-None-Match is not supported on delete.")
	}
	done, err := x.commit(engine.Change{Type: x.addr.typ, ID: x.addr.id, Delete: true, If: condition})
	if err != nil {
		return err
	}
	if done.VersionID != 0 {
		x.ctx.Response.Header.SetBytesV("ETag", appendETag(nil, done.VersionID))
	}
	x.empty(fasthttp.StatusNoContent)
	return nil
}

// checkWrite checks the headers of create and update.
func (x *exchange) checkWrite() error {
	if x.prefer.badReturn != "" {
		return badRequest("The value '%s' of the preference 'return' is not supported.", x.prefer.badReturn)
	}
	if len(x.ctx.Request.Header.Peek("If-None-Exist")) > 0 {
		return notSupported(fasthttp.StatusNotImplemented, "Conditional create is not supported by this server.")
	}
	if len(x.ctx.Request.Header.ContentEncoding()) > 0 {
		return notSupported(fasthttp.StatusUnsupportedMediaType, "A Content-Encoding of requests is not supported.")
	}
	contentType := x.ctx.Request.Header.ContentType()
	if !parseMediaType(contentType).isJSON() {
		return notSupported(fasthttp.StatusUnsupportedMediaType, "The Content-Type '%s' is not supported; use %s.", contentType, contentTypeFHIR)
	}
	return nil
}

// precondition reads If-Match and If-None-Match of a write.
func (x *exchange) precondition() (engine.Precondition, error) {
	var p engine.Precondition
	header := &x.ctx.Request.Header
	if none := header.PeekAll("If-None-Match"); len(none) > 0 {
		if len(none) > 1 || string(none[0]) != "*" || len(header.Peek("If-Match")) > 0 {
			return p, notSupported(fasthttp.StatusBadRequest, "The only If-None-Match supported on a write is '*', without If-Match.")
		}
		p.Absent = true
		return p, nil
	}
	tags := header.PeekAll("If-Match")
	switch {
	case len(tags) == 0:
		return p, nil
	case len(tags) > 1:
		return p, badRequest("The header If-Match is given more than once.")
	case string(tags[0]) == "*":
		p.Present = true
		return p, nil
	}
	version, ok := parseWeakETag(tags[0])
	if !ok {
		return p, badRequest("The header If-Match is not of the form W/\"version\".")
	}
	p.Version, p.HasVersion = version, true
	return p, nil
}

// withBody scans the request body, checks that it is a resource of the
// address's type, and hands it to fn. The resource holds until fn returns.
func (x *exchange) withBody(fn func(*fhir.Resource) error) error {
	body := x.ctx.PostBody()
	if len(body) == 0 {
		return badRequest("The request has no body.")
	}
	scanner := x.server.scanners.Get().(*fhir.Scanner)
	defer x.server.scanners.Put(scanner)
	r, err := scanner.Scan(body, nil)
	if err != nil {
		return err
	}
	switch {
	case r.Type == 0:
		return notSupported(fasthttp.StatusBadRequest, "Resource type '%s' is not supported.", r.TypeName)
	case r.Type != x.addr.typ:
		return badRequest("The body is a resource of type '%s', and the address is for type '%s'.", r.TypeName, x.addr.typeName)
	case r.Deleted:
		// The mark would not be kept, so it must not be accepted.
		return badRequest("The extension %s is for $import only.", fhir.DeletedStateURL)
	}
	return fn(r)
}

// put commits a create or update and answers.
func (x *exchange) put(change engine.Change) error {
	done, err := x.commit(change)
	if err != nil {
		return err
	}
	status := fasthttp.StatusOK
	if done.Created {
		status = fasthttp.StatusCreated
		location := fmt.Sprintf("%s/%s/%s/_history/%d", x.baseURL(), x.addr.typeName, change.ID, done.VersionID)
		x.ctx.Response.Header.Set("Location", location)
	}
	v := engine.Version{
		Type: change.Type, ID: change.ID, VersionID: done.VersionID, LastUpdated: done.LastUpdated,
		LSN: done.LSN, Body: change.Body, Splice: change.Splice,
	}
	if x.prefer.returns != returnDefault {
		x.ctx.Response.Header.Set("Preference-Applied", "return="+returnNames[x.prefer.returns])
	}
	switch x.prefer.returns {
	case returnMinimal:
		x.versionHeaders(v.VersionID, v.LastUpdated)
		x.empty(status)
	case returnOutcome:
		x.versionHeaders(v.VersionID, v.LastUpdated)
		x.outcome(status, issue{"information", codeInformational, written(&done)})
	default:
		x.resource(status, &v)
	}
	return nil
}

func written(done *engine.Committed) string {
	switch {
	case done.Unchanged:
		return "The content is the same as before; no new version was made."
	case done.Created:
		return "The resource was created as version " + strconv.FormatInt(done.VersionID, 10) + "."
	default:
		return "The resource was updated to version " + strconv.FormatInt(done.VersionID, 10) + "."
	}
}

// commit writes one change and words a failed precondition.
func (x *exchange) commit(change engine.Change) (engine.Committed, error) {
	ctx, cancel := x.workContext()
	defer cancel()
	done, err := x.server.opts.Store.Commit(ctx, []engine.Change{change})
	var conflict *engine.ConflictError
	switch {
	case errors.As(err, &conflict):
		return engine.Committed{}, x.refused(change.If, conflict)
	case err != nil:
		return engine.Committed{}, err
	}
	return done[0], nil
}

func (x *exchange) refused(condition engine.Precondition, conflict *engine.ConflictError) error {
	switch {
	case condition.HasVersion && conflict.CurrentVersion == 0:
		return x.missing()
	case condition.HasVersion:
		tag := bytes.TrimSpace(x.ctx.Request.Header.Peek("If-Match")) // W/"version"
		return &problem{fasthttp.StatusPreconditionFailed, codeConflict, fmt.Sprintf("The supplied version '%s' did not match.", tag[3:len(tag)-1])}
	case condition.Present:
		return &problem{fasthttp.StatusPreconditionFailed, codeConflict, "The resource does not exist."}
	default:
		return &problem{fasthttp.StatusPreconditionFailed, codeConflict, "The resource exists already."}
	}
}

func invalidID(id []byte) error {
	return badRequest("Invalid resource id: '%s'. Id must be any combination of upper or lower case ASCII letters, numerals, '-' and '.', with a length limit of 64 characters.", id)
}
