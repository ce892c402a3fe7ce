package structure

import "kiln/fhir"

const (
	// IssuesMax is how many issues of a resource are told one by one: enough to
	// repair it by, and a bound for what a hostile resource makes the answer grow to.
	IssuesMax = 20
	// WarningsMax is the same for warnings, which therefore never hide an error.
	WarningsMax = 5
	// textBytesKept bounds the buffer that is kept from one resource to the next.
	textBytesKept = 1 << 20
	// placesKept bounds the stack that is kept from one resource to the next.
	placesKept = 1 << 12
)

// Severities and codes of issues (FHIR R4 valueset-issue-severity, -type).
const (
	SeverityError       = "error"
	SeverityWarning     = "warning"
	SeverityInformation = "information"

	CodeStructure     = "structure"     // an element that does not belong there, or of the wrong JSON type
	CodeRequired      = "required"      // an element is missing
	CodeValue         = "value"         // a primitive is not written as its type is
	CodeInformational = "informational" // how many issues are not listed
)

// Issue is one thing that is wrong with a resource.
type Issue struct {
	Severity string
	Code     string
	// Expression is the FHIRPath of the element, such as Patient.name[0].given[1];
	// a choice goes by its name without the type, as Observation.value. "" in the
	// issue that tells how many more there are.
	Expression string
	Text       string // what is wrong and what was expected, in one sentence
}

// Checker checks one resource after another. Not safe for concurrent use.
type Checker struct {
	src    []byte
	root   string // type of the outermost resource
	frames [fhir.DepthMax + 1]frame
	depth  int // of frames in use
	// places are the members of the open objects that others may have to be
	// compared with: primitives, their extensions, and choices.
	places   []place
	text     []byte // latest unescaped key or value
	issues   []Issue
	errors   int // of issues, how many are errors
	warnings int
	unlisted int
}

// frame is one step of the path to where the check stands.
type frame struct {
	member uint16
	index  int32 // within an array, or -1
}

// place is a member of an open object.
type place struct {
	at      uint32 // offset of its value
	member  uint16
	sibling bool // its key has the underscore
}

// NewChecker returns a Checker.
func NewChecker() *Checker { return &Checker{} }

// Check tells what is wrong with the resource in src: at most IssuesMax errors and
// WarningsMax warnings, and then one issue that counts the others. None is the
// answer for a resource that is right; see Refused for one that has only warnings. src must be a text that fhir.Scanner accepts (and not its Resource.Body,
// from which elements were taken), else Check may panic; it is not kept. The
// slice holds until the next Check, the strings in it for good.
func (c *Checker) Check(src []byte) []Issue {
	c.src, c.depth, c.root = src, 0, "Resource"
	c.errors, c.warnings, c.unlisted = 0, 0, 0
	clear(c.issues)
	c.issues, c.places = c.issues[:0], c.places[:0]
	c.resource(c.blanks(0), false)
	c.src = nil
	if cap(c.text) > textBytesKept {
		c.text = nil
	}
	if cap(c.places) > placesKept {
		c.places = nil
	}
	c.closeReport()
	return c.issues
}

// Refused tells whether issues have an error among them.
func Refused(issues []Issue) bool {
	for _, issue := range issues {
		if issue.Severity == SeverityError {
			return true
		}
	}
	return false
}
