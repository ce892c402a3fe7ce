package bulk

import (
	"slices"
	"strings"

	"kiln/engine"
	"kiln/fhir"
)

// ExportRequest is a checked $export.
type ExportRequest struct {
	URL   string
	Types []fhir.TypeCode
	Since fhir.Instant // Milli 0: none
	// Versions says which versions of the resources are wanted.
	Versions engine.ScanVersions
	// A file ends behind so many lines, and with the line that reaches so many
	// bytes; 0: exportLinesMax, exportFileBytesMax.
	FileLines, FileBytes int64
}

// unsupportedExport are parameters that are known, and change what an export
// holds: leaving them out of account would give a wrong answer.
var unsupportedExport = []string{
	"_till", "_typeFilter", "includeAssociatedData", "_anonymizationConfig",
	"_anonymizationConfigCollectionReference", "_anonymizationConfigEtag", "patient", "_elements",
}

// harmlessExport are known parameters that say where and how Microsoft's
// server writes; they make no difference here.
var harmlessExport = []string{"_container", "_format", "_isParallel", "_maxCount"}

// ParseExport checks the query parameters of a system-level $export. Errors
// are *RequestError. lenient lets unknown parameters pass.
func (m *Manager) ParseExport(query map[string][]string, lenient bool, requestURL string) (*ExportRequest, error) {
	r := &ExportRequest{URL: requestURL}
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names) // so that the same request is always refused for the same reason
	for _, name := range names {
		if err := r.parameter(name, query[name], lenient); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// ExportParameters reads the Parameters resource of a kick-off by POST into the
// form that a query has: a parameter for each value.
func ExportParameters(body []byte) (map[string][]string, error) {
	list, ok := parseParameters(body)
	if !ok {
		return nil, badRequest("The body of $export is not a Parameters resource.")
	}
	query := map[string][]string{}
	for _, p := range list {
		query[p.name] = append(query[p.name], p.value)
	}
	return query, nil
}

func (r *ExportRequest) parameter(name string, values []string, lenient bool) error {
	value := strings.Join(values, ",")
	switch {
	case name == "_outputFormat":
		return checkOutputFormat(values)
	case name == "_since":
		return r.parseSince(value)
	case name == "_type":
		return r.parseTypes(value, lenient)
	case slices.Contains(unsupportedExport, name):
		return &RequestError{Status: 400, Code: "not-supported", Text: "The \"" + name + "\" parameter is not supported."}
	case lenient || slices.Contains(harmlessExport, name):
		return nil
	}
	return badRequest("The %q parameter is not supported.", name)
}

func checkOutputFormat(values []string) error {
	for _, value := range values {
		switch value {
		case "application/fhir+ndjson", "application/ndjson", "ndjson":
		// An unescaped '+' in a query is a blank.
		case "application/fhir ndjson":
		default:
			return badRequest("The output format '%s' is not supported.", value)
		}
	}
	return nil
}

func (r *ExportRequest) parseSince(value string) error {
	since, err := fhir.ParseSince([]byte(value))
	if err != nil {
		return badRequest("Value of the following parameter _since is invalid: '%s' is not an instant or a date.", value)
	}
	r.Since = since
	return nil
}

func (r *ExportRequest) parseTypes(value string, lenient bool) error {
	for name := range strings.SplitSeq(value, ",") {
		code := fhir.TypeByName([]byte(strings.TrimSpace(name)))
		switch {
		case code == 0 && !lenient:
			return badRequest("Requested operation does not support resource type: %s.", name)
		case code != 0 && !slices.Contains(r.Types, code):
			r.Types = append(r.Types, code)
		}
	}
	if len(r.Types) == 0 {
		return badRequest("Value of the following parameter _type is invalid: it names no resource type.")
	}
	slices.Sort(r.Types)
	return nil
}
