package bulk

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/fhir/structure"
	"kiln/query"
)

// exportParameter reads one parameter of $export.
type exportParameter struct {
	name string
	read func(r *exportReader, name string, values []string) error
}

// exportParameters are those of HL7's Bulk Data Access (versions 2 to 4 of it) and
// of Microsoft's server, in the order in which they are read.
var exportParameters = []exportParameter{
	{"_outputFormat", (*exportReader).outputFormat},
	{"organizeOutputBy", (*exportReader).organize}, // it says which types there are
	{"_since", (*exportReader).since},
	{"_until", (*exportReader).until},
	{"_till", (*exportReader).until},
	{"_type", (*exportReader).types},
	{"includeAssociatedData", (*exportReader).associated},
	{"_typeFilter", (*exportReader).typeFilters},
	{"_elements", (*exportReader).elements},
	{"patient", (*exportReader).patients},
	{"allowPartialManifests", (*exportReader).partial},
	{"_container", (*exportReader).container},
	{"_maxCount", (*exportReader).maxCount},
	{"_isParallel", (*exportReader).boolean}, // what is written is the same
	{"_minimumFileSize", (*exportReader).fileSize},
	{"_maximumFileSize", (*exportReader).fileSize},
	{"_anonymizationConfig", (*exportReader).notSupported},
	{"_anonymizationConfigCollectionReference", (*exportReader).notSupported},
	{"_anonymizationConfigEtag", (*exportReader).notSupported},
	{"_format", func(*exportReader, string, []string) error { return nil }}, // of this answer, which is JSON anyway
}

const (
	formatParquet = "application/vnd.apache.parquet"
	// maxCountMax is the most that _maxCount may be, on Microsoft's server too.
	maxCountMax = 10_000
	// exportListMax bounds the values of a parameter that is a list.
	exportListMax = 10_000
)

// exportReader reads one request.
type exportReader struct {
	kickOff *ExportKickOff
	request *ExportRequest
	options *Options
	// parameters are what filters can search by.
	parameters *query.Parameters
	// bytes are _minimumFileSize and _maximumFileSize.
	bytesMin, bytesMax int64
}

// unknown refuses what the server does not know, or notes it for a lenient client.
func (r *exportReader) unknown(format string, args ...any) error {
	if !r.kickOff.Lenient {
		return badRequest(format, args...)
	}
	r.request.Ignored = append(r.request.Ignored, fmt.Sprintf(format, args...))
	return nil
}

func (r *exportReader) notSupported(name string, _ []string) error {
	return &RequestError{Status: 400, Code: "not-supported", Text: "The \"" + name + "\" parameter is not supported."}
}

// list is the values of a parameter whose commas part values too.
func list(values []string) (all []string) {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			all = append(all, strings.TrimSpace(item))
		}
	}
	return all
}

// one is the value of a parameter that has one; the same one may be repeated.
func one(name string, values []string) (string, error) {
	for _, value := range values[1:] {
		if value != values[0] {
			return "", badRequest("The parameter %q has more than one value.", name)
		}
	}
	return values[0], nil
}

func (r *exportReader) outputFormat(name string, values []string) error {
	value, err := one(name, values)
	if err != nil {
		return err
	}
	switch value {
	case "application/fhir+ndjson", "application/ndjson", "ndjson":
	case "application/fhir ndjson": // an unescaped '+' in a query is a blank
	case formatParquet:
		r.request.Parquet = true
	default:
		return badRequest("The output format '%s' is not supported.", value)
	}
	return nil
}

func (r *exportReader) since(name string, values []string) (err error) {
	r.request.Since, err = r.instant(name, values)
	return err
}

// until reads _until and _till, which mean the same.
func (r *exportReader) until(name string, values []string) error {
	until, err := r.instant(name, values)
	if err != nil {
		return err
	}
	if r.request.Until.Milli != 0 && r.request.Until != until {
		return badRequest("The parameters _until and _till differ; give one of them.")
	}
	r.request.Until = until
	return nil
}

func (r *exportReader) instant(name string, values []string) (fhir.Instant, error) {
	value, err := one(name, values)
	if err != nil {
		return fhir.Instant{}, err
	}
	at, err := fhir.ParseSince([]byte(value))
	if err != nil {
		return at, badRequest("Value of the following parameter %s is invalid: '%s' is not an instant or a date.", name, value)
	}
	return at, nil
}

