package fhir

import "errors"

// TypeCode is the stable number of a concrete R4 resource type: its 1-based
// position in the alphabetical list of the 146 R4 types. It is written to disk
// and never renumbered. 0 is no type.
type TypeCode uint16

// OffsetZ is Instant.OffsetMinutes for a text that ends in "Z".
const OffsetZ = -1 << 15

// Instant is a FHIR instant truncated to milliseconds, with the offset it was
// written with.
type Instant struct {
	Milli         int64 // UTC milliseconds since 1970
	OffsetMinutes int16 // OffsetZ, or minutes east of UTC
}

// SpliceKind says what the server's meta members need around them.
type SpliceKind uint8

const (
	// SpliceNewMeta: the body has no meta; At is just past the id value and
	// `,"meta":{...}` is inserted there.
	SpliceNewMeta SpliceKind = iota
	// SpliceEmptyMeta: the body has `"meta":{}`; At is between the braces.
	SpliceEmptyMeta
	// SpliceIntoMeta: the body's meta has other members; At is just past its
	// `{` and the inserted members end in a comma.
	SpliceIntoMeta
)

// Splice is where a body takes back its versionId and lastUpdated.
type Splice struct {
	At   uint32
	Kind SpliceKind
}

// Resource is the result of one Scan. All slices alias the scanned input or
// the Scanner's buffers and hold until the next Scan.
type Resource struct {
	Type     TypeCode
	TypeName []byte // as written; Type is 0 when it is not an R4 type
	ID       []byte // unescaped; nil when absent
	// IDAt is the offset of ID's text inside Body (ids that ValidID accepts
	// need no escapes; when the source escaped them IDAt is 0 and ID is the
	// unescaped text, and the id is written plainly into Body).
	IDAt        uint32
	VersionID   []byte // unescaped meta.versionId; nil when absent
	LastUpdated []byte // unescaped meta.lastUpdated; nil when absent
	// Deleted: a meta.extension with url DeletedStateURL and valueString
	// "soft-deleted" was there (all extensions with that url are cut then).
	Deleted bool
	// ConditionalReference: some "reference" member at any depth has a '?'.
	ConditionalReference bool
	// Body is the JSON minified, without meta.versionId, meta.lastUpdated and
	// the deleted-state extension.
	Body   []byte
	Splice Splice
}

// DeletedStateURL marks soft-deleted versions in $import and $export.
const DeletedStateURL = "http://azurehealthcareapis.com/data-extensions/deleted-state"

// Kinds of refusal; every error of Scan wraps one of them in a *ScanError.
var (
	ErrSyntax       = errors.New("not valid JSON")
	ErrNotResource  = errors.New("not a FHIR resource")
	ErrDuplicateKey = errors.New("repeated key")
	ErrTooDeep      = errors.New("nested too deep")
)
