package query

import (
	"slices"
	"strings"
	"time"
)

// oracle answers searches by R4's search.html, slowly: it reads decoded JSON,
// resource by resource, and knows nothing of terms, walks and sets.
type oracle struct {
	base string
	now  time.Time
	all  []*modelVersion // what a search may find, in the store's order
	defs []*oracleDef
}

// find gives what the conditions of a search choose, in the store's order.
func (o *oracle) find(types []string, parameters []Parameter) (found []*modelVersion) {
	for _, v := range o.all {
		fits := len(types) == 0 || slices.Contains(types, v.typ)
		for _, p := range parameters {
			fits = fits && (isControl(p.Name) || o.matches(v, p.Name, p.Value))
		}
		if fits {
			found = append(found, v)
		}
	}
	return found
}

func isControl(name string) bool {
	return name == "_sort" || name == "_type" || name == "_count" || strings.HasPrefix(name, "_include") || strings.HasPrefix(name, "_revinclude")
}

func (o *oracle) def(typ, code string) *oracleDef {
	for _, d := range o.defs {
		if d.code == code && (d.typ == typ || d.typ == "*") {
			return d
		}
	}
	return nil
}

// knows tells whether a type has the parameter that a condition begins with.
func (o *oracle) knows(typ, name string) bool {
	head, _, _ := strings.Cut(name, ".")
	code, _, _ := strings.Cut(head, ":")
	return code == "_has" || code == "_id" || code == "_list" || code == "_lastUpdated" || o.def(typ, code) != nil
}

// matches tells whether a resource is as one condition says.
func (o *oracle) matches(v *modelVersion, name, value string) bool {
	if rest, ok := strings.CutPrefix(name, "_has:"); ok {
		return v.in == nil && o.matchesReverse(v, rest, value)
	}
	head, tail, chained := strings.Cut(name, ".")
	code, modifier, _ := strings.Cut(head, ":")
	switch {
	case chained:
		return o.matchesChain(v, o.def(v.typ, code), modifier, tail, value)
	case code == "_id":
		return modifier == "missing" && value == "false" || slices.Contains(strings.Split(value, ","), v.id)
	case code == "_list":
		return v.in == nil && o.isListed(v, value)
	case code == "_lastUpdated" && modifier == "missing":
		return value == "false"
	case code == "_lastUpdated" && v.in != nil:
		return false
	}
	d := o.def(v.typ, code)
	if modifier == "missing" {
		return o.isMissing(v, d) == (value == "true")
	}
	any := false
	for _, text := range oracleSplit(value, ',') {
		any = any || o.matchesOne(v, d, code, strings.TrimPrefix(modifier, "not"), text)
	}
	return any != (modifier == "not")
}

// matchesOne tells whether a resource has one value of a list.
func (o *oracle) matchesOne(v *modelVersion, d *oracleDef, code, modifier, text string) bool {
	switch {
	case code == "_lastUpdated":
		return o.matchesSpan(span{v.milli, v.milli}, text)
	case d.kind == "composite":
		return o.matchesComposite(v, d, text)
	}
	return o.matchesAny(v.tree, d, modifier, text)
}

// matchesAny tells whether one of a parameter's values below a node matches.
func (o *oracle) matchesAny(node any, d *oracleDef, modifier, text string) bool {
	for _, path := range d.paths {
		steps := path.steps
		if modifier == "identifier" {
			// What an identifier alone refers to has no type to judge: patient:identifier
			// takes it for a patient.
			steps, _, _ = strings.Cut(steps, "@")
		}
		for _, value := range pick(node, steps) {
			if o.matchesValue(d, path.typ, modifier, value, text) {
				return true
			}
		}
	}
	return false
}

func (o *oracle) matchesValue(d *oracleDef, typ, modifier string, value any, text string) bool {
	switch d.kind {
	case "token":
		return matchesToken(typ, modifier, value, text)
	case "string":
		return matchesString(typ, modifier, value, text)
	case "reference":
		return o.matchesReference(d, modifier, value, text)
	case "date":
		s, ok := spanOf(typ, value)
		return ok && o.matchesSpan(s, text)
	case "number":
		return matchesNumber(typ, value, text)
	case "quantity":
		return matchesQuantity(typ, value, text)
	case "uri":
		return matchesURI(modifier, value.(string), unescape(text))
	}
	panic("no such kind: " + d.kind)
}