func (r *exportReader) types(_ string, values []string) error {
	for _, name := range list(values) {
		code := fhir.TypeByName([]byte(name))
		if code == 0 {
			if err := r.unknown("Requested operation does not support resource type: %s.", name); err != nil {
				return err
			}
			continue
		}
		if !r.inLevel(code) {
			if err := r.unknown("Requested operation does not support resource type: %s. Its resources are in no patient's compartment.", name); err != nil {
				return err
			}
			continue
		}
		if !slices.Contains(r.request.Types, code) {
			r.request.Types = append(r.request.Types, code)
		}
	}
	if len(r.request.Types) == 0 {
		return badRequest("Value of the following parameter _type is invalid: it names no resource type that can be exported here.")
	}
	slices.Sort(r.request.Types)
	return nil
}

// inLevel tells whether resources of a type can be in the export.
func (r *exportReader) inLevel(t fhir.TypeCode) bool {
	return !r.request.ofPatients() && !r.request.ByPatient || slices.Contains(patientTypes(), t)
}

func (r *exportReader) typeFilters(_ string, values []string) error {
	for _, value := range values {
		for _, filter := range splitFilters(value) {
			if err := r.typeFilter(filter); err != nil {
				return err
			}
		}
	}
	return nil
}

// splitFilters parts a list of filters at the commas before "Type?": other commas
// belong to a filter's values.
func splitFilters(value string) (filters []string) {
	start := 0
	for i := 0; i < len(value); i++ {
		if value[i] != ',' {
			continue
		}
		name, _, ok := strings.Cut(strings.TrimLeft(value[i+1:], " "), "?")
		if ok && fhir.TypeByName([]byte(name)) != 0 {
			filters = append(filters, value[start:i])
			start = i + 1
		}
	}
	return append(filters, value[start:])
}

// pageParameters are those of searches that are not about which resources match.
var pageParameters = []string{
	"_sort", "_count", "_include", "_revinclude", "_summary", "_elements", "_total", "_contained", "_containedType", "_explain", "_format", "_pretty", "ct",
}

func (r *exportReader) typeFilter(text string) error {
	name, criteria, ok := strings.Cut(strings.TrimSpace(text), "?")
	t := fhir.TypeByName([]byte(name))
	switch {
	case !ok || t == 0:
		return badRequest("The _typeFilter segment '%s' could not be parsed. It is a resource type, a question mark and a search.", text)
	case len(r.request.Types) > 0 && !slices.Contains(r.request.Types, t):
		return badRequest("The _typeFilter segment '%s' is of a type that _type does not name.", text)
	case !r.inLevel(t):
		return badRequest("The _typeFilter segment '%s' is of a type whose resources are in no patient's compartment.", text)
	case len(r.request.Filters) == exportListMax:
		return badRequest("There are more than %d filters in _typeFilter.", exportListMax)
	}
	f := ExportFilter{Type: t, Query: criteria}
	s, err := f.search(query.Options{
		Base: r.request.Base, Now: r.options.Now(), Units: r.options.Units, Lenient: r.kickOff.Lenient, Table: r.parameters.Table,
	})
	if err != nil {
		return badRequest("The _typeFilter segment '%s' is not a search: %s", text, err)
	}
	for _, ignored := range s.Ignored {
		r.request.Ignored = append(r.request.Ignored, fmt.Sprintf("The search parameter %q of the _typeFilter segment '%s' is not supported.", ignored, text))
	}
	r.request.note(s)
	r.request.Filters, r.request.Parameters = append(r.request.Filters, f), r.parameters.Mark()
	return nil
}

// search reads a filter.
func (f *ExportFilter) search(o query.Options) (*query.Search, error) {
	var parameters []query.Parameter
	for pair := range strings.SplitSeq(f.Query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, errName := url.PathUnescape(name) // a '+' is one
		value, errValue := url.PathUnescape(value)
		if errName != nil || errValue != nil {
			return nil, fmt.Errorf("%q is not escaped as URLs are", pair)
		}
		if code, _, _ := strings.Cut(name, ":"); slices.Contains(pageParameters, code) {
			return nil, fmt.Errorf("the parameter '%s' is about a search's answer, and has no meaning here", code)
		}
		parameters = append(parameters, query.Parameter{Name: name, Value: value})
	}
	return query.Parse([]fhir.TypeCode{f.Type}, parameters, o)
}

