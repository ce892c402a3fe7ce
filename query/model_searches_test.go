package query

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"kiln/fhir"
)

func sortedKeys[V any](of map[string]V) []string { return slices.Sorted(maps.Keys(of)) }

// modelSearch is a search as an address has it, decoded.
type modelSearch struct {
	types      []string // none: of all types, or as _type says
	parameters []Parameter
}

func (s *modelSearch) String() string {
	var parts []string
	for _, p := range s.parameters {
		parts = append(parts, p.Name+"="+p.Value)
	}
	return strings.Join(s.types, ",") + "?" + strings.Join(parts, "&")
}

// pathTypes are the types in the address itself.
func (s *modelSearch) pathTypes() (types []fhir.TypeCode) {
	if len(s.types) == 1 {
		types = append(types, fhir.TypeByName([]byte(s.types[0])))
	}
	return types
}

// search makes a random search.
func (m *searchModel) search(o *oracle) *modelSearch {
	s := &modelSearch{}
	switch m.rng.IntN(8) {
	case 0:
	case 1:
		s.types = []string{oneOf(m.rng, modelTypes()...), oneOf(m.rng, modelTypes()...)}
		if s.types[0] == s.types[1] {
			s.types = s.types[:1]
		} else {
			s.parameters = append(s.parameters, Parameter{"_type", strings.Join(s.types, ",")})
		}
	default:
		s.types = []string{oneOf(m.rng, modelTypes()...)}
	}
	typ := "*"
	switch len(s.types) {
	case 1:
		typ = s.types[0]
	case 2:
		typ = severalTypes
	}
	for range oneOf(m.rng, 1, 1, 1, 2, 3) {
		s.parameters = append(s.parameters, m.condition(o, typ, 2))
	}
	m.rng.Shuffle(len(s.parameters), func(i, j int) { s.parameters[i], s.parameters[j] = s.parameters[j], s.parameters[i] })
	if m.rng.IntN(2) == 0 {
		m.addSort(o, s, typ)
	}
	return s
}

// severalTypes stands for more than one type: what refers to only some of them is
// refused in _has.
const severalTypes = "several"

// defsOf are the parameters of a type; "*": those of all types.
func (o *oracle) defsOf(typ string) (defs []*oracleDef) {
	for _, d := range o.defs {
		if d.typ == typ || d.typ == "*" {
			defs = append(defs, d)
		}
	}
	return defs
}

// condition makes a condition on resources of a type.
func (m *searchModel) condition(o *oracle, typ string, depth int) Parameter {
	switch m.rng.IntN(14) {
	case 0:
		return Parameter{"_id", m.list(m.id)}
	case 1:
		return m.updated(o)
	case 2:
		return Parameter{"_list", m.list(m.id)}
	case 3:
		return Parameter{oneOf(m.rng, "_id:missing", "_lastUpdated:missing"), oneOf(m.rng, "true", "false")}
	case 4, 5:
		if p, ok := m.reverse(o, typ, depth); ok {
			return p
		}
	case 6, 7:
		if p, ok := m.chain(o, typ, depth); ok {
			return p
		}
	}
	d := m.param(o, typ)
	modifier := m.modifier(d)
	if modifier == ":missing" {
		return Parameter{d.code + modifier, oneOf(m.rng, "true", "false")}
	}
	return Parameter{d.code + modifier, m.list(func() string { return m.value(o, d, modifier) })}
}

// param is a parameter of a type, of each kind as often as of any other.
func (m *searchModel) param(o *oracle, typ string) *oracleDef {
	kinds := map[string][]*oracleDef{}
	for _, d := range o.defsOf(typ) {
		kinds[d.kind] = append(kinds[d.kind], d)
	}
	return oneOf(m.rng, kinds[oneOf(m.rng, sortedKeys(kinds)...)]...)
}

// list makes one value, mostly, or several.
func (m *searchModel) list(value func() string) string {
	texts := []string{value()}
	for m.rng.IntN(4) == 0 {
		texts = append(texts, value())
	}
	return strings.Join(texts, ",")
}

func (m *searchModel) updated(o *oracle) Parameter {
	text := oneOf(m.rng, "2021", "2021-06-15", "2021-06", "2022", "2021-06-15T00:00Z", "2021-06-15T02:00+02:00")
	if len(o.all) > 0 && m.rng.IntN(3) > 0 {
		at := fhir.Instant{Milli: oneOf(m.rng, o.all...).milli, OffsetMinutes: oneOf(m.rng, int16(fhir.OffsetZ), 120, -330)}.String()
		text = oneOf(m.rng, at, at, strings.Replace(at, at[19:23], "", 1))
	}
	return Parameter{"_lastUpdated", m.list(func() string { return m.prefix() + text })}
}

