package search

import (
	"fmt"
	"strings"
)

// The FHIRPath that search parameters are written in, as far as it goes here:
// what R4's own use, and what paths to extensions need.
//
//	union  = path *( "|" path )
//	path   = first *( "." step / "[0]" ) [ "as" type ]
//	first  = "(" union ")" / "%resource" / step
//	step   = name / "as(" type ")" / "ofType(" type ")" / "extension('" url "')"
//	       / "where(" name "=" "'" text "'" ")" / "where(resolve() is " type ")"
//
// Anything else is an error that tells where.

// step is one step of a path: a name and what is asked of it.
type step struct {
	name  string
	first bool   // [0]
	as    string // a data type: " as X", ".as(X)"
	only  string // where(resolve() is X)
	key   string // where(key='value')
	value string
}

// path is one alternative of an expression, without its root.
type path struct {
	root  string // "" when the expression leaves it out
	whole bool   // %resource in front: the resource, from inside of a group
	steps []step
	// dead is the test of Patient.deceased, the only boolean expression of R4.
	dead bool
}

const (
	deadExpression = "Patient.deceased.exists() and Patient.deceased != false"
	// pathsMax and parsedDepthMax bound what one expression can be: R4's longest
	// has 21 alternatives.
	pathsMax       = 256
	parsedDepthMax = 16
	// ExpressionBytesMax bounds an expression; R4's longest has 1,300 bytes.
	ExpressionBytesMax = 16 << 10
)

// parse reads an expression as a union of paths.
func parse(expression string) ([]path, error) {
	if expression == deadExpression {
		return []path{{root: "Patient", steps: []step{{name: "deceased"}}, dead: true}}, nil
	}
	if len(expression) > ExpressionBytesMax {
		return nil, fmt.Errorf("cannot compile an expression of over %d bytes", ExpressionBytesMax)
	}
	p := parser{text: expression}
	paths := p.union()
	if p.blanks(); p.err == nil && p.at < len(p.text) {
		p.fail("this is not understood")
	}
	if p.err != nil {
		return nil, fmt.Errorf("cannot compile expression %q: %w", expression, p.err)
	}
	return paths, nil
}

// parser reads from text[at]. The first error sticks.
type parser struct {
	text  string
	at    int
	depth int
	err   error
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("at character %d: %s", p.at+1, fmt.Sprintf(format, args...))
	}
}

func (p *parser) blanks() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// take reads token behind blanks, if it stands there.
func (p *parser) take(token string) bool {
	p.blanks()
	if p.err != nil || !strings.HasPrefix(p.text[p.at:], token) {
		return false
	}
	p.at += len(token)
	return true
}

// want is take for what must stand there.
func (p *parser) want(token string) {
	if !p.take(token) {
		p.fail("there should be %q", token)
	}
}

// name reads an identifier; "" when none stands there.
func (p *parser) name() string {
	p.blanks()
	from := p.at
	for p.at < len(p.text) && isNameByte(p.text[p.at], p.at > from) {
		p.at++
	}
	return p.text[from:p.at]
}

func isNameByte(c byte, later bool) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || later && ('0' <= c && c <= '9' || c == '_')
}

// quoted reads a text in single quotes, without any escape.
func (p *parser) quoted() string {
	p.want("'")
	end := strings.IndexAny(p.text[p.at:], `'\`)
	if p.err == nil && (end < 0 || p.text[p.at+end] == '\\') {
		p.fail("a text in quotes has no end, or an escape, which is not supported")
	}
	if p.err != nil {
		return ""
	}
	text := p.text[p.at : p.at+end]
	p.at += end + 1
	if text == "" {
		p.fail("a text in quotes is empty")
	}
	return text
}

func (p *parser) union() []path {
	if p.depth++; p.depth > parsedDepthMax {
		p.fail("the parentheses are nested too deep")
	}
	all := p.path()
	for p.err == nil && p.take("|") {
		all = append(all, p.path()...)
	}
	if len(all) > pathsMax {
		p.fail("the expression has more than %d alternatives", pathsMax)
	}
	p.depth--
	return all
}

// path reads one path: several, where it goes on behind parentheses.
func (p *parser) path() []path {
	all := p.beginning()
	for p.err == nil {
		switch {
		case p.take("."):
			p.step(all)
		case p.take("["):
			p.want("0")
			p.want("]")
			p.each(all, func(s *step) { s.first = true })
		case p.word("as"):
			p.cast(all)
		default:
			return all
		}
	}
	return nil
}

// word reads a keyword that blanks stand around.
func (p *parser) word(keyword string) bool {
	from := p.at
	if p.name() == keyword && p.err == nil {
		return true
	}
	p.at = from
	return false
}

// beginning reads what a path begins with: parentheses, or a first name.
func (p *parser) beginning() []path {
	if p.take("(") {
		all := p.union()
		p.want(")")
		return all
	}
	if p.take("%resource") {
		return []path{{whole: true}}
	}
	all := []path{{}}
	from := p.at
	if name := p.name(); name != "" && name[0] <= 'Z' {
		all[0].root = name
		return all
	}
	p.at = from
	p.step(all)
	return all
}

// step reads a step and appends it to all paths, or what it asks to their last steps.
func (p *parser) step(all []path) {
	name := p.name()
	switch {
	case name == "":
		p.fail("there should be the name of an element")
	case !p.take("("):
		if len(name) > 0 && name[0] <= 'Z' {
			p.fail("elements begin in lower case, unlike %q", name)
		}
		appendStep(all, step{name: name})
	default:
		p.function(all, name)
		p.want(")")
	}
}

// appendStep makes new slices: the paths behind parentheses may share theirs.
func appendStep(all []path, s step) {
	for i := range all {
		all[i].steps = append(all[i].steps[:len(all[i].steps):len(all[i].steps)], s)
	}
}

func (p *parser) function(all []path, name string) {
	switch name {
	case "as", "ofType":
		p.cast(all)
	case "extension":
		appendStep(all, step{name: name, key: "url", value: p.quoted()})
	case "where":
		p.where(all)
	default:
		p.fail("the function %s is not supported here", name)
	}
}

// cast reads a type's name and asks for it.
func (p *parser) cast(all []path) {
	name := p.name()
	if p.take(".") { // System.String or FHIR.Quantity
		name = p.name()
	}
	if name == "" {
		p.fail("there should be the name of a data type")
	}
	p.each(all, func(s *step) {
		if s.as != "" {
			p.fail("an element is cast twice")
		}
		s.as = name
	})
}

// where reads a condition.
func (p *parser) where(all []path) {
	key := p.name()
	if key == "resolve" && p.take("(") {
		p.want(")")
		if !p.word("is") {
			p.fail("there should be \"is\"")
		}
		only := p.name()
		p.each(all, func(s *step) { s.only = only })
		return
	}
	if key == "" {
		p.fail("there should be the name of an element")
	}
	p.want("=")
	p.blanks()
	value := p.quoted()
	p.each(all, func(s *step) {
		if s.key != "" {
			p.fail("an element has two conditions; one is supported")
		}
		s.key, s.value = key, value
	})
}

// each changes the last step of every path.
func (p *parser) each(all []path, change func(*step)) {
	for i := range all {
		steps := all[i].steps
		if len(steps) == 0 {
			p.fail("there is no element that this is about")
			return
		}
		last := steps[len(steps)-1]
		change(&last)
		all[i].steps = append(steps[:len(steps)-1:len(steps)-1], last)
	}
}
