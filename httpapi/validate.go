package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/valyala/fasthttp"

	"kiln/fhir"
	"kiln/fhir/structure"
)

// validation is what a $validate asks for.
type validation struct {
	resource []byte // nil: the stored one
	mode     string
	profile  string
}

// validate answers POST {type}/$validate, and POST and GET {type}/{id}/$validate
// (resource-operation-validate.html): 200 with what is wrong, errors or not.
func (x *exchange) validate() error {
	v, err := x.parseValidation()
	switch {
	case err != nil:
		return err
	case v.profile != "" || v.mode == "profile":
		return notSupported(fasthttp.StatusNotImplemented, "Validation against a profile is not supported by this server; without a profile it checks the structure of R4.")
	}
	var issues []issue
	switch v.mode {
	case "", "create", "update":
		issues, err = x.validateContent(&v)
	case "delete":
		issues, err = x.validateDelete()
	default:
		return badRequest("The mode '%s' is none of create, update, delete and profile.", v.mode)
	}
	if err != nil {
		return err
	}
	if len(issues) == 0 {
		issues = []issue{{severity: structure.SeverityInformation, code: codeInformational, text: "All OK"}}
	}
	x.outcome(fasthttp.StatusOK, issues...)
	return nil
}

// parseValidation reads the query, and the body: a resource, or Parameters.
func (x *exchange) parseValidation() (v validation, err error) {
	if v.mode, err = x.single("mode"); err != nil {
		return v, err
	}
	if v.profile, err = x.single("profile"); err != nil {
		return v, err
	}
	body := x.ctx.PostBody()
	if len(body) == 0 {
		return v, nil
	}
	contentType := x.ctx.Request.Header.ContentType()
	if !parseMediaType(contentType).isJSON() {
		return v, notSupported(fasthttp.StatusUnsupportedMediaType, "The Content-Type '%s' is not supported; use %s.", contentType, contentTypeFHIR)
	}
	r, err := x.scan(body)
	if err != nil {
		return v, err
	}
	if string(r.TypeName) != "Parameters" {
		v.resource = body
		return v, nil
	}
	return v, x.parseValidationParameters(&v, body)
}

// parseValidationParameters takes what the operation defines. At the address of
// type Parameters, a body without a parameter "resource" is itself the resource.
func (x *exchange) parseValidationParameters(v *validation, body []byte) error {
	var parameters struct {
		Parameter []struct {
			Name           string          `json:"name"`
			ValueCode      string          `json:"valueCode"`
			ValueString    string          `json:"valueString"`
			ValueURI       string          `json:"valueUri"`
			ValueCanonical string          `json:"valueCanonical"`
			Resource       json.RawMessage `json:"resource"`
		} `json:"parameter"`
	}
	err := json.Unmarshal(body, &parameters)
	asked := *v
	for _, p := range parameters.Parameter {
		switch p.Name {
		case "resource":
			asked.resource = p.Resource
		case "mode":
			asked.mode = p.ValueCode + p.ValueString
		case "profile":
			asked.profile = p.ValueURI + p.ValueCanonical + p.ValueString
		}
	}
	switch {
	case x.addr.typ.String() == "Parameters" && asked.resource == nil:
		v.resource = body
	case err != nil:
		return badRequest("The Parameters of $validate cannot be read: %v.", err)
	default:
		*v = asked
	}
	return nil
}

// validateContent checks the resource that was sent, or else the stored one.
func (x *exchange) validateContent(v *validation) ([]issue, error) {
	text := v.resource
	if text == nil {
		if x.addr.place != placeInstanceValidate {
			return nil, badRequest("There is no resource to validate: send it as the body, or as the parameter 'resource'.")
		}
		stored, err := x.live()
		if err != nil {
			return nil, err
		}
		text = stored.AppendJSON(nil)
	}
	r, err := x.scan(text)
	var refused *fhir.ScanError
	if errors.As(err, &refused) {
		p, _ := asProblem(err)
		return []issue{{severity: structure.SeverityError, code: p.code, text: p.text}}, nil
	}
	if err != nil {
		return nil, err
	}
	if r.Type != 0 && r.Type != x.addr.typ {
		return nil, badRequest("The resource is of type '%s', and the address is for type '%s'.", r.TypeName, x.addr.typeName)
	}
	issues := structureOutcome(x.structureIssues(text))
	if r.Deleted {
		issues = append(issues, invalidIssue("", "The extension %s is for $import only.", fhir.DeletedStateURL))
	}
	if v.mode == "update" {
		issues = append(issues, x.validateID(r)...)
	}
	return issues, nil
}

// validateID checks what an update needs of the id.
func (x *exchange) validateID(r *fhir.Resource) []issue {
	expression := string(r.TypeName) + ".id"
	switch {
	case len(r.ID) == 0:
		return []issue{invalidIssue(expression, "The resource has no id, which an update needs.")}
	case x.addr.place == placeInstanceValidate && string(r.ID) != string(x.addr.id):
		return []issue{invalidIssue(expression, "The resource's id '%s' is not the id of the address, '%s'.", r.ID, x.addr.id)}
	}
	return nil
}

// validateDelete tells what a delete would meet: everything that is there can be
// deleted.
func (x *exchange) validateDelete() ([]issue, error) {
	if x.addr.place != placeInstanceValidate {
		return nil, badRequest("The mode 'delete' is for one resource: POST [type]/[id]/$validate.")
	}
	_, err := x.live()
	return nil, err
}

func invalidIssue(expression, format string, args ...any) issue {
	return issue{severity: structure.SeverityError, code: codeInvalid, text: fmt.Sprintf(format, args...), expression: expression}
}
