package httpapi

import (
	"strings"

	"github.com/valyala/fasthttp"

	"kiln/fhir"
)

// conditionsOf are the keys of the criteria that the entries' writes depend on.
func (x *exchange) conditionsOf(entries []bundleEntry) []string {
	var keys []string
	for i := range entries {
		e := &entries[i]
		target, err := x.entryTarget(e.url)
		if err != nil {
			continue // plan refuses it
		}
		name, text, hasQuery := strings.Cut(target, "?")
		typ := fhir.TypeByName([]byte(name))
		if none := e.headers[headerIfNoneExist]; none != "" {
			text, hasQuery = strings.TrimPrefix(none, "?"), true
		}
		if typ != 0 && hasQuery {
			keys = append(keys, readCriteria(typ, text).key())
		}
	}
	return keys
}

// planCreate gives out an id, unless the create's condition finds a resource.
func (t *transaction) planCreate(i int, p *entryPlan, inner *exchange) error {
	c, conditional, err := inner.noneExist()
	if err != nil {
		return err
	}
	if conditional {
		v, err := inner.the(c)
		if err != nil {
			return err
		}
		if v != nil {
			p.id, p.existing = string(v.ID), true
			return nil
		}
		if err := t.noteUnmet(i, c); err != nil {
			return err
		}
	}
	p.id = t.x.server.opts.NewID()
	return nil
}

// planSelected finds the resource of a conditional update, patch or delete.
func (t *transaction) planSelected(i int, p *entryPlan, inner *exchange) error {
	c := criteriaOf(inner.addr.typ, inner.ctx.QueryArgs())
	v, err := inner.the(c)
	if err != nil {
		return err
	}
	p.selected = &selected{v}
	switch m := t.x.server.table.rows[p.row].method; {
	case v != nil:
		p.id = string(v.ID)
	case m == methodDelete:
		p.nothing = true
	case m == methodPut:
		var members objectMembers
		if resource := t.entries[i].resource; len(resource) > 0 {
			if err := members.read(resource, 0, "Its resource", "id"); err != nil {
				return err
			}
			p.id = members.text(resource, "id")
		}
		if p.id == "" {
			p.id = t.x.server.opts.NewID()
		}
		return t.noteUnmet(i, c)
	default:
		return &problem{fasthttp.StatusNotFound, codeNotFound, "No resource matches the criteria '" + c.String() + "'."}
	}
	return nil
}

// noteUnmet refuses a second entry that would create what the first creates.
func (t *transaction) noteUnmet(i int, c criteria) error {
	first, twice := t.unmet[c.key()]
	if twice {
		return badRequest("Bundle.entry[%d] has the same criteria, and nothing matches them: both would create a resource.", first)
	}
	t.unmet[c.key()] = i
	return nil
}

// planAgain searches anew when a resource that was selected has changed.
func (t *transaction) planAgain(i int) error {
	if t.plans[i].selected == nil {
		return nil
	}
	return t.plan()
}
