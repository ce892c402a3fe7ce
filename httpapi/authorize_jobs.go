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

// mayHave tells whether the client may have resources of some types that were exported.
func (x *exchange) mayHave(types []fhir.TypeCode) bool {
	return x.who == nil || !slices.ContainsFunc(types, func(t fhir.TypeCode) bool { return !x.who.MayExport(t) })
}

// limitExport denies an export that names, or reads, what the client may not have
// exported. One that names no types has those that the client may.
func (x *exchange) limitExport(r *bulk.ExportRequest) error {
	if x.who == nil {
		return nil
	}
	r.Owner = x.owner()
	types, whole := x.who.Exportable()
	switch {
	case whole:
		return nil
	case !x.mayHave(r.Types), !x.mayHave(r.Reads()), len(r.Types) == 0 && !r.Narrow(types),
		r.Provenance != bulk.ProvenanceDefault && !x.mayHave([]fhir.TypeCode{fhir.TypeByName([]byte("Provenance"))}):
		return denied()
	}
	for i := range r.Filters {
		if !x.who.MayExport(r.Filters[i].Type) {
			return denied()
		}
	}
	return nil
}