func (o *oracle) isMissing(v *modelVersion, d *oracleDef) bool {
	if d.kind == "composite" {
		for _, group := range d.groups {
			for _, node := range pickGroup(v.tree, group) {
				all := true
				for i := range d.components {
					all = all && hasValue(node, &d.components[i], true)
				}
				if all {
					return false
				}
			}
		}
		return true
	}
	return !hasValue(v.tree, d, false)
}

// hasValue tells whether there is any value; of the tokens in composites only
// codes count, since texts cannot be asked for there.
func hasValue(node any, d *oracleDef, composite bool) bool {
	for _, path := range d.paths {
		for _, value := range pick(node, path.steps) {
			if composite && d.kind == "token" {
				if codes, _ := oracleCodes(path.typ, value); len(codes) == 0 {
					continue
				}
			}
			if isValue(d.kind, path.typ, value) {
				return true
			}
		}
	}
	return false
}

// isValue tells whether an element says anything that its kind of search sees.
func isValue(kind, typ string, value any) bool {
	switch kind {
	case "date":
		_, ok := spanOf(typ, value)
		return ok
	case "number", "quantity":
		_, ok := amountOf(typ, value)
		return ok
	case "token":
		codes, texts := oracleCodes(typ, value)
		return len(codes)+len(texts) > 0
	case "string":
		return len(stringsOf(typ, value)) > 0
	case "reference":
		codes, _ := oracleCodes("Identifier", first(pick(value, "identifier")))
		return typ != "Reference" || member(value, "reference") != "" || len(codes) > 0
	}
	return true
}

func first(values []any) any {
	if len(values) == 0 {
		return nil
	}
	return values[0]
}

// matchesComposite tells whether one group has all components as text says.
func (o *oracle) matchesComposite(v *modelVersion, d *oracleDef, text string) bool {
	texts := oracleSplit(text, '$')
	for _, group := range d.groups {
		for _, node := range pickGroup(v.tree, group) {
			all := true
			for i := range d.components {
				all = all && o.matchesAny(node, &d.components[i], "", texts[i])
			}
			if all {
				return true
			}
		}
	}
	return false
}

func pickGroup(tree map[string]any, group string) []any {
	if group == "." {
		return []any{tree}
	}
	return pick(tree, group)
}

// matchesChain tells whether a resource refers to one that is as the tail says.
func (o *oracle) matchesChain(v *modelVersion, d *oracleDef, modifier, tail, value string) bool {
	for _, w := range o.all {
		fits := modifier == w.typ || modifier == "" && (len(d.targets) == 0 || slices.Contains(d.targets, w.typ))
		if fits && o.knows(w.typ, tail) && o.refersTo(v, d, w) && o.matches(w, tail, value) {
			return true
		}
	}
	container := v
	if v.in != nil {
		container = v.in
	}
	for _, w := range inside(container) {
		fits := modifier == w.typ || modifier == "" && (len(d.targets) == 0 || slices.Contains(d.targets, w.typ))
		if fits && o.knows(w.typ, tail) && refersInside(v, d, w) && o.matches(w, tail, value) {
			return true
		}
	}
	return false
}

// refersInside tells whether one of a parameter's references in v is to the contained
// resource w.
func refersInside(v *modelVersion, d *oracleDef, w *modelVersion) bool {
	for _, path := range d.paths {
		steps, typ, typed := strings.Cut(path.steps, "@")
		for _, value := range pick(v.tree, steps) {
			if path.typ == "Reference" && (!typed || typ == w.typ) && member(value, "reference") == "#"+w.id {
				return true
			}
		}
	}
	return false
}

// matchesReverse tells whether one that is as the end of "Type:param:end" says
// refers to the resource.
func (o *oracle) matchesReverse(v *modelVersion, rest, value string) bool {
	parts := strings.SplitN(rest, ":", 3)
	for _, w := range o.all {
		if w.typ == parts[0] && o.refersTo(w, o.def(w.typ, parts[1]), v) && o.matches(w, parts[2], value) {
			return true
		}
	}
	return false
}

// refersTo tells whether one of a parameter's references in v is to w.
func (o *oracle) refersTo(v *modelVersion, d *oracleDef, w *modelVersion) bool {
	for _, path := range d.paths {
		for _, value := range pick(v.tree, path.steps) {
			if path.typ == "Reference" && o.isReferenceTo(value, w.typ, w.id) {
				return true
			}
		}
	}
	return false
}

