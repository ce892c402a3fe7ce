package main

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// issueTypes is the required value set of OperationOutcome.issue.code
// (http://hl7.org/fhir/R4/valueset-issue-type.html).
var issueTypes = strings.Fields(`invalid structure required value invariant security login unknown expired forbidden suppressed
	processing not-supported duplicate multiple-matches not-found deleted too-long code-invalid extension too-costly business-rule
	conflict transient lock-error no-store exception timeout incomplete throttled informational`)

// general is what holds for every answer, whatever was asked: what is wrong of it.
func (c *check) general(got *answer) (wrong []string) {
	contentType := got.header.Get("Content-Type")
	isEmpty := c.method == "HEAD" || got.status == http.StatusNoContent || got.status == http.StatusNotModified
	switch {
	case isEmpty && len(got.body) > 0:
		wrong = append(wrong, "the answer has a body")
	case len(got.body) > 0 && contentType == "":
		wrong = append(wrong, "the answer has a body and no Content-Type")
	case strings.Contains(contentType, "html"):
		wrong = append(wrong, "the answer is HTML")
	}
	if got.status >= http.StatusBadRequest && c.method != "HEAD" {
		wrong = append(wrong, wrongOutcome(got)...)
	}
	if got.status == http.StatusMethodNotAllowed && got.header.Get("Allow") == "" {
		wrong = append(wrong, "405 without Allow (RFC 9110 section 15.5.6)")
	}
	if tag := got.header.Get("ETag"); tag != "" && strings.HasPrefix(contentType, "application/fhir+json") && len(got.body) > 0 && got.status < 300 {
		body, _ := parseJSON(got.body)
		version, has := lookUp(body, "meta.versionId")
		if has && tag != `W/"`+version+`"` {
			wrong = append(wrong, fmt.Sprintf("ETag %s with meta.versionId %s", tag, version))
		}
	}
	return wrong
}

// wrongOutcome holds an error to being an OperationOutcome that says something.
func wrongOutcome(got *answer) (wrong []string) {
	body, err := parseJSON(got.body)
	if err != nil {
		return []string{"the error is not JSON: " + err.Error()}
	}
	if kind, _ := lookUp(body, "resourceType"); kind != "OperationOutcome" {
		return []string{"the error is not an OperationOutcome"}
	}
	if !strings.HasPrefix(got.header.Get("Content-Type"), "application/fhir+json") {
		wrong = append(wrong, "the OperationOutcome has Content-Type "+got.header.Get("Content-Type"))
	}
	severities, _ := lookUp(body, "issue[*].severity")
	if !strings.Contains(severities, "error") && !strings.Contains(severities, "fatal") {
		wrong = append(wrong, "no issue is an error")
	}
	issues := elements(members([]any{body}, "issue"), "*")
	for _, issue := range issues {
		code, _ := lookUp(issue, "code")
		if !slices.Contains(issueTypes, code) {
			wrong = append(wrong, "R4 has no issue type "+code)
		}
		diagnostics, _ := lookUp(issue, "diagnostics")
		text, _ := lookUp(issue, "details.text")
		if diagnostics+text == "" {
			wrong = append(wrong, "an issue says nothing")
		}
	}
	return wrong
}

// compare checks the status and the facts, and keeps what later checks need.
func (c *check) compare(got *answer, known variables) (wrong []string) {
	if got.status != c.status {
		wrong = append(wrong, fmt.Sprintf("status %d instead of %d", got.status, c.status))
	}
	body, jsonErr := parseJSON(got.body)
	for _, f := range c.facts {
		text, has := "", false
		switch {
		case f.kind == factHeader:
			values := got.header.Values(f.path)
			text, has = strings.Join(values, ", "), len(values) > 0
		case f.path == "body":
			text, has = string(got.body), len(got.body) > 0
		case f.op != "absent" && jsonErr != nil:
			wrong = append(wrong, f.path+": the body is not JSON: "+jsonErr.Error())
			continue
		default:
			text, has = lookUp(body, f.path)
		}
		if problem := f.compare(text, has, known); problem != "" {
			wrong = append(wrong, problem)
		}
	}
	return wrong
}

func (f fact) compare(text string, has bool, known variables) string {
	switch {
	case f.op == "absent" && has:
		return fmt.Sprintf("%s is %.300q, and should not be there", f.path, text)
	case f.op == "absent":
		return ""
	case !has:
		return f.path + " is absent"
	case f.op == "keep":
		known[f.value] = text
		return ""
	}
	want, err := known.fill(f.value, f.op == "~")
	if err != nil {
		return err.Error()
	}
	if f.op == "=" && text != want {
		return fmt.Sprintf("%s is %.600q instead of %q", f.path, text, want)
	}
	if f.op == "~" {
		if expression, err := regexp.Compile(want); err != nil || !expression.MatchString(text) {
			return fmt.Sprintf("%s is %.600q and does not match %s", f.path, text, want)
		}
	}
	return ""
}