func (m *searchModel) prefix() string {
	return oneOf(m.rng, "", "", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
}

// references are the parameters of a type that refer to resources.
func (o *oracle) references(typ string) (defs []*oracleDef) {
	for _, d := range o.defs {
		if d.kind == "reference" && d.typ == typ && d.paths[0].typ == "Reference" {
			defs = append(defs, d)
		}
	}
	return defs
}

// chain makes subject:Patient.name=eve or patient.name=eve.
func (m *searchModel) chain(o *oracle, typ string, depth int) (Parameter, bool) {
	defs := o.references(typ)
	if len(defs) == 0 || depth == 0 {
		return Parameter{}, false
	}
	d := oneOf(m.rng, defs...)
	targets := d.targets
	if len(targets) == 0 {
		targets = modelTypes()
	}
	target := oneOf(m.rng, targets...)
	if len(o.references(target)) == 0 && target != "PlanDefinition" {
		return Parameter{}, false
	}
	inner := m.condition(o, target, depth-1)
	name := d.code + ":" + target
	if len(d.targets) > 0 && m.rng.IntN(2) == 0 && m.chainsToAll(o, d, inner.Name) {
		name = d.code
	}
	return Parameter{name + "." + inner.Name, inner.Value}, true
}

// chainsToAll tells whether a chain that names no type means the same here and
// there: the oracle's table has only some types' parameters.
func (m *searchModel) chainsToAll(o *oracle, d *oracleDef, inner string) bool {
	if inner[0] == '_' {
		return !strings.HasPrefix(inner, "_has") || len(d.targets) == 1
	}
	head, tail, chained := strings.Cut(inner, ".")
	code, modifier, _ := strings.Cut(head, ":")
	first := ""
	for _, t := range d.targets {
		if def := o.def(t, code); def != nil {
			if first != "" && (first != def.kind || chained) {
				return false
			}
			first = def.kind
		}
	}
	if chained && modifier == "" && (tail == "" || len(d.targets) > 1) {
		return false // the inner parameter of a type that the table lacks may refer to any type
	}
	return first != "composite"
}

// reverse makes _has:Observation:patient:code=x.
func (m *searchModel) reverse(o *oracle, typ string, depth int) (Parameter, bool) {
	from := oneOf(m.rng, "Observation", "Encounter", "Patient", "ChargeItem", "Organization", "List")
	d := oneOf(m.rng, o.references(from)...)
	if depth == 0 || typ != "*" && len(d.targets) > 0 && !slices.Contains(d.targets, typ) {
		return Parameter{}, false
	}
	inner := m.condition(o, from, depth-1)
	return Parameter{"_has:" + from + ":" + d.code + ":" + inner.Name, inner.Value}, true
}

func (m *searchModel) modifier(d *oracleDef) string {
	if m.rng.IntN(8) == 0 {
		return ":missing"
	}
	switch d.kind {
	case "token":
		if d.paths[0].typ == "Identifier" && m.rng.IntN(4) == 0 {
			return ":of-type"
		}
		return oneOf(m.rng, "", "", "", ":not", ":text")
	case "string":
		return oneOf(m.rng, "", "", ":exact", ":contains")
	case "uri":
		return oneOf(m.rng, "", ":below", ":above")
	case "reference":
		if d.paths[0].typ != "Reference" {
			return ""
		}
		targets := slices.Clone(d.targets[:min(1, len(d.targets))])
		for _, t := range d.targets {
			if slices.Contains(modelTypes(), t) {
				targets = append(targets, t, t)
			}
		}
		if len(targets) == 0 || strings.Contains(d.paths[0].steps, "@") {
			targets = []string{"Patient"}
		}
		return oneOf(m.rng, "", "", "", ":identifier", ":"+oneOf(m.rng, targets...))
	}
	return ""
}

// sample is a value that a resource has, and its data type; nil when the
// resource that chance points at has none.
func (m *searchModel) sample(o *oracle, d *oracleDef) (value any, typ string) {
	path := oneOf(m.rng, d.paths...)
	var nodes []any
	for _, v := range o.all {
		if v.typ == d.typ || d.typ == "*" {
			nodes = append(nodes, v.tree)
		}
	}
	if len(nodes) > 0 {
		nodes = []any{oneOf(m.rng, nodes...), oneOf(m.rng, nodes...), oneOf(m.rng, nodes...)}
	}
	return m.sampleOf(nodes, path), path.typ
}

func (m *searchModel) sampleOf(nodes []any, path oraclePath) any {
	steps, _, _ := strings.Cut(path.steps, "@")
	if values := pick(nodes, steps); len(values) > 0 && m.rng.IntN(4) > 0 {
		return oneOf(m.rng, values...)
	}
	return nil
}

// value makes a value to search for, mostly near one that is there.
func (m *searchModel) value(o *oracle, d *oracleDef, modifier string) string {
	if d.kind == "composite" {
		return m.compositeValue(o, d)
	}
	value, typ := m.sample(o, d)
	return m.near(d, modifier, typ, value)
}

// compositeValue makes a$b, mostly of one group of a resource.
func (m *searchModel) compositeValue(o *oracle, d *oracleDef) string {
	var groups []any
	for _, v := range o.all {
		if v.typ == d.typ {
			groups = append(groups, pickGroup(v.tree, oneOf(m.rng, d.groups...))...)
		}
	}
	if len(groups) > 0 {
		groups = []any{oneOf(m.rng, groups...)}
	}
	var parts []string
	for i := range d.components {
		path := oneOf(m.rng, d.components[i].paths...)
		parts = append(parts, m.near(&d.components[i], "", path.typ, m.sampleOf(groups, path)))
	}
	return strings.Join(parts, "$")
}

// near makes a value near one of a resource; nil: near what resources have.
func (m *searchModel) near(d *oracleDef, modifier, typ string, value any) string {
	switch d.kind {
	case "token":
		return m.token(modifier, typ, value)
	case "string":
		text := oneOf(m.rng, modelTexts()...)
		if value != nil {
			if all := stringsOf(typ, value); len(all) > 0 {
				text = oneOf(m.rng, all...)
			}
		}
		return m.text(modifier, text)
	case "uri":
		text := oneOf(m.rng, modelURIs()...)
		if value != nil && m.rng.IntN(2) == 0 {
			text = value.(string)
		}
		return escape(text)
	case "reference":
		return m.referenceValue(d, modifier, typ, value)
	case "date":
		return m.prefix() + m.date10(value)
	}
	return m.amountNear(d, value)
}

// amountNear is a number that is there, or one beside it, with a unit.
func (m *searchModel) amountNear(d *oracleDef, value any) string {
	text := oneOf(m.rng, modelNumbers()...)
	number, ok := value.(json.Number)
	if numbers := append(pick(value, "value"), pick(value, "low.value")...); len(numbers) > 0 {
		number, ok = numbers[0].(json.Number)
	}
	if ok {
		text = string(number)
	}
	switch m.rng.IntN(5) {
	case 0:
		r, _ := new(big.Rat).SetString(text)
		text = r.FloatString(m.rng.IntN(4))
	case 1:
		text = fmt.Sprint(m.rng.IntN(130) - 15)
	}
	text = m.prefix() + text
	if d.kind == "quantity" {
		text += oneOf(m.rng, "", "", "", "|http://u|mg", "|http://u|mg", "||mg", "||mg", "||milligram", "|http://u|", "|http://v|g", "||", "|urn:iso:std:iso:4217|EUR", "||EUR")
	}
	return text
}

// date10 is a date that may be cut short.
func (m *searchModel) date10(value any) string {
	text := oneOf(m.rng, modelDates()...)
	ends := append(append(pick(value, "start"), pick(value, "end")...), pick(value, "event")...)
	if whole, ok := value.(string); ok {
		ends = []any{whole}
	}
	if len(ends) > 0 {
		text = oneOf(m.rng, ends...).(string)
	}
	if m.rng.IntN(3) == 0 {
		text = text[:min(len(text), oneOf(m.rng, 4, 7, 10))]
	}
	return text
}

// escape puts a backslash in front of what parts values.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `|`, `\|`, `$`, `\$`).Replace(text)
}

