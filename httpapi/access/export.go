package access

import (
	"slices"

	"kiln/fhir"
)

// ExportGrant is what of a type's resources may be exported: Whole, or those that match
// one of the searches of each of Limits; without either nothing.
type ExportGrant struct {
	Whole  bool
	Limits [][]string
}

// None: nothing may be exported.
func (g ExportGrant) None() bool { return !g.Whole && len(g.Limits) == 0 }

// Covers tells whether all that limits let through may be had by who has g.
func (g ExportGrant) Covers(limits [][]string) bool {
	if g.Whole || g.None() {
		return g.Whole
	}
	return !slices.ContainsFunc(g.Limits, func(wide []string) bool { // one that nothing is inside of
		return !slices.ContainsFunc(limits, func(narrow []string) bool {
			return !slices.ContainsFunc(narrow, func(q string) bool { return !slices.Contains(wide, q) })
		})
	})
}

// Export decides what of a type's resources p may have exported: by the role Exporter;
// with scopes, by system/ ones to read and to search the type, and by user/ ones together
// with the role. A filter narrows its own scope; what only may be read, or searched, is
// not exported. patient/ scopes are of somebody's app, and Bulk Data is for services.
func (p *Principal) Export(t fhir.TypeCode) ExportGrant {
	exporter := p == nil || p.Roles.allows()&Export != 0
	if p == nil || !p.HasScopes {
		return ExportGrant{Whole: exporter && (p == nil || p.covers(0, t))}
	}
	var read, search Grant
	for i := range p.Scopes {
		s := &p.Scopes[i]
		if !p.covers(s.Type, t) || s.Context != ContextSystem && (s.Context != ContextUser || !exporter) {
			continue
		}
		if s.Permissions&PermissionRead != 0 {
			read.add(Rule{Query: s.Filter})
		}
		if s.Permissions&PermissionSearch != 0 {
			search.add(Rule{Query: s.Filter})
		}
	}
	if read.None() || search.None() {
		return ExportGrant{}
	}
	g := ExportGrant{Whole: read.Whole && search.Whole}
	g.limit(read)
	g.limit(search)
	return g
}

// limit adds what is not whole, once.
func (g *ExportGrant) limit(of Grant) {
	if of.Whole {
		return
	}
	var queries []string
	for _, r := range of.Rules {
		queries = append(queries, r.Query)
	}
	slices.Sort(queries)
	queries = slices.Compact(queries)
	if !slices.ContainsFunc(g.Limits, func(l []string) bool { return slices.Equal(l, queries) }) {
		g.Limits = append(g.Limits, queries)
	}
}

// MayExport tells whether p may have all resources of a type exported.
func (p *Principal) MayExport(t fhir.TypeCode) bool { return p.Export(t).Whole }

// Exportable are the types of which p may have some exported; whole: all there is.
func (p *Principal) Exportable() (types []fhir.TypeCode, whole bool) {
	whole = true
	for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
		g := p.Export(t)
		if !g.None() {
			types = append(types, t)
		}
		whole = whole && g.Whole
	}
	return types, whole
}

func (p *Principal) exportsSome() bool {
	for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
		if !p.Export(t).None() {
			return true
		}
	}
	return false
}
