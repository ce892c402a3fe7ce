package fhir

import "strconv"

// DeletedStateURL marks soft-deleted versions in $import and $export.
const DeletedStateURL = "http://azurehealthcareapis.com/data-extensions/deleted-state"

// deletedStateValue is the valueString that makes the mark count.
const deletedStateValue = "soft-deleted"

// SpliceKind says what the server's meta members need around them.
type SpliceKind uint8

const (
	// SpliceNewMeta: the body has no meta; At is just past the id value (just
	// past the resourceType value when there is no id) and `,"meta":{...}` is
	// inserted there.
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
	TypeName []byte // unescaped; Type is 0 when it is not an R4 type
	ID       []byte // unescaped; nil when absent
	// IDAt is the offset of ID's text inside Body when ID is a ValidID, which
	// Body then holds without escapes even if the source had some. Otherwise it
	// is 0.
	IDAt        uint32
	VersionID   []byte // unescaped meta.versionId; nil when absent
	LastUpdated []byte // unescaped meta.lastUpdated; nil when absent
	// Deleted: a meta.extension with url DeletedStateURL and valueString
	// "soft-deleted" was there (all extensions with that url are cut then).
	Deleted bool
	// ConditionalReference: some string member "reference" at any depth has a '?'.
	ConditionalReference bool
	// Body is the JSON minified, without meta.versionId, meta.lastUpdated and
	// the deleted-state extension. It aliases the source when that needed no cut.
	Body   []byte
	Splice Splice

	typeEnd        uint32 // offset in Body just past the resourceType value
	idStart, idEnd uint32 // the id value in Body, quotes included; equal when absent
}

// AppendResource appends body with meta.versionId and meta.lastUpdated spliced
// back in.
func AppendResource(dst, body []byte, at Splice, versionID int64, lastUpdated Instant) []byte {
	return appendSpliced(dst, body, at, versionID, lastUpdated, "")
}

// appendSpliced puts more behind lastUpdated.
func appendSpliced(dst, body []byte, at Splice, versionID int64, lastUpdated Instant, more string) []byte {
	dst = append(dst, body[:at.At]...)
	if at.Kind == SpliceNewMeta {
		dst = append(dst, `,"meta":{`...)
	}
	dst = append(dst, `"versionId":"`...)
	dst = strconv.AppendInt(dst, versionID, 10)
	dst = append(dst, `","lastUpdated":"`...)
	dst = lastUpdated.Append(dst)
	dst = append(dst, '"')
	dst = append(dst, more...)
	switch at.Kind {
	case SpliceNewMeta:
		dst = append(dst, '}')
	case SpliceIntoMeta:
		dst = append(dst, ',')
	}
	return append(dst, body[at.At:]...)
}

// AppendBodyWithID appends r.Body with its id replaced by id, or put in just
// past the resourceType when r has none. r must come from a Scan and id must be
// a ValidID. body is what was appended; idAt and splice are offsets in it.
func AppendBodyWithID(dst []byte, r *Resource, id []byte) (body []byte, idAt uint32, splice Splice) {
	if !ValidID(id) {
		panic("BUG: AppendBodyWithID with an id that is not valid")
	}
	start := len(dst)
	from, to := r.idStart, r.idEnd
	prefix := `"`
	if from == to {
		from, to, prefix = r.typeEnd, r.typeEnd, `,"id":"`
	}
	dst = append(dst, r.Body[:from]...)
	dst = append(dst, prefix...)
	idAt = uint32(len(dst) - start)
	dst = append(dst, id...)
	dst = append(dst, '"')
	shifted := uint32(len(dst) - start)
	dst = append(dst, r.Body[to:]...)

	splice = r.Splice
	if splice.At >= to {
		splice.At += shifted - to
	}
	return dst[start:], idAt, splice
}

// StubBody appends the body of a version that has no content of its own, that
// of a delete: {"resourceType":T,"id":ID}.
func StubBody(dst []byte, t TypeCode, id []byte) (body []byte, idAt uint32, splice Splice) {
	if !ValidID(id) || t.String() == "" {
		panic("BUG: StubBody without a valid type and id")
	}
	start := len(dst)
	dst = append(dst, `{"resourceType":"`...)
	dst = append(dst, t.String()...)
	dst = append(dst, `","id":"`...)
	idAt = uint32(len(dst) - start)
	dst = append(dst, id...)
	dst = append(dst, '"')
	splice = Splice{At: uint32(len(dst) - start), Kind: SpliceNewMeta}
	dst = append(dst, '}')
	return dst[start:], idAt, splice
}