// text is a text or a part of it, in some case.
func (m *searchModel) text(modifier, text string) string {
	runes := []rune(text)
	if modifier != ":exact" || m.rng.IntN(3) == 0 {
		from := 0
		if modifier == ":contains" {
			from = m.rng.IntN(len(runes))
		}
		runes = runes[from : from+1+m.rng.IntN(len(runes)-from)]
	}
	text = string(runes)
	if modifier != ":exact" {
		text = oneOf(m.rng, text, strings.ToUpper(text), strings.ToLower(text))
	}
	return escape(text)
}

// token makes code, system|code, |code or system|.
func (m *searchModel) token(modifier, typ string, value any) string {
	codes, texts := []coded{{oneOf(m.rng, modelSystems()...), oneOf(m.rng, modelCodes()...)}}, modelTexts()
	if value != nil {
		if of, textsOf := oracleCodes(typ, value); len(of) > 0 {
			codes = of
			texts = append(texts[:5], textsOf...)
		}
	}
	c := oneOf(m.rng, codes...)
	system, code := escape(c.system), escape(c.code)
	hasSystem := typ == "Coding" || typ == "CodeableConcept" || typ == "Identifier"
	switch {
	case modifier == ":text":
		return m.text("", oneOf(m.rng, texts...))
	case modifier == ":of-type":
		return m.ofType(value)
	case code == "" && (system == "" || !hasSystem):
		return "none"
	case code == "":
		return system + "|"
	case !hasSystem:
		return code
	case system != "" && m.rng.IntN(4) == 0:
		return system + "|"
	}
	return oneOf(m.rng, code, code, system+"|"+code, "|"+code)
}

