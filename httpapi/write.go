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

// write answers an interaction that makes a version. A change that was computed
// from a version is made again when somebody else was faster.
func (x *exchange) write() error {
	unlock, err := x.lockCondition()
	if err != nil {
		return err
	}
	defer unlock()
	for attempt := 1; ; attempt++ {
		change, err := x.prepared()
		var exists *existsError
		if errors.As(err, &exists) {
			return x.answerExisting(exists.id)
		}
		if err != nil {
			return err
		}
		done, err := x.commit(&change)
		var conflict *engine.ConflictError
		switch {
		case errors.As(err, &conflict) && x.computed && attempt < computedAttemptsMax:
			continue
		case errors.As(err, &conflict):
			return x.refused(&change, conflict)
		case err != nil:
			return err
		}
		x.answerWrite(&change, &done)
		return nil
	}
}

// prepared is the change of the exchange's row, which the client may make.
func (x *exchange) prepared() (engine.Change, error) {
	change, err := x.server.table.rows[x.row].prepare(x)
	if err == nil && x.who != nil {
		err = x.permitted(&change)
	}
	return change, err
}

// create prepares POST {type}: the server gives the id.
func (x *exchange) create() (engine.Change, error) {
	if err := x.checkWrite(); err != nil {
		return engine.Change{}, err
	}
	for _, name := range [...]string{"If-Match", "If-None-Match"} {
		if len(x.ctx.Request.Header.Peek(name)) > 0 {
			return engine.Change{}, notSupported(fasthttp.StatusBadRequest, "The header %s is not supported on create.", name)
		}
	}
	r, err := x.scanned(x.ctx.PostBody())
	if err != nil {
		return engine.Change{}, err
	}
	if err := x.checkNoneExists(); err != nil {
		return engine.Change{}, err
	}
	if len(x.addr.id) == 0 {
		x.addr.id = []byte(x.server.opts.NewID())
	}
	body, idAt, splice := fhir.AppendBodyWithID(nil, r, x.addr.id)
	return engine.Change{
		Type: x.addr.typ, ID: x.addr.id, IDAt: idAt, Body: body, Splice: splice,
		Post: true, If: engine.Precondition{Absent: true},
	}, nil
}

// update prepares PUT {type}/{id}, which creates what is not there.
func (x *exchange) update() (engine.Change, error) {
	if err := x.checkWrite(); err != nil {
		return engine.Change{}, err
	}
	if !fhir.ValidID(x.addr.id) {
		return engine.Change{}, invalidID(x.addr.id)
	}
	if len(x.ctx.Request.Header.Peek("If-None-Exist")) > 0 {
		return engine.Change{}, notSupported(fasthttp.StatusBadRequest, "The header If-None-Exist is for creates.")
	}
	condition, err := x.precondition()
	if err != nil {
		return engine.Change{}, err
	}
	r, err := x.scanned(x.ctx.PostBody())
	if err != nil {
		return engine.Change{}, err
	}
	switch {
	case len(r.ID) == 0:
		return engine.Change{}, badRequest("The resource has no id; it must be the id of the address, '%s'.", x.addr.id)
	case string(r.ID) != string(x.addr.id):
		return engine.Change{}, badRequest("The resource's id '%s' is not the id of the address, '%s'.", r.ID, x.addr.id)
	}
	return engine.Change{
		Type: x.addr.typ, ID: x.addr.id, IDAt: r.IDAt, Body: r.Body, Splice: r.Splice, If: condition,
	}, nil
}

// delete prepares DELETE {type}/{id}. Deleting what is not there is no error. A
// hard delete is no change: it comes here from a transaction only.
func (x *exchange) delete() (engine.Change, error) {
	if hard, err := x.hardDelete(); err != nil {
		return engine.Change{}, err
	} else if hard {
		return engine.Change{}, notSupported(fasthttp.StatusBadRequest, "A hard delete cannot be part of a transaction; send it in a batch or alone.")
	}
	if !fhir.ValidID(x.addr.id) {
		return engine.Change{}, invalidID(x.addr.id)
	}
	condition, err := x.precondition()
	if err != nil {
		return engine.Change{}, err
	}
	if condition.Absent {
		return engine.Change{}, notSupported(fasthttp.StatusBadRequest, "The header If-None-Match is not supported on delete.")
	}
	if err := x.checkReturn(); err != nil {
		return engine.Change{}, err
	}
	return engine.Change{Type: x.addr.typ, ID: x.addr.id, Delete: true, If: condition}, nil
}

// checkWrite checks the headers of create and update.
func (x *exchange) checkWrite() error {
	if err := x.checkReturn(); err != nil {
		return err
	}
	contentType := x.ctx.Request.Header.ContentType()
	if !parseMediaType(contentType).isJSON() {
		return notSupported(fasthttp.StatusUnsupportedMediaType, "The Content-Type '%s' is not supported; use %s.", contentType, contentTypeFHIR)
	}
	return nil
}