func (r *exportReader) elements(_ string, values []string) error {
	r.request.Elements = map[fhir.TypeCode][]string{}
	for _, text := range list(values) {
		typeName, name, typed := strings.Cut(text, ".")
		t := fhir.TypeByName([]byte(typeName))
		if !typed {
			t, name = 0, text
		}
		if typed && t == 0 || !r.hasElement(t, name) {
			if err := r.unknown("The value '%s' of the parameter '_elements' is no element of a resource's root.", text); err != nil {
				return err
			}
			continue
		}
		r.request.Elements[t] = append(r.request.Elements[t], name)
		if len(r.request.Elements[t]) > exportListMax {
			return badRequest("The parameter '_elements' has more than %d names.", exportListMax)
		}
	}
	return nil
}

// hasElement tells whether a type has an element at its root; 0: any of those asked for.
func (r *exportReader) hasElement(t fhir.TypeCode, name string) bool {
	types := []fhir.TypeCode{t}
	if t == 0 {
		if types = r.request.Types; len(types) == 0 {
			types = allTypes()
		}
	}
	for _, t := range types {
		if _, _, ok := structure.ByKey(t.String(), name); ok {
			return true
		}
		if _, ok := structure.Of(t.String(), name); ok {
			return true
		}
	}
	return false
}

func allTypes() (all []fhir.TypeCode) {
	for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
		all = append(all, t)
	}
	return all
}

func (r *exportReader) patients(name string, values []string) error {
	switch {
	case len(r.kickOff.Query[name]) > 0:
		return badRequest("The parameter 'patient' is for an $export by POST, in the Parameters of its body.")
	case !r.request.ofPatients():
		return badRequest("The parameter 'patient' is for exports of Patient or of a Group.")
	case len(values) > exportListMax:
		return badRequest("There are more than %d patients; make a Group of them.", exportListMax)
	}
	for _, value := range values {
		id, ok := strings.CutPrefix(strings.TrimPrefix(value, r.request.Base+"/"), "Patient/")
		if !ok || !fhir.ValidID([]byte(id)) {
			return badRequest("The value '%s' of the parameter 'patient' is no reference to a Patient of this server.", value)
		}
		if !slices.Contains(r.request.Patients, id) {
			r.request.Patients = append(r.request.Patients, id)
		}
	}
	return nil
}

func (r *exportReader) associated(_ string, values []string) error {
	var history, deleted bool
	var unknown []string
	for _, value := range list(values) {
		switch value {
		case "_history":
			history = true
		case "_deleted":
			deleted = true
		case "RelevantProvenanceResources":
			r.request.Provenance = ProvenanceRelevant
		case "LatestProvenanceResources":
			if r.request.Provenance == ProvenanceDefault { // the one that restricts least counts
				r.request.Provenance = ProvenanceLatest
			}
		default:
			unknown = append(unknown, value)
		}
	}
	r.request.Versions = versionsOf(history, deleted)
	if (history || deleted) && r.request.ofPatients() {
		return badRequest("The values _history and _deleted of includeAssociatedData are for exports of the system.")
	}
	if len(unknown) > 0 {
		return r.unknown("The export parameter \"includeAssociatedData\" contains an invalid value. Supported values are: _history, _deleted, LatestProvenanceResources, RelevantProvenanceResources; it has: %s.", strings.Join(unknown, ", "))
	}
	return nil
}

func versionsOf(history, deleted bool) engine.ScanVersions {
	switch {
	case history && deleted:
		return engine.ScanAllOrDeleted
	case history:
		return engine.ScanAll
	case deleted:
		return engine.ScanCurrentOrDeleted
	}
	return engine.ScanCurrent
}

// organize reads organizeOutputBy. Of the system, too, files organized by patients
// have what is in some patient's compartment and nothing else (HL7 Bulk Data Access
// 3.0 lets a server leave that out).
func (r *exportReader) organize(name string, values []string) error {
	value, err := one(name, values)
	switch {
	case err != nil:
		return err
	case value != "Patient":
		return r.unknown("The value '%s' of the parameter '%s' is not supported: files are organized by Patient or, without the parameter, by resource type.", value, name)
	}
	if r.request.ByPatient = true; !r.request.ofPatients() {
		r.request.Ignored = append(r.request.Ignored, "Resources that are in no patient's compartment are left out, since the files are organized by Patient.")
	}
	return nil
}

