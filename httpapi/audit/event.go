package audit

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Action is the letter of AuditEvent.action.
type Action byte

// What an access does (FHIR R4 valueset-audit-event-action).
const (
	ActionCreate  Action = 'C'
	ActionRead    Action = 'R'
	ActionUpdate  Action = 'U'
	ActionDelete  Action = 'D'
	ActionExecute Action = 'E'
)

// Event is one access. Texts that are empty are left out.
type Event struct {
	Recorded time.Time
	Action   Action
	// Interaction is a code of http://hl7.org/fhir/restful-interaction; Name is what
	// the server calls the row of its table, in metrics too.
	Interaction, Name string
	Method, Path      string
	// Parameters are the names of the query's parameters, without values.
	Parameters string
	// Query is the whole query, when that was asked for.
	Query     []byte
	Status    int    // of HTTP
	RequestID string // also in the answer's X-Request-Id
	Address   string // the client's
	// Who asked, when that is known.
	Issuer, Subject, Client, ClientName string
	// Reference is the resource, such as Patient/1; Patient the id of the patient in
	// whose compartment it is.
	Reference, Patient string
	// Job is the address of the job that was begun, such as _operations/export/1.
	Job string
	// Entry is the number of a Bundle's entry, from 1; 0: the request itself.
	Entry int

	// Type is one of DICOM's types of events, for what is no request; "": it is one.
	Type string
	// Ending is what became of a job; "": the answer's status says it.
	Ending string
	// ByServer: the server did it by itself, to what the client has begun.
	ByServer bool
	// LeftOut is how many requests have no event of their own, from Since on, and their
	// Statuses; 0: it is another event.
	LeftOut  uint64
	Since    time.Time
	Statuses string
}

// Types of events that are no requests (DICOM PS3.16, CID 400).
const (
	TypeExport        = "110106"
	TypeImport        = "110107"
	TypeSecurityAlert = "110113"
)

// Addresses of the code systems.
const (
	systemDICOM       = "http://dicom.nema.org/resources/ontology/DCM"
	systemType        = "http://terminology.hl7.org/CodeSystem/audit-event-type"
	systemInteraction = "http://hl7.org/fhir/restful-interaction"
	systemSource      = "http://terminology.hl7.org/CodeSystem/security-source-type"
	systemEntity      = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
	systemRole        = "http://terminology.hl7.org/CodeSystem/object-role"
	systemRequestID   = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
)

// instantLayout is that of AuditEvent.recorded, in UTC.
const instantLayout = "2006-01-02T15:04:05.000Z"

// appendJSON appends the event as a resource, without a line end.
func (e *Event) appendJSON(dst []byte, id, site string) []byte {
	dst = append(dst, `{"resourceType":"AuditEvent","id":"`...)
	dst = append(dst, id...)
	dst = append(dst, `","type":`...)
	if e.Type == "" {
		dst = append(dst, `{"system":"`+systemType+`","code":"rest"}`...)
	} else {
		dst = append(append(append(dst, `{"system":"`+systemDICOM+`","code":"`...), e.Type...), `"}`...)
	}
	dst = append(dst, `,"subtype":[{"system":"`+systemInteraction+`","code":"`...)
	dst = append(dst, e.Interaction...)
	dst = append(dst, `"}],"action":"`...)
	dst = append(dst, byte(e.Action))
	dst = append(dst, `","recorded":"`...)
	dst = e.Recorded.UTC().AppendFormat(dst, instantLayout)
	dst = append(dst, `","outcome":"`...)
	dst = append(dst, outcome(e.Status)...)
	dst = append(dst, `","outcomeDesc":`...)
	dst = appendString(dst, e.description())
	dst = append(dst, `,"agent":[`...)
	if e.ByServer {
		dst = append(dst, `{"who":{"display":"kiln"},"requestor":true},`...)
	}
	dst = e.appendAgent(dst)
	dst = append(dst, `],"source":{`...)
	dst = appendMember(dst, "site", site)
	dst = append(dst, `"observer":{"display":"kiln"},"type":[{"system":"`+systemSource+`","code":"4"}]},"entity":[`...)
	dst = e.appendEntities(dst)
	return append(dst, "]}"...)
}

func (e *Event) description() string {
	switch {
	case e.LeftOut > 0:
		return strconv.FormatUint(e.LeftOut, 10) + " requests without an event of their own"
	case e.Ending != "" && e.Status < 400:
		return e.Ending
	case e.Ending != "":
		return e.Ending + ", HTTP " + strconv.Itoa(e.Status)
	}
	return "HTTP " + strconv.Itoa(e.Status)
}