// inCompartment tells whether a resource is in the compartment of a Patient.
func (o *oracle) inCompartment(v *modelVersion, patient string) bool {
	params := map[string]string{
		"Observation": "subject performer", "Encounter": "patient", "RiskAssessment": "subject", "ChargeItem": "subject", "Patient": "link",
	}[v.typ]
	for _, code := range strings.Fields(params) {
		for _, path := range o.def(v.typ, code).paths {
			for _, value := range pick(v.tree, path.steps) {
				if o.isReferenceTo(value, "Patient", patient) {
					return true
				}
			}
		}
	}
	return false
}

// include is _include or _revinclude=from:code, :from:code:to, from:*, with or
// without :iterate.
type oracleInclude struct {
	reverse, iterate bool
	from, code, to   string
}

// bring gives what includes bring along to matches, sorted.
func (o *oracle) bring(found []*modelVersion, includes []oracleInclude) (brought []*modelVersion) {
	there := map[*modelVersion]bool{}
	for _, v := range found {
		there[v] = true
	}
	follow := func(from []*modelVersion, iterate bool) (fresh []*modelVersion) {
		for _, in := range includes {
			for _, v := range o.all {
				if (in.iterate || !iterate) && !there[v] && o.isBrought(v, in, from) {
					there[v] = true
					fresh = append(fresh, v)
				}
			}
		}
		return fresh
	}
	for fresh := follow(found, false); len(fresh) > 0; fresh = follow(fresh, true) {
		brought = append(brought, fresh...)
	}
	return brought
}

// isBrought tells whether an include brings v along to some resources.
func (o *oracle) isBrought(v *modelVersion, in oracleInclude, to []*modelVersion) bool {
	for _, w := range to {
		referrer, referred := w, v
		if in.reverse {
			referrer, referred = v, w
		}
		if referrer.typ != in.from || in.to != "" && in.to != referred.typ {
			continue
		}
		for _, d := range o.references(in.from) {
			if (in.code == "*" || in.code == d.code) && o.refersTo(referrer, d, referred) {
				return true
			}
		}
	}
	return false
}

func (o *oracle) isListed(v *modelVersion, lists string) bool {
	for _, w := range o.all {
		if w.typ == "List" && slices.Contains(strings.Split(lists, ","), w.id) && o.refersTo(w, o.def("List", "item"), v) {
			return true
		}
	}
	return false
}

// pick gives the values at the end of a path, arrays taken apart.
func pick(node any, path string) (values []any) {
	if array, ok := node.([]any); ok {
		for _, element := range array {
			values = append(values, pick(element, path)...)
		}
		return values
	}
	if path == "" {
		return []any{node}
	}
	object, ok := node.(map[string]any)
	if !ok {
		return nil
	}
	step, rest, _ := strings.Cut(path, ".")
	step, filter, _ := strings.Cut(strings.TrimSuffix(step, "]"), "[")
	step, typ, _ := strings.Cut(step, "@")
	child, ok := object[step]
	if !ok {
		return nil
	}
	for _, element := range pick(child, "") {
		if fitsFilter(element, filter) && (typ == "" || referenceType(element) == typ) {
			values = append(values, pick(element, rest)...)
		}
	}
	return values
}

// fitsFilter tells whether a member has the value that "member=value" says.
func fitsFilter(element any, filter string) bool {
	if filter == "" {
		return true
	}
	member, want, _ := strings.Cut(filter, "=")
	object, _ := element.(map[string]any)
	return object[member] == want
}

// oracleSplit splits at separators without a backslash in front.
func oracleSplit(text string, separator byte) []string {
	parts, escaped := []string{""}, false
	for _, c := range []byte(text) {
		if c == separator && !escaped {
			parts = append(parts, "")
			continue
		}
		escaped = c == '\\' && !escaped
		parts[len(parts)-1] += string([]byte{c})
	}
	return parts
}

// unescape takes the backslashes in front of "$", ",", "|" and "\" away.
func unescape(text string) string {
	return strings.NewReplacer(`\\`, `\`, `\,`, `,`, `\|`, `|`, `\$`, `$`).Replace(text)
}
