package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/fhir/search"
	"kiln/httpapi/access"
	"kiln/query"
)

// The states of a search parameter, as Microsoft's server names them.
const (
	statusEnabled     = "enabled"     // it can be searched by
	statusSupported   = "supported"   // its index is being built
	statusDisabled    = "disabled"    // a resource defines it and it cannot be used
	statusUnsupported = "unsupported" // one of R4's that this server does not have
)

type statusPart struct {
	Name         string       `json:"name"`
	ValueString  string       `json:"valueString,omitempty"`
	ValueDecimal *uint64      `json:"valueDecimal,omitempty"`
	ValueInstant string       `json:"valueInstant,omitempty"`
	Part         []statusPart `json:"part,omitempty"`
}

type statusParameters struct {
	ResourceType string       `json:"resourceType"`
	Parameter    []statusPart `json:"parameter"`
}

// parameterStatus answers GET SearchParameter/$status: a part for each search
// parameter, R4's and those that were added, and how much is left to be indexed.
func (x *exchange) parameterStatus() error {
	if x.isLimited(access.Read, x.addr.typ) {
		return denied() // it tells of the whole store
	}
	wanted, err := x.wantedParameters()
	if err != nil {
		return err
	}
	done, parameters := x.server.opts.Store.Reindexing(), x.server.parameters.Current()
	answer := statusParameters{ResourceType: "Parameters", Parameter: []statusPart{reindexPart(&done)}}
	add := func(url, status, reason string) {
		part := statusPart{Name: "searchParameterStatus", Part: []statusPart{{Name: "url", ValueString: url}, {Name: "status", ValueString: status}}}
		if reason != "" {
			part.Part = append(part.Part, statusPart{Name: "reason", ValueString: reason})
		}
		answer.Parameter = append(answer.Parameter, part)
	}
	r4, err := search.Load()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, p := range r4.Params() {
		if !seen[p.URL] && wanted(p.URL, p.Code, baseNames(p)) {
			seen[p.URL] = true
			add(p.URL, paramStatus(p, done), "")
		}
	}
	for i := range parameters.Added {
		if a := &parameters.Added[i]; wanted(a.URL, a.Code, a.Bases) {
			add(a.URL, addedStatus(a, done), a.Refused)
		}
	}
	body, err := json.Marshal(&answer)
	if err != nil {
		return err
	}
	x.body(fasthttp.StatusOK, contentTypeAnswer, append(x.buffer(), body...))
	return nil
}

// reindexPart tells how much is left to be indexed, whether contained resources can
// be searched, and what keeps it.
func reindexPart(r *engine.Reindexing) statusPart {
	contained := statusEnabled
	if !r.Contained {
		contained = statusSupported
	}
	part := statusPart{Name: "reindex", Part: []statusPart{
		{Name: "runsLeft", ValueDecimal: &r.Runs}, {Name: "versionsLeft", ValueDecimal: &r.Versions}, {Name: "containedResources", ValueString: contained},
	}}
	if r.Failures == 0 {
		return part
	}
	failures, reason := uint64(r.Failures), "The server's log tells what failed."
	if errors.Is(r.Err, engine.ErrNoSpace) {
		reason = "There is not enough free space."
	}
	part.Part = append(part.Part, statusPart{Name: "failures", ValueDecimal: &failures}, statusPart{Name: "lastFailure", ValueString: reason})
	if !r.Retry.IsZero() {
		part.Part = append(part.Part, statusPart{Name: "nextAttempt", ValueInstant: r.Retry.UTC().Format(instantLayout)})
	}
	return part
}

// wantedParameters reads which parameters are asked for: lists, or everything.
func (x *exchange) wantedParameters() (func(url, code string, bases []string) bool, error) {
	var lists [3][]string
	for i, name := range [...]string{"url", "code", "resourcetype"} {
		text, err := x.single(name)
		if err != nil {
			return nil, err
		}
		if text != "" {
			lists[i] = strings.Split(text, ",")
		}
	}
	in := func(list []string, values ...string) bool {
		return len(list) == 0 || slices.ContainsFunc(values, func(v string) bool { return slices.Contains(list, v) })
	}
	return func(url, code string, bases []string) bool {
		return in(lists[0], url) && in(lists[1], code) && in(lists[2], bases...)
	}, nil
}

func baseNames(p *search.Param) []string {
	if p.Type == 0 {
		return []string{"Resource", "DomainResource"}
	}
	return []string{p.Type.String()}
}

func paramStatus(p *search.Param, done engine.Reindexing) string {
	switch {
	case !query.Supports(p):
		return statusUnsupported
	case !query.Usable(p, done):
		return statusSupported
	}
	return statusEnabled
}

func addedStatus(a *query.Added, done engine.Reindexing) string {
	if a.Refused != "" {
		return statusDisabled
	}
	for _, p := range a.Params {
		if status := paramStatus(p, done); status != statusEnabled {
			return status
		}
	}
	return statusEnabled
}

// committed commits changes; those of SearchParameters are checked before, and are
// in use afterwards.
func (x *exchange) committed(ctx context.Context, changes []engine.Change) ([]engine.Committed, error) {
	end, err := x.defining(ctx, changes, query.Defines(changes))
	if err != nil {
		return nil, err
	}
	defer end()
	return x.server.opts.Store.Commit(ctx, changes)
}

// defining begins changes that may define search parameters; end is called when
// they are done.
func (x *exchange) defining(ctx context.Context, changes []engine.Change, defines bool) (end func(), err error) {
	if !defines || !query.Defines(changes) {
		return func() {}, nil
	}
	end, err = x.server.parameters.Begin(ctx, changes)
	var refused *query.DefinitionError
	if errors.As(err, &refused) {
		err = &problem{fasthttp.StatusUnprocessableEntity, codeProcessing, refused.Text}
	}
	return end, err
}