func (x *exchange) checkReturn() error {
	if x.prefer.badReturn != "" {
		return badRequest("The value '%s' of the preference 'return' is not supported.", x.prefer.badReturn)
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

// scanned scans a resource for the address and checks that it may be stored. The
// result holds until the next call and the end of the exchange.
func (x *exchange) scanned(body []byte) (*fhir.Resource, error) {
	if len(body) == 0 {
		return nil, badRequest("The request has no body.")
	}
	r, err := x.scan(body)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Type == 0:
		return nil, &wrongTypeError{notSupported(fasthttp.StatusBadRequest, "Resource type '%s' is not supported.", r.TypeName)}
	case r.Type != x.addr.typ:
		return nil, &wrongTypeError{badRequest("The body is a resource of type '%s', and the address is for type '%s'.", r.TypeName, x.addr.typeName)}
	case r.Deleted:
		// The mark would not be kept, so it must not be accepted.
		return nil, badRequest("The extension %s is for $import only.", fhir.DeletedStateURL)
	}
	if err := checkWhole(r.Body); err != nil {
		return nil, err
	}
	return r, x.checkStructure(body)
}

// scan reads any resource. The result holds until the next call and the end of
// the exchange.
func (x *exchange) scan(text []byte) (*fhir.Resource, error) {
	if x.scanner == nil {
		x.scanner = x.server.scanners.Get().(*fhir.Scanner)
	}
	return x.scanner.Scan(text, nil)
}

// wrongTypeError is a resource that is not of the address's type.
type wrongTypeError struct{ error }

func (e *wrongTypeError) Unwrap() error { return e.error }

// answerWrite answers a change that was committed.
func (x *exchange) answerWrite(change *engine.Change, done *engine.Committed) {
	if x.prefer.returns != returnDefault {
		x.ctx.Response.Header.Set("Preference-Applied", "return="+returnNames[x.prefer.returns])
	}
	if change.Delete {
		x.answerDelete(done)
		return
	}
	status := fasthttp.StatusOK
	if done.Created {
		status = fasthttp.StatusCreated
		x.ctx.Response.Header.Set("Location", x.versionURL(change, done))
	}
	made := versionOf(change, done)
	switch returns := x.prefer.returns; {
	case returns == returnMinimal, returns != returnOutcome && !x.mayShow(made):
		x.versionHeaders(done.VersionID, done.LastUpdated)
		x.empty(status)
	case returns == returnOutcome:
		x.versionHeaders(done.VersionID, done.LastUpdated)
		x.outcome(status, issue{severity: "information", code: codeInformational, text: written(change, done)})
	default:
		x.resource(status, made)
	}
}

func (x *exchange) answerDelete(done *engine.Committed) {
	if done.VersionID != 0 {
		x.ctx.Response.Header.SetBytesV("ETag", appendETag(nil, done.VersionID))
	}
	if x.prefer.returns != returnOutcome {
		x.ctx.Response.Header.Del("Preference-Applied")
		x.empty(fasthttp.StatusNoContent)
		return
	}
	x.outcome(fasthttp.StatusOK, issue{severity: "information", code: codeInformational, text: written(&engine.Change{Delete: true}, done)})
}

// versionURL is the address of the version that a change made.
func (x *exchange) versionURL(change *engine.Change, done *engine.Committed) string {
	return fmt.Sprintf("%s/%s/%s/_history/%d", x.baseURL(), change.Type, change.ID, done.VersionID)
}

// versionOf is the version that a change made.
func versionOf(change *engine.Change, done *engine.Committed) *engine.Version {
	return &engine.Version{
		Type: change.Type, ID: change.ID, VersionID: done.VersionID, LastUpdated: done.LastUpdated,
		LSN: done.LSN, Body: change.Body, Splice: change.Splice,
	}
}

func written(change *engine.Change, done *engine.Committed) string {
	switch {
	case change.Delete && done.Unchanged:
		return "There was nothing to delete."
	case change.Delete:
		return "The resource was deleted as version " + strconv.FormatInt(done.VersionID, 10) + "."
	case done.Unchanged:
		return "The content is the same as before; no new version was made."
	case done.Created:
		return "The resource was created as version " + strconv.FormatInt(done.VersionID, 10) + "."
	default:
		return "The resource was updated to version " + strconv.FormatInt(done.VersionID, 10) + "."
	}
}

// commit writes one change.
func (x *exchange) commit(change *engine.Change) (engine.Committed, error) {
	done, err := x.commitAll(x.parentContext(), []engine.Change{*change})
	if err != nil {
		return engine.Committed{}, err
	}
	return done[0], nil
}

// refused words a precondition that does not hold.
func (x *exchange) refused(change *engine.Change, conflict *engine.ConflictError) error {
	switch condition := change.If; {
	case x.computed:
		return &problem{fasthttp.StatusConflict, codeConflict, fmt.Sprintf("The resource was changed by others in each of %d attempts; try again, or use If-Match.", computedAttemptsMax)}
	case condition.HasVersion && conflict.CurrentVersion == 0:
		return x.missing()
	case condition.HasVersion:
		return x.mismatch()
	case condition.Present:
		return &problem{fasthttp.StatusPreconditionFailed, codeConflict, "The resource does not exist."}
	default:
		return &problem{fasthttp.StatusPreconditionFailed, codeConflict, "The resource exists already."}
	}
}

// mismatch is the answer to an If-Match that names another version.
func (x *exchange) mismatch() error {
	tag := bytes.TrimSpace(x.ctx.Request.Header.Peek("If-Match")) // W/"version"
	return &problem{fasthttp.StatusPreconditionFailed, codeConflict, fmt.Sprintf("The supplied version '%s' did not match.", tag[3:len(tag)-1])}
}

func invalidID(id []byte) error {
	return badRequest("Invalid resource id: '%s'. Id must be any combination of upper or lower case ASCII letters, numerals, '-' and '.', with a length limit of 64 characters.", id)
}
