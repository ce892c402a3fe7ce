package httpapi

import (
	"errors"
	"fmt"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/patch"
	"kiln/httpapi/access"
)

const (
	contentTypeJSONPatch  = "application/json-patch+json"
	contentTypeMergePatch = "application/merge-patch+json"
	acceptedPatches       = contentTypeJSONPatch + ", " + contentTypeMergePatch + ", " + contentTypeFHIR
)

// patch prepares PATCH {type}/{id}: an update with the patched resource, on
// condition that it still is the version that was patched.
func (x *exchange) patch() (engine.Change, error) {
	if err := x.checkReturn(); err != nil {
		return engine.Change{}, err
	}
	apply, err := x.patchFormat()
	if err != nil {
		return engine.Change{}, err
	}
	condition, err := x.precondition()
	if err != nil {
		return engine.Change{}, err
	}
	if condition.Absent {
		return engine.Change{}, notSupported(fasthttp.StatusBadRequest, "The header If-None-Match is not supported on PATCH.")
	}
	old, err := x.patchable(condition)
	if err != nil {
		return engine.Change{}, err
	}
	text, err := apply(old.AppendJSON(nil), x.ctx.PostBody())
	if err != nil {
		return engine.Change{}, err
	}
	r, err := x.patched(text)
	if err != nil {
		return engine.Change{}, err
	}
	x.computed = !condition.HasVersion
	return engine.Change{
		Type: x.addr.typ, ID: x.addr.id, IDAt: r.IDAt, Body: r.Body, Splice: r.Splice,
		If: engine.Precondition{Version: old.VersionID, HasVersion: true},
	}, nil
}

// patchFormat chooses by the Content-Type.
func (x *exchange) patchFormat() (func(resource, text []byte) ([]byte, error), error) {
	given := x.ctx.Request.Header.ContentType()
	limit := x.server.opts.BodyBytesMax
	m := parseMediaType(given)
	switch {
	case m.name == contentTypeJSONPatch:
		return func(resource, text []byte) ([]byte, error) { return patch.JSON(resource, text, limit) }, nil
	case m.name == contentTypeMergePatch:
		return func(resource, text []byte) ([]byte, error) { return patch.Merge(resource, text, limit) }, nil
	case m.isJSON():
		name := x.addr.typ.String()
		return func(resource, text []byte) ([]byte, error) { return patch.FHIRPath(resource, text, name, limit) }, nil
	}
	x.ctx.Response.Header.Set("Accept-Patch", acceptedPatches)
	return nil, notSupported(fasthttp.StatusUnsupportedMediaType, "The Content-Type '%s' is not supported for PATCH; use one of %s.", given, acceptedPatches)
}

// patchable reads the version to patch.
func (x *exchange) patchable(condition engine.Precondition) (*engine.Version, error) {
	v, err := x.current(access.Update)
	switch {
	case err != nil:
		return nil, err
	case condition.HasVersion && condition.Version != v.VersionID:
		return nil, x.mismatch()
	case v.Deleted:
		return nil, x.gone(&v)
	}
	return &v, nil
}

// patched checks a patch's result: it is refused as an update with it would be.
func (x *exchange) patched(text []byte) (*fhir.Resource, error) {
	r, err := x.scanned(text)
	var refused *fhir.ScanError
	var other *wrongTypeError
	var misbuilt *structureError
	switch {
	case errors.As(err, &refused):
		return nil, unprocessable("The patch would make a text that is no resource: %v.", err)
	case errors.As(err, &other), err == nil && string(r.ID) != string(x.addr.id):
		return nil, badRequest("A patch cannot change the resource's type or id.")
	}
	if errors.As(err, &misbuilt) {
		misbuilt.status = fasthttp.StatusUnprocessableEntity
	}
	return r, err
}

func unprocessable(format string, args ...any) error {
	return &problem{fasthttp.StatusUnprocessableEntity, codeProcessing, fmt.Sprintf(format, args...)}
}