// outcome is AuditEvent.outcome: done, refused (the client's fault), failed.
func outcome(status int) string {
	switch {
	case status < 400:
		return "0"
	case status < 500:
		return "4"
	default:
		return "8"
	}
}

func (e *Event) appendAgent(dst []byte) []byte {
	dst = append(dst, '{')
	if e.Subject != "" {
		dst = append(dst, `"who":{"identifier":{`...)
		dst = appendMember(dst, "system", e.Issuer)
		dst = append(dst, `"value":`...)
		dst = append(appendString(dst, e.Subject), `}},`...)
	}
	altID := e.Client
	if altID == "" {
		altID = e.Subject // so that altid finds all clients
	}
	dst = appendMember(dst, "altId", altID)
	dst = appendMember(dst, "name", e.ClientName)
	dst = strconv.AppendBool(append(dst, `"requestor":`...), !e.ByServer)
	if e.Address != "" {
		dst = append(dst, `,"network":{"address":`...)
		dst = appendString(dst, e.Address)
		dst = append(dst, `,"type":"2"}`...)
	}
	return append(dst, '}')
}

func (e *Event) appendEntities(dst []byte) []byte {
	dst = append(dst, '{')
	if e.Reference != "" {
		dst = append(dst, `"what":{"reference":`...)
		dst = append(appendString(dst, e.Reference), `},`...)
	}
	dst = append(dst, `"type":{"system":"`+systemEntity+`","code":"2"},"role":{"system":"`+systemRole+`","code":"`...)
	switch {
	case e.Ending != "":
		dst = append(dst, `20"}`...) // job
	case e.Parameters != "" && e.Reference == "":
		dst = append(dst, `24"}`...) // query
	default:
		dst = append(dst, `4"}`...) // domain resource
	}
	if isWhole := len(e.Query) <= queryBytesMax; e.Query != nil && isWhole {
		dst = append(dst, `,"query":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, e.Query)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"detail":[`...)
	dst = appendDetail(dst, "interaction", e.Name)
	dst = appendDetail(dst, "method", e.Method)
	dst = appendDetail(dst, "path", e.Path)
	dst = appendDetail(dst, "parameters", e.Parameters)
	dst = appendDetail(dst, "job", e.Job)
	if e.LeftOut > 0 {
		dst = appendDetail(dst, "requests", strconv.FormatUint(e.LeftOut, 10))
		dst = appendDetail(dst, "since", e.Since.UTC().Format(instantLayout))
		dst = appendDetail(dst, "statuses", e.Statuses)
	}
	if len(e.Query) > queryBytesMax {
		dst = appendDetail(dst, "query", "longer than "+strconv.Itoa(queryBytesMax)+" bytes")
	}
	if e.Entry > 0 {
		dst = appendDetail(dst, "entry", strconv.Itoa(e.Entry))
	}
	dst = append(dst[:len(dst)-1], "]}"...) // the interaction has always a name
	if e.Patient != "" {
		dst = append(dst, `,{"what":{"reference":`...)
		dst = appendString(dst, "Patient/"+e.Patient)
		dst = append(dst, `},"type":{"system":"`+systemEntity+`","code":"1"},"role":{"system":"`+systemRole+`","code":"1"}}`...)
	}
	if e.RequestID != "" {
		dst = append(dst, `,{"what":{"identifier":{"value":`...)
		dst = appendString(dst, e.RequestID)
		dst = append(dst, `}},"type":{"system":"`+systemRequestID+`","code":"XrequestId"}}`...)
	}
	return dst
}

// appendDetail appends one detail and a comma, unless it is empty.
func appendDetail(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, `{"type":"`...)
	dst = append(dst, name...)
	dst = append(dst, `","valueString":`...)
	return append(appendString(dst, value), `},`...)
}

// appendMember appends a member and a comma, unless it is empty.
func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return append(appendString(dst, value), ',')
}

// textBytesMax bounds each text of an event; requests' heads are bounded, but tokens
// may be as long.
const textBytesMax = 1 << 10

// queryBytesMax bounds a query; one with as many values as a search may have is shorter.
const queryBytesMax = 4 << 20

// appendString appends a JSON string that FHIR takes too: without control characters,
// cut where it is too long. Bytes that are no UTF-8 are replaced.
func appendString(dst []byte, s string) []byte {
	if len(s) > textBytesMax {
		s = s[:textBytesMax]
	}
	dst = append(dst, '"')
	for _, r := range strings.TrimSpace(s) {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20 || r >= 0x7f && r <= 0x9f:
			dst = utf8.AppendRune(dst, utf8.RuneError)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
