package httpapi

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
	"kiln/httpapi/access"
)

// read answers GET {type}/{id}.
func (x *exchange) read() error {
	v, err := x.current(access.Read)
	if err != nil {
		return err
	}
	return x.version(&v)
}

// current is the current version of the address's resource, which may be a
// deleted one. 404 when there is none that the client reaches with needs.
func (x *exchange) current(needs access.Needs) (engine.Version, error) {
	if !fhir.ValidID(x.addr.id) {
		return engine.Version{}, x.missing()
	}
	snap, done, err := x.snapshot()
	if err != nil {
		return engine.Version{}, err
	}
	defer done()
	v, err := snap.Get(x.addr.typ, x.addr.id)
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return v, x.missing()
	case err != nil:
		return v, fmt.Errorf("cannot read a resource: %w", err)
	}
	if ok, err := x.reaches(snap, needs, &v); err != nil || !ok {
		return engine.Version{}, x.notThere(err)
	}
	return v, nil
}

// live is current, and 410 for a deleted one.
func (x *exchange) live() (*engine.Version, error) {
	v, err := x.current(access.Read)
	switch {
	case err != nil:
		return nil, err
	case v.Deleted:
		return nil, x.gone(&v)
	}
	return &v, nil
}

// vread answers GET {type}/{id}/_history/{version}.
func (x *exchange) vread() error {
	number := parseVersion(x.addr.name)
	if !fhir.ValidID(x.addr.id) || number == noVersion {
		return x.missingVersion()
	}
	snap, done, err := x.snapshot()
	if err != nil {
		return err
	}
	defer done()
	v, err := snap.Vread(x.addr.typ, x.addr.id, number)
	if errors.Is(err, engine.ErrNotFound) {
		return x.missingVersion()
	}
	if err != nil {
		return fmt.Errorf("cannot read a version: %w", err)
	}
	if ok, err := x.reachesVersion(snap, &v); err != nil || !ok {
		return cmp.Or(err, x.missingVersion())
	}
	return x.version(&v)
}

// version answers with a version that was found: 200, 304, or 410.
func (x *exchange) version(v *engine.Version) error {
	if v.Deleted {
		return x.gone(v)
	}
	if x.isNotModified(v) {
		x.versionHeaders(v.VersionID, v.LastUpdated)
		x.empty(fasthttp.StatusNotModified)
		return nil
	}
	shown, err := x.view()
	if err != nil {
		return err
	}
	if shown.IsWhole() {
		x.resource(fasthttp.StatusOK, v)
		return nil
	}
	x.versionHeaders(v.VersionID, v.LastUpdated)
	x.body(fasthttp.StatusOK, contentTypeAnswer, shown.Append(x.buffer(), v.AppendJSON(nil)))
	return nil
}

// gone is the answer for a deleted version.
func (x *exchange) gone(v *engine.Version) error {
	x.versionHeaders(v.VersionID, v.LastUpdated)
	if v.Lost {
		return &problem{fasthttp.StatusInternalServerError, codeNoStore, lostText(v)}
	}
	return &problem{fasthttp.StatusGone, codeDeleted, fmt.Sprintf("Resource type '%s' with id '%s' is deleted.", x.addr.typeName, x.addr.id)}
}

// lostText tells of a version that a repair of the store found lost. It is no
// deletion, and no older version stands in for it.
func lostText(v *engine.Version) string {
	return fmt.Sprintf("The content of version %d of '%s/%s' was lost when this server's data was damaged. Versions before it are in the history; an update makes a new current version.",
		v.VersionID, v.Type, v.ID)
}

// isNotModified evaluates If-None-Match or, without one, If-Modified-Since
// (RFC 9110 section 13.2.2).
func (x *exchange) isNotModified(v *engine.Version) bool {
	if tags := x.ctx.Request.Header.PeekAll("If-None-Match"); len(tags) > 0 {
		for _, header := range tags {
			if anyTagMatches(header, v.VersionID) {
				return true
			}
		}
		return false
	}
	since, ok := parseHTTPDate(x.ctx.Request.Header.Peek("If-Modified-Since"))
	return ok && v.LastUpdated.Milli/1000 <= since.Unix()
}

func (x *exchange) missing() error {
	return &problem{fasthttp.StatusNotFound, codeNotFound, fmt.Sprintf("Resource type '%s' with id '%s' couldn't be found.", x.addr.typeName, x.addr.id)}
}

func (x *exchange) missingVersion() error {
	return &problem{fasthttp.StatusNotFound, codeNotFound, fmt.Sprintf("Resource type '%s' with id '%s' and version '%s' couldn't be found.", x.addr.typeName, x.addr.id, x.addr.name)}
}
