package index

import (
	"regexp"
	"strings"
)

// The functions here evaluate the expressions of search parameters on generic
// JSON, slowly and without the tables of package search: they are what the
// extractor is compared with.

// node is a JSON value, with its data type when the name of its member told it:
// "Quantity" for valueQuantity.
type node struct {
	value any
	typ   string
}

// choiceTypes are the data types that end the names of choices.
var choiceTypes = strings.Fields(`Boolean Integer String Decimal Uri Url Canonical Instant Date DateTime Time Code Id Markdown
	PositiveInt UnsignedInt Age Attachment CodeableConcept Coding ContactPoint Duration HumanName Identifier Money Period
	Quantity Range Ratio Reference SampledData Timing Address`)

// members are the values of a member, arrays taken apart.
func (n node) members(name string) []node {
	object, ok := n.value.(map[string]any)
	if !ok {
		return nil
	}
	if v, ok := object[name]; ok {
		return flat(v, "")
	}
	var found []node
	for _, t := range choiceTypes {
		if v, ok := object[name+t]; ok {
			found = append(found, flat(v, t)...)
		}
	}
	return found
}

func flat(v any, typ string) []node {
	array, ok := v.([]any)
	if !ok {
		if v == nil {
			return nil
		}
		return []node{{v, typ}}
	}
	var all []node
	for _, e := range array {
		all = append(all, flat(e, typ)...)
	}
	return all
}

// text is a member that is a string.
func (n node) text(name string) string {
	if object, ok := n.value.(map[string]any); ok {
		s, _ := object[name].(string)
		return s
	}
	return ""
}

var (
	castSuffix  = regexp.MustCompile(`^\((.*) as ([A-Za-z]+)\)((?:\..+)?)$`)
	whereSystem = regexp.MustCompile(`^where\(([a-z]+)='(.*)'\)$`)
	whereType   = regexp.MustCompile(`^where\(resolve\(\) is ([A-Za-z]+)\)$`)
	castStep    = regexp.MustCompile(`^as\(([A-Za-z]+)\)$`)
)

// evaluate gives the nodes of an expression at context; root is the resource.
func evaluate(expression string, context, root node) []node {
	expression = strings.TrimSpace(expression)
	if alternatives := splitOutside(expression, " | "); len(alternatives) > 1 {
		var all []node
		for _, a := range alternatives {
			all = append(all, evaluate(a, context, root)...)
		}
		return all
	}
	if left, right, ok := strings.Cut(expression, " and "); ok {
		return []node{{value: truth(evaluate(left, context, root)) && truth(evaluate(right, context, root))}}
	}
	if left, right, ok := strings.Cut(expression, " != "); ok {
		nodes := evaluate(left, context, root)
		if len(nodes) == 0 {
			return nil
		}
		return []node{{value: nodes[0].value != (right == "true")}}
	}
	if m := castSuffix.FindStringSubmatch(expression); m != nil {
		nodes := cast(evaluate(m[1], context, root), m[2])
		return follow(nodes, splitOutside(strings.TrimPrefix(m[3], "."), "."))
	}
	steps := splitOutside(expression, ".")
	if steps[0] == "%resource" {
		context, steps = root, steps[1:]
	} else if steps[0][0] >= 'A' && steps[0][0] <= 'Z' {
		if name := root.text("resourceType"); steps[0] != name && steps[0] != "Resource" && steps[0] != "DomainResource" {
			return nil
		}
		context, steps = root, steps[1:]
	}
	return follow([]node{context}, steps)
}

func truth(nodes []node) bool { return len(nodes) == 1 && nodes[0].value == true }

func follow(nodes []node, steps []string) []node {
	for _, step := range steps {
		if step != "" {
			nodes = takeStep(nodes, step)
		}
	}
	return nodes
}

func takeStep(nodes []node, step string) []node {
	var next []node
	if m := castStep.FindStringSubmatch(step); m != nil {
		return cast(nodes, m[1])
	}
	if step == "exists()" {
		return []node{{value: len(nodes) > 0}}
	}
	for _, n := range nodes {
		if m := whereSystem.FindStringSubmatch(step); m != nil {
			if n.text(m[1]) == m[2] {
				next = append(next, n)
			}
		} else if m := whereType.FindStringSubmatch(step); m != nil {
			form := regexp.MustCompile(`^([a-z]+://.*/)?` + m[1] + `/[A-Za-z0-9.-]{1,64}(/_history/[A-Za-z0-9.-]{1,64})?$`)
			if form.MatchString(n.text("reference")) {
				next = append(next, node{map[string]any{"reference": n.text("reference")}, n.typ})
			}
		} else {
			next = append(next, n.members(strings.TrimSuffix(step, "[0]"))...)
		}
	}
	if strings.HasSuffix(step, "[0]") && len(next) > 1 {
		next = next[:1]
	}
	return next
}

func cast(nodes []node, typ string) []node {
	var kept []node
	for _, n := range nodes {
		if strings.EqualFold(n.typ, typ) {
			kept = append(kept, n)
		}
	}
	return kept
}

// splitOutside cuts at separators that are outside of parentheses.
func splitOutside(text, separator string) []string {
	var parts []string
	depth, start := 0, 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '(':
			depth++
		case text[i] == ')':
			depth--
		case depth == 0 && strings.HasPrefix(text[i:], separator):
			parts = append(parts, text[start:i])
			start = i + len(separator)
		}
	}
	return append(parts, text[start:])
}
