package query

import (
	"fmt"

	"kiln/fhir"
	"kiln/fhir/search"
)

// definition is a SearchParameter resource as far as searches need it.
type definition struct {
	id     string
	status string
	search.Definition
	wrong string // what cannot be read of it; "": nothing
}

// Members of a SearchParameter, as fhir.PathRule numbers them.
const (
	memberURL fhir.PathID = iota
	memberCode
	memberStatus
	memberType
	memberBase
	memberExpression
	memberTarget
	memberComponent
	memberComponentURL
	memberComponentExpression
)

var memberPaths = [...]string{
	memberURL: "url", memberCode: "code", memberStatus: "status", memberType: "type", memberBase: "base", memberExpression: "expression",
	memberTarget: "target", memberComponent: "component", memberComponentURL: "component.definition", memberComponentExpression: "component.expression",
}

// definitionScanner reads SearchParameters. Not safe for concurrent use.
type definitionScanner struct {
	scanner *fhir.Scanner
	read    definition
}

func newDefinitionScanner() (*definitionScanner, error) {
	var rules []fhir.PathRule
	for id, path := range memberPaths {
		rules = append(rules, fhir.PathRule{Path: parameterType().String() + "." + path, ID: fhir.PathID(id)})
	}
	paths, err := fhir.NewPaths(rules)
	if err != nil {
		return nil, err
	}
	return &definitionScanner{scanner: fhir.NewScanner(fhir.ScannerOptions{Paths: paths})}, nil
}

// parameterType is the type of resources that define search parameters.
func parameterType() fhir.TypeCode { return fhir.TypeByName([]byte("SearchParameter")) }

func (s *definitionScanner) definition(id, body []byte) (definition, error) {
	s.read = definition{id: string(id)}
	if _, err := s.scanner.Scan(body, s); err != nil {
		return definition{}, fmt.Errorf("cannot read SearchParameter/%s: %w", id, err)
	}
	return s.read, nil
}

// Begin implements fhir.Visitor.
func (s *definitionScanner) Begin(id fhir.PathID) {
	if id == memberComponent {
		s.read.Components = append(s.read.Components, search.ComponentDefinition{})
	} else {
		s.fail(id)
	}
}

// End implements fhir.Visitor.
func (s *definitionScanner) End(fhir.PathID) {}

func (s *definitionScanner) fail(id fhir.PathID) {
	if s.read.wrong == "" {
		s.read.wrong = fmt.Sprintf("its %s is not of the right kind", memberPaths[id])
	}
}

// Value implements fhir.Visitor.
func (s *definitionScanner) Value(id fhir.PathID, kind fhir.Kind, text []byte) {
	if kind != fhir.KindString || id == memberComponent {
		s.fail(id)
		return
	}
	d, value := &s.read, string(text)
	switch id {
	case memberURL:
		d.URL = value
	case memberCode:
		d.Code = value
	case memberStatus:
		d.status = value
	case memberType:
		d.Kind = search.KindByName(value)
	case memberBase:
		d.Bases = append(d.Bases, value)
	case memberExpression:
		d.Expression = value
	case memberTarget:
		if t := fhir.TypeByName(text); t == 0 {
			s.read.wrong = fmt.Sprintf("its target '%.64s' is no resource type of R4", value)
		} else {
			d.Targets = append(d.Targets, t)
		}
	case memberComponentURL, memberComponentExpression:
		s.component(id, value)
	}
}

func (s *definitionScanner) component(id fhir.PathID, value string) {
	if len(s.read.Components) == 0 {
		s.fail(memberComponent)
		return
	}
	c := &s.read.Components[len(s.read.Components)-1]
	if id == memberComponentURL {
		c.URL = value
	} else {
		c.Expression = value
	}
}
