package bulk

import (
	"slices"

	"kiln/fhir"
	"kiln/query"
)

// A job belongs to the client that asked for it, as ImportRequest.Owner and
// ExportRequest.Owner name it; "" is anybody's of an open server. To others it is not
// there. Equal imports of two clients are two jobs: the owner is a part of what is
// compared.

// OwnImport is a *RequestError 404 for a job that is not there, or somebody else's.
func (m *Manager) OwnImport(id int64, owner string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.getImport(id)
	if err == nil && r.Request.Owner != owner {
		err = importNotFound(id)
	}
	return err
}

// OwnExport is OwnImport for exports. With published, those that $bulk-publish may
// name are everybody's.
func (m *Manager) OwnExport(id int64, owner string, published bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.liveExport(id)
	if err != nil {
		return err
	}
	if _, shown := m.published[id]; r.Request.Owner != owner && !(published && shown) {
		return exportNotFound(id)
	}
	return nil
}

// fileTypes are the types of the resources that a file of an export may have, those
// that its deletions are of included.
func (r *exportRecord) fileTypes(f *ExportFile) []fhir.TypeCode {
	if t := fhir.TypeByName([]byte(f.Type)); t != 0 {
		return []fhir.TypeCode{t}
	}
	switch {
	case len(r.Request.Types) > 0:
		return r.Request.Types
	case r.Request.ofPatients() || r.Request.ByPatient:
		return patientTypes()
	}
	return allTypes()
}

// Reads are the types that an export reads beside those that it writes: the Group and
// the patients whose resources it looks for, and what its filters look into.
func (r *ExportRequest) Reads() []fhir.TypeCode {
	types := r.looksInto
	if r.ofPatients() {
		types = append(types, fhir.TypeByName([]byte("Patient")))
	}
	if r.Group != "" {
		types = append(types, fhir.TypeByName([]byte("Group")))
	}
	return types
}

// Narrow limits an export to some types. false: it has none of them.
func (r *ExportRequest) Narrow(types []fhir.TypeCode) bool {
	var kept []fhir.TypeCode
	for _, t := range types {
		if !r.ofPatients() && !r.ByPatient || slices.Contains(patientTypes(), t) {
			kept = append(kept, t)
		}
	}
	r.Types = kept
	return len(kept) > 0
}

// note takes down what a filter looks into.
func (r *ExportRequest) note(s *query.Search) { r.looksInto = append(r.looksInto, s.Consults()...) }
