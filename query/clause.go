package query

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"kiln/fhir"
)

// The text of a _filter (R4 search_filter.html):
//
//	filter   = part *(("and" / "or") part)      from left to right, neither binds closer
//	part     = test / "not" "(" filter ")" / "(" filter ")"
//	test     = path operator value
//	path     = name ["[" filter "]" "." path / "." path]
//	name     = (letter / "_") *(letter / digit / "_" / "-" / ":")
//	operator = one of operators
//	value    = JSON string / any characters but white space, ")" and "]"
//
// R4 has no ":" in names. Here a path may say which type it goes to, as chains do,
// subject:Patient.name, and begin with _has:Type:reference:, as in later releases.

// operators are the operators of the specification.
var operators = strings.Fields("eq ne co sw ew gt lt ge le ap sa eb pr po ss sb in ni re")

// clause is a filter or a part of one.
type clause struct {
	op   op // opAnd, opOr or opNot of args; opTerms: a test
	at   int
	args []*clause

	path     []link
	operator string
	value    string
}

// link is a name of a path, with the filter on what it refers to; nil: none.
type link struct {
	name  string
	where *clause
}

// parseClause reads a filter's text. Errors are *Error and name the character.
func parseClause(text string) (*clause, error) {
	if len(text) > clauseBytesMax {
		return nil, tooCostly("The _filter is longer than %d bytes.", clauseBytesMax)
	}
	p := &clauseParser{text: text}
	c, err := p.filter()
	if err == nil && p.at < len(text) {
		err = p.expected("'and', 'or' or the end")
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

type clauseParser struct {
	text  string
	at    int
	depth int
}

// character is the number of the character at a byte's offset, from 1.
func character(text string, at int) int { return utf8.RuneCountInString(text[:at]) + 1 }

// expected is an error at the place that was reached.
func (p *clauseParser) expected(what string) error {
	found := "the end"
	if rest := p.text[p.at:]; rest != "" {
		r, _ := utf8.DecodeRuneInString(rest)
		found = "'" + string(r) + "'"
	}
	return p.wrong(p.at, what+" is expected, not "+found)
}

func (p *clauseParser) wrong(at int, what string) error {
	return invalid("The _filter is not well-formed at character %d: %s.", character(p.text, at), what)
}

func (p *clauseParser) blanks() {
	for p.at < len(p.text) {
		r, n := utf8.DecodeRuneInString(p.text[p.at:])
		if !unicode.IsSpace(r) {
			return
		}
		p.at += n
	}
}

// take goes over a character.
func (p *clauseParser) take(c byte) bool {
	if p.at == len(p.text) || p.text[p.at] != c {
		return false
	}
	p.at++
	return true
}

// word reads a name; empty: there is none.
func (p *clauseParser) word() string {
	start := p.at
	for p.at < len(p.text) && isNameByte(p.text[p.at], p.at == start) {
		p.at++
	}
	return p.text[start:p.at]
}

func isNameByte(c byte, first bool) bool {
	letter := 'a' <= c|0x20 && c|0x20 <= 'z'
	return letter || c == '_' || !first && ('0' <= c && c <= '9' || c == '-' || c == ':')
}

// filter reads parts, with the blanks around them.
func (p *clauseParser) filter() (*clause, error) {
	if p.depth++; p.depth > clauseDepthMax {
		return nil, tooCostly("The _filter is nested more than %d deep at character %d.", clauseDepthMax, character(p.text, p.at))
	}
	defer func() { p.depth-- }()
	left, err := p.part()
	for err == nil {
		start := p.at
		join := opAnd
		switch word := p.word(); word {
		case "and":
		case "or":
			join = opOr
		default:
			p.at = start
			return left, nil
		}
		var right *clause
		if right, err = p.part(); err == nil {
			left = joined(join, left, right)
		}
	}
	return nil, err
}

// joined adds right to left's args where that means the same.
func joined(join op, left, right *clause) *clause {
	if left.op == join {
		left.args = append(left.args, right)
		return left
	}
	return &clause{op: join, at: left.at, args: []*clause{left, right}}
}

func (p *clauseParser) part() (*clause, error) {
	p.blanks()
	start := p.at
	if p.take('(') {
		return p.inside(')')
	}
	name := p.word()
	if name != "not" {
		p.at = start
		return p.test()
	}
	p.blanks()
	if !p.take('(') {
		return nil, p.expected("'(' behind 'not'")
	}
	c, err := p.inside(')')
	return &clause{op: opNot, at: start, args: []*clause{c}}, err
}

// inside reads a filter up to what closes it, and the blanks behind.
func (p *clauseParser) inside(end byte) (*clause, error) {
	c, err := p.filter()
	if err != nil {
		return nil, err
	}
	if !p.take(end) {
		return nil, p.expected("'and', 'or' or '" + string(end) + "'")
	}
	if end == ')' {
		p.blanks()
	}
	return c, nil
}

func (p *clauseParser) test() (*clause, error) {
	c := &clause{op: opTerms, at: p.at}
	for {
		step, err := p.link()
		if err != nil {
			return nil, err
		}
		c.path = append(c.path, step)
		if p.take('.') {
			continue
		}
		if step.where != nil {
			return nil, p.expected("'.' and a parameter behind ']'")
		}
		break
	}
	p.blanks()
	at := p.at
	if c.operator = p.word(); !slices.Contains(operators, c.operator) {
		p.at = at
		return nil, p.wrong(at, "an operator is expected, one of "+strings.Join(operators, ", "))
	}
	blank := p.at
	p.blanks()
	if p.at == blank {
		return nil, p.expected("a blank and a value")
	}
	var err error
	c.value, err = p.value()
	p.blanks()
	return c, err
}

func (p *clauseParser) link() (step link, err error) {
	start := p.at
	if step.name = p.word(); step.name == "" || step.name == "and" || step.name == "or" {
		p.at = start
		return step, p.expected("the name of a search parameter")
	}
	if p.take('[') {
		step.where, err = p.inside(']')
	}
	return step, err
}

// value reads what a test compares with.
func (p *clauseParser) value() (string, error) {
	start := p.at
	if p.take('"') {
		return p.quoted(start)
	}
	for p.at < len(p.text) && p.text[p.at] != ')' && p.text[p.at] != ']' {
		r, n := utf8.DecodeRuneInString(p.text[p.at:])
		if unicode.IsSpace(r) {
			break
		}
		p.at += n
	}
	if p.at == start {
		return "", p.expected("a value")
	}
	return p.text[start:p.at], nil
}

// quoted reads a JSON string that begins at start.
func (p *clauseParser) quoted(start int) (string, error) {
	for p.at < len(p.text) && p.text[p.at] != '"' {
		if p.text[p.at] == '\\' {
			p.at++
		}
		p.at++
	}
	if p.at >= len(p.text) {
		return "", p.wrong(start, "the string is not closed")
	}
	p.at++
	quoted, err := fhir.Minify([]byte(p.text[start:p.at]))
	if err != nil {
		return "", p.wrong(start, "the string is not one of JSON")
	}
	return string(fhir.AppendText(nil, quoted)), nil
}