func (m *searchModel) ofType(v any) string {
	system, code, value := oneOf(m.rng, modelSystems()...), oneOf(m.rng, modelCodes()...), oneOf(m.rng, modelCodes()...)
	if types := pick(v, "type.coding"); len(types) > 0 && member(types[0], "code") != "" && member(v, "value") != "" {
		system, code, value = member(types[0], "system"), member(types[0], "code"), member(v, "value")
	}
	return escape(system) + "|" + escape(code) + "|" + escape(value)
}

func (m *searchModel) referenceValue(d *oracleDef, modifier, typ string, value any) string {
	text := m.referenceText(m.referredTypes(d)...)
	if there := member(value, "reference"); there != "" {
		text = there
	}
	r, parsed := parseOracleReference(text)
	switch {
	case modifier == ":identifier":
		c := coded{oneOf(m.rng, modelSystems()...), oneOf(m.rng, modelCodes()...)}
		if of, _ := oracleCodes("Identifier", first(pick(value, "identifier"))); len(of) > 0 && of[0].code != "" {
			c = of[0]
		}
		return oneOf(m.rng, escape(c.code), escape(c.system)+"|"+escape(c.code), "|"+escape(c.code), "http://s|")
	case typ != "Reference":
		text = oneOf(m.rng, modelCanonicals()...)
		return strings.ReplaceAll(oneOf(m.rng, text, strings.Split(text, "|")[0]), ",", `\,`)
	case modifier != "":
		id := m.id()
		if parsed {
			id = r.id
		}
		return oneOf(m.rng, id, modifier[1:]+"/"+id)
	case !parsed:
		return escape(text)
	}
	plain := r.typ + "/" + r.id
	return escape(oneOf(m.rng, text, plain, plain, r.id, modelBase+"/"+plain, plain+"/_history/1", modelBase+"/"+plain+"/_history/1", "http://other/fhir/"+plain))
}

// referredTypes are types that a parameter can refer to.
func (m *searchModel) referredTypes(d *oracleDef) []string {
	if len(d.targets) == 0 {
		return modelTypes()
	}
	return d.targets
}

// include makes one _include or _revinclude.
func (m *searchModel) include(o *oracle) oracleInclude {
	in := oracleInclude{reverse: m.rng.IntN(2) == 0, iterate: m.rng.IntN(3) == 0, from: oneOf(m.rng, "Patient", "Observation", "Encounter", "List", "Organization", "ChargeItem")}
	in.code = oneOf(m.rng, o.references(in.from)...).code
	if m.rng.IntN(5) == 0 {
		in.code = "*"
	}
	if m.rng.IntN(3) == 0 {
		in.to = oneOf(m.rng, "Patient", "Observation", "Organization")
	}
	return in
}

func (in *oracleInclude) parameter() Parameter {
	name, value := "_include", in.from+":"+in.code
	if in.reverse {
		name = "_revinclude"
	}
	if in.iterate {
		name += ":iterate"
	}
	if in.to != "" {
		value += ":" + in.to
	}
	return Parameter{name, value}
}

// addSort adds _sort with one to three keys.
func (m *searchModel) addSort(o *oracle, s *modelSearch, typ string) {
	var keys []string
	for range 1 + m.rng.IntN(3) {
		code := "_lastUpdated"
		if m.rng.IntN(6) > 0 {
			d := oneOf(m.rng, o.defsOf(typ)...)
			if d.kind == "composite" || d.kind == "reference" {
				continue
			}
			code = d.code
		}
		keys = append(keys, oneOf(m.rng, "", "-")+code)
	}
	if len(keys) > 0 {
		s.parameters = append(s.parameters, Parameter{"_sort", strings.Join(keys, ",")})
	}
}
