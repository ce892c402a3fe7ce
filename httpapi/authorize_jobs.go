package httpapi

import (
	"slices"

	"kiln/bulk"
	"kiln/fhir"
)

// owner is whose a job is that this request starts; "": an open server's.
func (x *exchange) owner() string {
	if x.who == nil {
		return ""
	}
	return x.who.Key()
}

// ownImport answers as for a job that is not there, unless it is the client's own or
// the client is an Admin.
func (x *exchange) ownImport() error {
	if x.who == nil || x.who.IsAdmin() {
		return nil
	}
	return x.server.opts.Jobs.OwnImport(x.jobID(), x.owner())
}

// ownExport is ownImport for exports; with published, those of $bulk-publish are for
// all who may read them.
func (x *exchange) ownExport(published bool) error {
	if x.who == nil || x.who.IsAdmin() {
		return nil
	}
	return x.server.opts.Jobs.OwnExport(x.jobID(), x.owner(), published && x.exportsAll())
}

func (x *exchange) exportsAll() bool {
	_, whole := x.who.Exportable()
	return whole
}

// mayHave tells whether the client may have all resources of some types exported.
func (x *exchange) mayHave(types []fhir.TypeCode) bool {
	return x.who == nil || !slices.ContainsFunc(types, func(t fhir.TypeCode) bool { return !x.who.MayExport(t) })
}

// mayDownload tells whether the client may have a file of an export, as things are now:
// it may have been narrowed since.
func (x *exchange) mayDownload(d *bulk.Download) bool {
	return x.who == nil || !slices.ContainsFunc(d.Types, func(t fhir.TypeCode) bool { return !x.who.Export(t).Covers(d.Limits(t)) })
}

// limitExport denies an export that names, or reads, what the client may not have
// exported. One that names no types has those that the client may. Of a type of which
// it may have a part, that part is exported; filters cannot look into it from elsewhere.
func (x *exchange) limitExport(r *bulk.ExportRequest) error {
	if x.who == nil {
		return nil
	}
	r.Owner = x.owner()
	types, whole := x.who.Exportable()
	if whole {
		return nil
	}
	named := slices.Clone(r.Types)
	for i := range r.Filters {
		named = append(named, r.Filters[i].Type)
	}
	none := func(t fhir.TypeCode) bool { return x.who.Export(t).None() }
	switch {
	case slices.ContainsFunc(named, none), !x.mayHave(r.Reads()), len(r.Types) == 0 && !r.Narrow(types),
		r.Provenance != bulk.ProvenanceDefault && !x.mayHave([]fhir.TypeCode{fhir.TypeByName([]byte("Provenance"))}):
		return denied()
	}
	if !x.server.opts.Jobs.Limit(r, x.exportLimits(r.Types)) {
		return forbidden("Earlier versions and deleted resources are exported for who may have all resources of a type. Name types by _type of which you may, or leave includeAssociatedData out.")
	}
	return nil
}

// exportLimits are those of an export of some types.
func (x *exchange) exportLimits(types []fhir.TypeCode) bulk.ExportLimits {
	limits := bulk.ExportLimits{Base: x.server.base}
	for _, t := range types {
		for _, queries := range x.who.Export(t).Limits {
			limit := bulk.ExportLimit{Type: t}
			for _, q := range queries {
				limit.Any = append(limit.Any, bulk.ExportRule{Query: q, Parameters: queryOf(q)})
			}
			limits.All = append(limits.All, limit)
		}
	}
	return limits
}
