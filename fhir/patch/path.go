package patch

import (
	"slices"
	"strings"
)

// A path is what FHIRPath Patch needs of FHIRPath:
//
//	path     = [Type '.'] step { '.' step }
//	step     = name | name '[' n ']' | first() | last() | single()
//	         | where(criteria) | extension('url') | ofType(Type)
//	criteria = name { '.' name } '=' literal { 'and' ... }
//	literal  = 'text' | number | true | false
//
// The type is the resource's own, or Resource or DomainResource.
type path []step

type stepKind uint8

const (
	stepMember stepKind = iota
	stepIndex
	stepFirst
	stepLast
	stepSingle
	stepWhere
	stepOfType
)

// step narrows or follows what the steps before it found.
type step struct {
	kind     stepKind
	name     string // of a member or a type
	index    int
	criteria []criterion
}

// criterion is one comparison of where().
type criterion struct {
	names  []string
	quoted bool   // the literal is a string
	value  string // its characters, or a number's or boolean's text
}

// stepsMax bounds a path; elements of R4 lie less than ten steps deep.
const stepsMax = 64

// pathParser reads one path from its beginning.
type pathParser struct {
	text string
	rest string
}

// parsePath reads a path for a resource of a type.
func parsePath(text, resourceType string) (path, error) {
	p := &pathParser{text: text, rest: strings.TrimSpace(text)}
	var steps path
	for first := true; ; first = false {
		name := p.word()
		if name == "" {
			return nil, p.fail()
		}
		isRoot := first && (name == resourceType || name == "Resource" || name == "DomainResource")
		if !isRoot {
			step, err := p.step(name)
			if err != nil {
				return nil, err
			}
			steps = append(steps, step...)
		}
		for p.next("[") {
			n := p.digits()
			if n < 0 || !p.next("]") {
				return nil, p.fail()
			}
			steps = append(steps, step{kind: stepIndex, index: n})
		}
		if len(steps) > stepsMax {
			return nil, malformed("The path '%s' has more than %d steps.", text, stepsMax)
		}
		if !p.next(".") {
			break
		}
	}
	if p.rest != "" {
		return nil, p.fail()
	}
	return steps, nil
}

func (p *pathParser) fail() error {
	return malformed("The path '%s' is not understood at '%s'. Paths may have members, indexes, first(), last(), single(), where(name = 'value'), extension('url') and ofType(Type).", p.text, p.rest)
}

// step reads what follows a name: a function's argument, or nothing.
func (p *pathParser) step(name string) ([]step, error) {
	if !p.next("(") {
		return []step{{kind: stepMember, name: name}}, nil
	}
	var steps []step
	switch name {
	case "first":
		steps = []step{{kind: stepFirst}}
	case "last":
		steps = []step{{kind: stepLast}}
	case "single":
		steps = []step{{kind: stepSingle}}
	case "ofType":
		typeName := p.word()
		if p.next(".") { // FHIR.Quantity
			typeName = p.word()
		}
		steps = []step{{kind: stepOfType, name: typeName}}
	case "extension":
		url, ok := p.quoted()
		if !ok {
			return nil, p.fail()
		}
		steps = []step{{kind: stepMember, name: "extension"}, {kind: stepWhere, criteria: []criterion{{[]string{"url"}, true, url}}}}
	case "where":
		criteria, err := p.criteria()
		if err != nil {
			return nil, err
		}
		steps = []step{{kind: stepWhere, criteria: criteria}}
	default:
		return nil, malformed("The function '%s' of the path '%s' is not supported.", name, p.text)
	}
	if !p.next(")") {
		return nil, p.fail()
	}
	return steps, nil
}

func (p *pathParser) criteria() ([]criterion, error) {
	var all []criterion
	for len(all) < stepsMax {
		var c criterion
		for {
			name := p.word()
			if name == "" {
				return nil, p.fail()
			}
			if name != "$this" || len(c.names) > 0 {
				c.names = append(c.names, name)
			}
			if !p.next(".") {
				break
			}
		}
		if !p.next("=") {
			return nil, p.fail()
		}
		if c.value, c.quoted = p.quoted(); !c.quoted {
			if c.value = p.plain(); c.value == "" {
				return nil, p.fail()
			}
		}
		all = append(all, c)
		if !p.next("and") {
			return all, nil
		}
	}
	return nil, malformed("The path '%s' has too many criteria.", p.text)
}

func (p *pathParser) blanks() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// next steps over a mark, if it comes next.
func (p *pathParser) next(mark string) bool {
	p.blanks()
	rest, ok := strings.CutPrefix(p.rest, mark)
	if ok {
		p.rest = rest
		p.blanks()
	}
	return ok
}

// word reads a name; "" when none comes next. Names may stand in backticks.
func (p *pathParser) word() string {
	p.blanks()
	if inner, ok := strings.CutPrefix(p.rest, "`"); ok {
		name, rest, closed := strings.Cut(inner, "`")
		if closed {
			p.rest = rest
			return name
		}
		return ""
	}
	return p.cut(func(c byte) bool {
		return c == '_' || c == '$' || 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
	})
}

// cut takes the bytes that belong.
func (p *pathParser) cut(belongs func(byte) bool) string {
	n := 0
	for n < len(p.rest) && belongs(p.rest[n]) {
		n++
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word
}

// digits reads an index; -1 when none comes next.
func (p *pathParser) digits() int {
	const indexMax = 1 << 30
	n, word := 0, p.cut(func(c byte) bool { return '0' <= c && c <= '9' })
	for i := range len(word) {
		n = min(n*10+int(word[i]-'0'), indexMax)
	}
	if word == "" {
		return -1
	}
	return n
}

// plain reads a number or a boolean; "" when none comes next.
func (p *pathParser) plain() string {
	p.blanks()
	word := p.cut(func(c byte) bool {
		return c == '-' || c == '.' || 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
	})
	if word == "true" || word == "false" || word != "" && strings.Trim(word, "-.0123456789") == "" {
		return word
	}
	return ""
}

// quoted reads 'text' or "text".
func (p *pathParser) quoted() (string, bool) {
	p.blanks()
	if p.rest == "" || p.rest[0] != '\'' && p.rest[0] != '"' {
		return "", false
	}
	var out []byte
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == p.rest[0]:
			p.rest = p.rest[i+1:]
			return string(out), true
		case c == '\\' && i+1 < len(p.rest):
			i++
			known := slices.Index([]byte(`'"\/nrt`+"`"), p.rest[i])
			if known < 0 {
				return "", false
			}
			out = append(out, "'\"\\/\n\r\t`"[known])
		default:
			out = append(out, c)
		}
	}
	return "", false
}
