package httpapi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir"
	"kiln/httpapi/access"
)

// hardDeleteNames are what a hard delete is asked for by, as Microsoft's server has it.
var hardDeleteNames = [...]string{"_hardDelete", "hardDelete"}

// remove answers DELETE {type}/{id}: a deleted version, or with _hardDelete=true
// no version at all.
func (x *exchange) remove() error {
	hard, err := x.hardDelete()
	switch {
	case err != nil:
		return err
	case hard:
		if err := x.check(access.Administer, x.addr.typ); err != nil {
			return err
		}
		return x.purge(engine.PurgeAll)
	}
	return x.write()
}

// hardDelete reads the query.
func (x *exchange) hardDelete() (hard bool, err error) {
	given := ""
	for _, name := range hardDeleteNames {
		if !x.ctx.QueryArgs().Has(name) {
			continue
		}
		if given != "" {
			return false, badRequest("The parameters '%s' and '%s' mean the same; give one of them.", given, name)
		}
		given = name
		value, err := x.single(name)
		if err != nil {
			return false, err
		}
		hard = strings.EqualFold(value, "true")
		if !hard && !strings.EqualFold(value, "false") {
			return false, badRequest("The value of the parameter '%s' is not true or false.", name)
		}
	}
	return hard, nil
}

// purgeHistory answers DELETE {type}/{id}/$purge-history.
func (x *exchange) purgeHistory() error { return x.purge(engine.PurgeHistory) }

// purge takes versions out for good. That there were none is no error.
func (x *exchange) purge(scope engine.PurgeScope) error {
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
	if err := x.checkReturn(); err != nil {
		return err
	}
	ctx, cancel := x.workContext()
	defer cancel()
	end, err := x.defining(ctx, []engine.Change{{Type: x.addr.typ, ID: x.addr.id, Delete: true}}, scope == engine.PurgeAll)
	if err != nil {
		return err
	}
	defer end()
	written, err := x.dueWrite()
	if err != nil {
		return err
	}
	defer written()
	purged, err := x.server.opts.Store.Purge(ctx, x.addr.typ, x.addr.id, scope, condition)
	var conflict *engine.ConflictError
	if errors.As(err, &conflict) {
		return x.refused(&engine.Change{If: condition}, conflict)
	}
	if err != nil {
		return err
	}
	if x.prefer.returns != returnOutcome {
		x.empty(fasthttp.StatusNoContent)
		return nil
	}
	x.ctx.Response.Header.Set("Preference-Applied", "return="+returnNames[returnOutcome])
	x.outcome(fasthttp.StatusOK, issue{severity: "information", code: codeInformational, text: fmt.Sprintf("Versions removed for good: %d.", purged)})
	return nil
}
