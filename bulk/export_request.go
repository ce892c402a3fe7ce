package bulk

import (
	"encoding/json"
	"slices"

	"kiln/engine"
	"kiln/fhir"
)

// ExportRequest is a checked $export, as the catalog keeps it.
type ExportRequest struct {
	URL  string
	Base string // the FHIR base that the request was sent to
	// Group is the id of the Group whose members are exported; PatientLevel: all
	// patients are; neither: the system.
	Group        string          `json:",omitempty"`
	PatientLevel bool            `json:",omitempty"`
	Types        []fhir.TypeCode // none: all of the level
	Filters      []ExportFilter  `json:",omitempty"` // those of one type: any of them
	// Parameters is the mark of the added search parameters that the filters and limits
	// were read by.
	Parameters   string       `json:",omitempty"`
	Since, Until fhir.Instant // lastUpdated >= and < ; Milli 0: none
	// Elements are the members that are shown, by type; 0: of every type.
	Elements map[fhir.TypeCode][]string `json:",omitempty"`
	Patients []string                   `json:",omitempty"` // ids; none: all of the level
	// Provenance says which of what tells where the exported resources came from
	// is exported with them.
	Provenance ExportProvenance `json:",omitempty"`
	// Versions says which versions of the resources are wanted.
	Versions engine.ScanVersions
	Parquet  bool `json:",omitempty"`
	// ByPatient organizes the files by patients, and not by type.
	ByPatient bool `json:",omitempty"`
	// A file ends behind so many lines, and with the line that reaches so many
	// bytes; 0: exportLinesMax, exportFileBytesMax.
	FileLines, FileBytes int64
	// Container of the blob account is where the files go; "": into this server's
	// directory.
	Container string `json:",omitempty"`
	// Ignored says what a lenient request asked for and does not get.
	Ignored []string `json:",omitempty"`
	// SeparateStatus: its client wants the state in a header of its own.
	SeparateStatus bool `json:",omitempty"`
	// Partial: its client takes a manifest of what is there while it runs.
	Partial bool `json:",omitempty"`
	// Owner is who asked; "": anybody.
	Owner string `json:",omitempty"`
	// Limits are of what Owner may have.
	Limits ExportLimits `json:",omitzero"`

	looksInto []fhir.TypeCode // what filters look into beside their own types
}

// ExportFilter is a search that resources of a type must match.
type ExportFilter struct {
	Type  fhir.TypeCode
	Query string
}

// ExportProvenance is what includeAssociatedData says of Provenance.
type ExportProvenance string

// The values.
const (
	// ProvenanceDefault: all that is about an exported resource, where the types
	// have Provenance.
	ProvenanceDefault  ExportProvenance = ""
	ProvenanceLatest   ExportProvenance = "latest"   // the latest about each
	ProvenanceRelevant ExportProvenance = "relevant" // all about any
)

// ExportKickOff is an $export as it is asked for.
type ExportKickOff struct {
	URL, Base    string
	Group        string
	PatientLevel bool
	Query        map[string][]string // of the URL
	Body         map[string][]string // of a POST
	Lenient      bool                // what is not known is left out
	// SeparateStatus is told by the status.
	SeparateStatus bool
}

// ParseExport checks the parameters of an $export; StartExport checks what
// depends on the store. Errors are *RequestError. Only what the server does not know
// may be left out: what it knows and cannot do would change what is exported.
func (m *Manager) ParseExport(k *ExportKickOff) (*ExportRequest, error) {
	r := &exportReader{
		kickOff: k, options: &m.opts, parameters: m.opts.Parameters.Current(),
		request: &ExportRequest{URL: k.URL, Base: k.Base, Group: k.Group, PatientLevel: k.PatientLevel, SeparateStatus: k.SeparateStatus},
	}
	values := map[string][]string{}
	for _, from := range []map[string][]string{k.Query, k.Body} {
		for name, list := range from {
			values[name] = append(values[name], list...)
		}
	}
	// In the order of the table, so that the same request is always refused for
	// the same reason.
	for _, p := range exportParameters {
		if list, ok := values[p.name]; ok {
			if err := p.read(r, p.name, list); err != nil {
				return nil, err
			}
			delete(values, p.name)
		}
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := r.unknown("The %q parameter is not supported.", name); err != nil {
			return nil, err
		}
	}
	if err := r.checkTogether(); err != nil {
		return nil, err
	}
	return r.request, nil
}

// ExportParameters reads the Parameters resource of a kick-off by POST into the
// form that a query has: a parameter for each value. Of a Reference the reference
// counts, of a Coding the code.
func ExportParameters(body []byte) (map[string][]string, error) {
	list, ok := parseParameters(body)
	if !ok {
		return nil, badRequest("The body of $export is not a Parameters resource.")
	}
	query := map[string][]string{}
	for _, p := range list {
		value := p.value
		if p.object != nil {
			var members struct{ Reference, Code string }
			if json.Unmarshal(p.object, &members) != nil {
				return nil, badRequest("The value of the parameter %q is neither a Reference nor a Coding.", p.name)
			}
			value = members.Reference + members.Code
		}
		query[p.name] = append(query[p.name], value)
	}
	return query, nil
}

// ExportIgnoredName is the file that tells what a lenient request asked for and did
// not get. It is made of the request when it is read.
const ExportIgnoredName = "OperationOutcome.ndjson"

// ignoredLines are OperationOutcomes, one a line.
func ignoredLines(ignored []string) (text []byte) {
	for _, told := range ignored {
		quoted, err := json.Marshal(told)
		if err != nil {
			panic("BUG: a text is no JSON: " + err.Error())
		}
		text = append(text, `{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"not-supported","diagnostics":`...)
		text = append(append(text, quoted...), "}]}\n"...)
	}
	return text
}