func (r *exportReader) boolean(name string, values []string) error {
	value, err := one(name, values)
	if err == nil && value != "true" && value != "false" {
		err = badRequest("The value '%s' of the parameter '%s' is not true or false.", value, name)
	}
	return err
}

func (r *exportReader) partial(name string, values []string) error {
	r.request.Partial = values[0] == "true"
	return r.boolean(name, values)
}

func (r *exportReader) container(name string, values []string) error {
	value, err := one(name, values)
	if err != nil {
		return err
	}
	if slices.Contains(strings.Split(value, "/"), "..") {
		return badRequest("The value '%s' of '%s' is not valid. Path traversal characters are not allowed.", value, name)
	}
	if r.options.Azure == (AzureOptions{}) {
		return r.notSupported(name, values)
	}
	if value == "" {
		value = fmt.Sprintf("export-%016x", r.options.NewID())
	}
	if checkContainer(value) != nil {
		return badRequest("The value '%s' of '%s' is not valid. A container's name has 3 to 63 lowercase letters, numbers and hyphens; it begins and ends with a letter or number, and has no two hyphens in a row.", value, name)
	}
	r.request.Container = value
	return nil
}

func (r *exportReader) maxCount(name string, values []string) error {
	value, err := one(name, values)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 || n > maxCountMax {
		return badRequest("Export operation parameter 'MaximumNumberOfResourcesPerQuery' (%s) was out of the range of valid values. Please specify a different value within a range '1' - '%d'.", name, maxCountMax)
	}
	r.request.FileLines = n // 0: the default
	return nil
}

func (r *exportReader) fileSize(name string, values []string) error {
	value, err := one(name, values)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n <= 0 {
		return badRequest("The value '%s' of the parameter '%s' is not a number of bytes.", value, name)
	}
	if name == "_minimumFileSize" {
		r.bytesMin = n
	} else {
		r.bytesMax, r.request.FileBytes = n, n
	}
	return nil
}

// checkTogether checks what depends on several parameters.
func (r *exportReader) checkTogether() error {
	q := r.request
	switch {
	case r.bytesMax > 0 && r.bytesMin > r.bytesMax:
		return badRequest("The parameter '_minimumFileSize' is above '_maximumFileSize'.")
	case q.Versions != engine.ScanCurrent && len(q.Filters) > 0:
		return badRequest("The request \"_typeFilter\" cannot be used with an export request with historical or soft deleted resources.")
	case q.ByPatient && q.Parquet:
		return badRequest("Files that are organized by Patient are NDJSON: they have resources of all types, and a Parquet file has those of one.")
	case q.Versions != engine.ScanCurrent && q.Parquet:
		return badRequest("Historical and soft deleted resources are exported as NDJSON only: a Parquet file has no column that tells a deletion.")
	case q.Versions != engine.ScanCurrent && len(q.Elements) > 0:
		return badRequest("The parameter '_elements' cannot be used with an export request with historical or soft deleted resources: what would be imported of it is not what was.")
	case q.Provenance != ProvenanceDefault && len(q.Types) > 0 && !slices.Contains(q.Types, provenanceType()):
		q.Types = append(q.Types, provenanceType())
		slices.Sort(q.Types)
	}
	return nil
}

func provenanceType() fhir.TypeCode { return fhir.TypeByName([]byte("Provenance")) }
func patientType() fhir.TypeCode    { return fhir.TypeByName([]byte("Patient")) }

// ofPatients tells the levels of patients and of groups from that of the system.
func (r *ExportRequest) ofPatients() bool { return r.PatientLevel || r.Group != "" }

// patientTypes are the types with resources in a patient's compartment.
func patientTypes() []fhir.TypeCode {
	members, err := search.Compartment(patientType())
	if err != nil {
		panic("BUG: the tables of R4 cannot be read: " + err.Error())
	}
	types := []fhir.TypeCode{patientType()}
	for _, m := range members {
		if len(m.Params) > 0 && m.Type != patientType() {
			types = append(types, m.Type)
		}
	}
	slices.Sort(types)
	return types
}
