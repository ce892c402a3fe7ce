package search

import (
	"fmt"
	"regexp"
	"strings"
)

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
	wholePrefix    = "%resource."
)

// The forms of a step, and of the casts that stand around a path.
var (
	stepForm = regexp.MustCompile(`^([A-Za-z]+)(\[0\])?$`)
	asForm   = regexp.MustCompile(`^as\(([A-Za-z]+)\)$`)
	isForm   = regexp.MustCompile(`^where\(resolve\(\) is ([A-Za-z]+)\)$`)
	sameForm = regexp.MustCompile(`^where\(([a-z]+)='([a-z-]+)'\)$`)
	castForm = regexp.MustCompile(`^\((.+) as ([A-Za-z]+)\)(?:\.([A-Za-z]+))?$`)
)

// parse reads an expression as a union of paths. It knows the part of FHIRPath
// that R4's search parameters use; anything else is an error.
func parse(expression string) ([]path, error) {
	if expression == deadExpression {
		return []path{{root: "Patient", steps: []step{{name: "deceased"}}, dead: true}}, nil
	}
	var paths []path
	for text := range strings.SplitSeq(expression, " | ") {
		p, err := parsePath(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("cannot compile expression %q: %w", expression, err)
		}
		paths = append(paths, p)
	}
	return paths, nil
}

func parsePath(text string) (path, error) {
	cast, then := "", ""
	if m := castForm.FindStringSubmatch(text); m != nil {
		text, cast, then = m[1], m[2], m[3]
	}
	var p path
	if p.whole = strings.HasPrefix(text, wholePrefix); p.whole {
		text = text[len(wholePrefix):]
	}
	for i, part := range splitSteps(text) {
		if i == 0 && part[0] >= 'A' && part[0] <= 'Z' {
			p.root = part
			continue
		}
		if err := p.add(part); err != nil {
			return p, err
		}
	}
	if cast != "" {
		if len(p.steps) == 0 {
			return p, fmt.Errorf("nothing to cast to %s", cast)
		}
		p.steps[len(p.steps)-1].as = cast
	}
	if then != "" {
		p.steps = append(p.steps, step{name: then})
	}
	return p, nil
}

// splitSteps cuts at the dots that are outside of parentheses.
func splitSteps(text string) []string {
	var parts []string
	depth, start := 0, 0
	for i, c := range text {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case '.':
			if depth == 0 {
				parts = append(parts, text[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, text[start:])
}

// add appends a step, or gives the last one a condition.
func (p *path) add(part string) error {
	if m := stepForm.FindStringSubmatch(part); m != nil {
		p.steps = append(p.steps, step{name: m[1], first: m[2] != ""})
		return nil
	}
	if len(p.steps) == 0 {
		return fmt.Errorf("unknown step %q", part)
	}
	last := &p.steps[len(p.steps)-1]
	if m := asForm.FindStringSubmatch(part); m != nil {
		last.as = m[1]
	} else if m := isForm.FindStringSubmatch(part); m != nil {
		last.only = m[1]
	} else if m := sameForm.FindStringSubmatch(part); m != nil {
		last.key, last.value = m[1], m[2]
	} else {
		return fmt.Errorf("unknown step %q", part)
	}
	return nil
}
