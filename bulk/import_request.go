package bulk

import (
	"strconv"
	"strings"

	"kiln/fhir"
)

// Mode of an import.
type Mode uint8

const (
	IncrementalLoad Mode = iota
	InitialLoad
)

// String is the mode's name in requests.
func (m Mode) String() string {
	if m == InitialLoad {
		return "InitialLoad"
	}
	return "IncrementalLoad"
}

// ImportInput is one file to load.
type ImportInput struct {
	URL  string
	Type string // "": any
	Etag string
}

// ImportRequest is a checked $import.
type ImportRequest struct {
	URL                   string // the kick-off address, for the result
	InputSource           string
	Mode                  Mode
	Force                 bool
	AllowNegativeVersions bool
	EventualConsistency   bool  // only tells registrations apart
	UnitBytes             int64 // 0: UnitBytesDefault
	ErrorContainer        string
	Inputs                []ImportInput
	Owner                 string `json:",omitempty"` // who asked; "": anybody
}

// Texts of the contract that clients may know.
const (
	textNotParameters = "Import request must be specified as a Paramters.  The body provided in this request is not valid. "
	textNoStorage     = "The import storage account is not configured correctly on the server. Import operations require a valid storage account."
	textBadMode       = `Import mode can be either "InitialLoad"or "IncrementalLoad". Please add appropriate mode value to parameters.`
	textNotInitial    = "Initial import mode is not enabled. Please update service configuration to enable initial import mode."
	textOutsideRoots  = "input.url %s is not below a directory that imports may read (--import-root)."
	textForeignOrigin = "input.url must match the configured integration storage account endpoint."
)

// ParseImport reads a Parameters body and checks it in the contract's order
// (steps 3 to 12 of section 1.3). Errors are *RequestError.
func (m *Manager) ParseImport(body []byte, requestURL string) (*ImportRequest, error) {
	list, ok := parseParameters(body)
	if !ok {
		return nil, badRequest(textNotParameters)
	}
	if err := checkMembers(body); err != nil {
		return nil, err
	}
	return m.parseRequest(list, requestURL)
}

// parseRequest is steps 4 to 12.
func (m *Manager) parseRequest(list []parameter, requestURL string) (*ImportRequest, error) {
	if err := checkFormats(list); err != nil {
		return nil, err
	}
	r, err := readImportRequest(list, requestURL)
	if err != nil {
		return nil, err
	}
	return r, m.checkImport(r, firstValue(list, "mode"))
}

// checkFormats is steps 4 and 5.
func checkFormats(list []parameter) error {
	if !strings.EqualFold(firstValue(list, "inputFormat"), "application/fhir+ndjson") {
		return invalidParameter("inputFormat")
	}
	storage, _ := first(list, "storageDetail")
	kind := firstValue(storage.parts, "type")
	if kind != "" && !strings.EqualFold(kind, "azure-blob") {
		return invalidParameter("storageDetails")
	}
	return nil
}

func invalidParameter(name string) *RequestError {
	return badRequest("Value of the following parameter %s is invalid.", name)
}

// readImportRequest takes the values over; mode is checked later, in its place
// of the order.
func readImportRequest(list []parameter, requestURL string) (*ImportRequest, error) {
	r := &ImportRequest{
		URL:                   requestURL,
		InputSource:           firstValue(list, "inputSource"),
		Force:                 strings.EqualFold(firstValue(list, "force"), "true"),
		AllowNegativeVersions: strings.EqualFold(firstValue(list, "allowNegativeVersions"), "true"),
		EventualConsistency:   strings.EqualFold(firstValue(list, "eventualConsistency"), "true"),
		ErrorContainer:        firstValue(list, "errorContainerName"),
	}
	if strings.EqualFold(firstValue(list, "mode"), "InitialLoad") {
		r.Mode = InitialLoad
	}
	if text := firstValue(list, "processingUnitBytesToRead"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return nil, invalidParameter("processingUnitBytesToRead")
		}
		r.UnitBytes = n
	}
	for _, p := range list {
		if p.name == "input" {
			r.Inputs = append(r.Inputs, ImportInput{
				URL: firstValue(p.parts, "url"), Type: firstValue(p.parts, "type"), Etag: firstValue(p.parts, "etag"),
			})
		}
	}
	return r, nil
}

// checkImport is steps 6 to 12; mode is the text of the request.
func (m *Manager) checkImport(r *ImportRequest, mode string) error {
	if len(r.Inputs) == 0 {
		return invalidParameter("input")
	}
	if len(r.Inputs) > inputsMax {
		return badRequest("Import request has %d files; at most %d are accepted in one operation.", len(r.Inputs), inputsMax)
	}
	if m.addresses.empty() {
		return badRequest(textNoStorage)
	}
	if twice := duplicateURLs(r.Inputs); len(twice) > 0 {
		return badRequest("Import request cannot have duplicate files. Found duplicates: %s. ", strings.Join(twice, ", "))
	}
	if err := m.checkInputs(r.Inputs); err != nil {
		return err
	}
	if mode != "" && !strings.EqualFold(mode, "InitialLoad") && !strings.EqualFold(mode, "IncrementalLoad") {
		return badRequest(textBadMode)
	}
	if r.Mode == InitialLoad && !m.opts.InitialImportMode && !r.Force {
		return badRequest(textNotInitial)
	}
	return nil
}

// checkInputs is steps 9 and 10.
func (m *Manager) checkInputs(inputs []ImportInput) error {
	for _, in := range inputs {
		if in.Type != "" {
			if fhir.TypeByName([]byte(in.Type)) == 0 {
				return badRequest("Requested operation does not support resource type: %s.", in.Type)
			}
		}
		if err := m.addresses.check(in.URL); err != nil {
			return err
		}
	}
	for _, in := range inputs {
		if in.Type == "SearchParameter" {
			return badRequest("Requested operation does not support resource type: SearchParameter.")
		}
	}
	return nil
}

// duplicateURLs lists, once each, the addresses that occur more than once.
func duplicateURLs(inputs []ImportInput) []string {
	seen := make(map[string]int, len(inputs))
	var twice []string
	for _, in := range inputs {
		if in.URL == "" {
			continue
		}
		key := canonicalURL(in.URL)
		seen[key]++
		if seen[key] == 2 {
			twice = append(twice, in.URL)
		}
	}
	return twice
}
