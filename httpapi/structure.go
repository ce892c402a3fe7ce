package httpapi

import (
	"slices"

	"github.com/valyala/fasthttp"

	"kiln/fhir/structure"
)

// structureError is a resource that is not built as R4 says. The status is 400:
// http.html wants that for what "failed basic FHIR validation rules", and 422 for
// what breaks profiles or rules of the server.
type structureError struct {
	status int
	issues []structure.Issue // at least one is an error
}

// Error tells the first error, for answers that have room for one only.
func (e *structureError) Error() string {
	first := e.first()
	text := first.Expression + ": " + first.Text
	if len(e.issues) > 1 {
		text += " There are more issues."
	}
	return text
}

func (e *structureError) first() structure.Issue {
	at := slices.IndexFunc(e.issues, func(is structure.Issue) bool { return is.Severity == structure.SeverityError })
	return e.issues[at]
}

// checkStructure refuses a resource that is not built as R4 says, unless the
// server is told not to look. The scanner must have accepted text.
func (x *exchange) checkStructure(text []byte) error {
	if !x.server.opts.ValidateWrites {
		return nil
	}
	if issues := x.structureIssues(text); structure.Refused(issues) {
		return &structureError{fasthttp.StatusBadRequest, issues}
	}
	return nil
}

func (x *exchange) structureIssues(text []byte) []structure.Issue {
	checker := x.server.checkers.Get().(*structure.Checker)
	defer x.server.checkers.Put(checker)
	return slices.Clone(checker.Check(text))
}

// structureOutcome are the issues as an OperationOutcome has them.
func structureOutcome(found []structure.Issue) []issue {
	issues := make([]issue, 0, len(found))
	for _, is := range found {
		issues = append(issues, issue{severity: is.Severity, code: is.Code, text: is.Text, expression: is.Expression})
	}
	return issues
}
