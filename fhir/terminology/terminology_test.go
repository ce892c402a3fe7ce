package terminology

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"kiln/fhir"
)

// stored makes a library of resources that are written short: without quotes around
// keys, and with single quotes for double ones.
func stored(t *testing.T, texts ...string) *library {
	t.Helper()
	l := newLibrary()
	for _, text := range texts {
		l.add(t, []byte(strings.ReplaceAll(text, "'", `"`)))
	}
	return l
}

// animals is a code system with a hierarchy: a bat is a mammal and, by a property,
// something that flies.
const animals = `{'resourceType':'CodeSystem','id':'animals','url':'urn:a','content':'complete','hierarchyMeaning':'is-a','status':'active',
	'property':[{'code':'parent','uri':'http://hl7.org/fhir/concept-properties#parent','type':'code'},{'code':'legs','type':'integer'},
		{'code':'ns','uri':'http://hl7.org/fhir/concept-properties#notSelectable','type':'boolean'},{'code':'inactive','type':'boolean'},{'code':'weight','type':'decimal'}],
	'concept':[
		{'code':'animal','property':[{'code':'ns','valueBoolean':true}],'concept':[
			{'code':'mammal','concept':[
				{'code':'dog','property':[{'code':'legs','valueInteger':4}]},
				{'code':'bat','property':[{'code':'legs','valueInteger':2},{'code':'parent','valueCode':'flier'}]}]},
			{'code':'dodo','property':[{'code':'inactive','valueBoolean':true},{'code':'legs','valueInteger':2}]},
			{'code':'flier'}]},
		{'code':'rock'}]}`

// flat is a code system without a hierarchy.
const flat = `{'resourceType':'CodeSystem','id':'flat','url':'urn:f','content':'complete','status':'active','concept':[{'code':'1'},{'code':'2'}]}`

// ask words the codes of a set, or why there are none.
func ask(set *Set, err error) string {
	var reason *Error
	if errors.As(err, &reason) {
		return fmt.Sprint([]string{"unknown: ", "not supported: ", "too large: "}[reason.Kind], reason.Text)
	}
	if err != nil {
		return "error: " + err.Error()
	}
	var all []string
	for _, c := range set.Codes() {
		all = append(all, strings.TrimPrefix(c.System, "urn:")+"|"+c.Code)
	}
	return strings.Join(all, " ")
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want && (want == "" || !strings.Contains(got, ": ") || !strings.Contains(got, want)) {
		t.Errorf("%s\n  gives %s\n  want  %s", what, got, want)
	}
}

func TestDefinitions(t *testing.T) {
	f := func(compose, want string) {
		t.Helper()
		l := stored(t, animals, flat,
			`{'resourceType':'ValueSet','id':'v','url':'urn:v','compose':`+compose+`}`,
			`{'resourceType':'ValueSet','id':'pets','url':'urn:pets','compose':{'include':[{'system':'urn:a','concept':[{'code':'dog'},{'code':'rock'}]},{'system':'urn:f','concept':[{'code':'1'}]}]}}`,
			`{'resourceType':'ValueSet','id':'again','url':'urn:again','compose':{'include':[{'valueSet':['urn:v']}]}}`)
		expect(t, compose, ask(NewExpander(context.Background(), l).ValueSet("urn:v")), want)
	}
	filter := func(property, op, value, want string) {
		t.Helper()
		f(`{'include':[{'system':'urn:a','filter':[{'property':'`+property+`','op':'`+op+`','value':'`+value+`'}]}]}`, want)
	}
	f(`{'include':[{'system':'urn:x','concept':[{'code':'b'},{'code':'a\u0062','display':'x'}]}]}`, "x|ab x|b")
	f(`{'include':[{'system':'urn:f'}]}`, "f|1 f|2")
	f(`{'include':[{'system':'urn:a'}]}`, "a|bat a|dodo a|dog a|flier a|mammal a|rock")
	f(`{'include':[{'system':'urn:x'}]}`, "not supported: No CodeSystem 'urn:x' is stored here")
	f(`{'inactive':false,'include':[{'system':'urn:a'}]}`, "a|bat a|dog a|flier a|mammal a|rock")
	f(`{'inactive':false,'include':[{'system':'urn:x','concept':[{'code':'a'}]}]}`, "not supported: No CodeSystem 'urn:x'")
	f(`{'include':[{'system':'urn:a','version':'2','filter':[{'property':'concept','op':'=','value':'dog'}]}]}`, "not supported: No CodeSystem 'urn:a|2'")

	f(`{'include':[{'valueSet':['urn:pets']}]}`, "a|dog a|rock f|1")
	f(`{'include':[{'system':'urn:a','valueSet':['urn:pets']}]}`, "a|dog a|rock")
	f(`{'include':[{'system':'urn:a','filter':[{'property':'concept','op':'is-a','value':'mammal'}],'valueSet':['urn:pets']}]}`, "a|dog")
	f(`{'include':[{'system':'urn:a'}],'exclude':[{'valueSet':['urn:pets']},{'system':'urn:a','filter':[{'property':'concept','op':'is-a','value':'bat'}]}]}`, "a|dodo a|flier a|mammal")
	f(`{'include':[{'valueSet':['urn:pets']}],'exclude':[{'system':'urn:f'}]}`, "a|dog a|rock")
	f(`{'include':[{'system':'urn:a','concept':[{'code':'animal'},{'code':'dog'}]}]}`, "a|animal a|dog")
	f(`{'include':[{'system':'urn:a','concept':[{'code':'animal'},{'code':'rock'}]}],'exclude':[{'system':'urn:a','filter':[{'property':'concept','op':'is-a','value':'animal'}]}]}`, "a|rock")
	f(`{'include':[{'valueSet':['urn:nowhere']}]}`, "unknown: No ValueSet 'urn:nowhere' is stored here")
	f(`{'include':[{'valueSet':['urn:again']}]}`, "not supported: The stored ValueSet/v is made of itself")
	f(`{'include':[{'valueSet':['#inside']}]}`, "not supported: A ValueSet includes what is contained in it")
	f(`{'lockedDate':'2020-01-01','include':[{'system':'urn:f'}]}`, "not supported: The stored ValueSet/v has a lockedDate")
	f(`{'lockedDate':'2020-01-01','include':[{'system':'urn:f','concept':[{'code':'9'}]}]}`, "f|9")

	filter("concept", "is-a", "mammal", "a|bat a|dog a|mammal")
	filter("concept", "is-a", "flier", "a|bat a|flier")
	filter("concept", "descendent-of", "animal", "a|bat a|dodo a|dog a|flier a|mammal")
	filter("concept", "is-not-a", "animal", "a|rock")
	filter("concept", "generalizes", "bat", "a|bat a|flier a|mammal")
	filter("code", "in", "dog, rock,none", "a|dog a|rock")
	filter("concept", "not-in", "dog,rock", "a|bat a|dodo a|flier a|mammal")
	filter("concept", "is-a", "cat", "unknown: The stored CodeSystem/animals has no code 'cat'")
	filter("concept", "regex", "d.*", "not supported: The filter 'concept regex'")
	filter("parent", "=", "flier", "a|bat")
	filter("parent", "exists", "false", "a|rock")
	filter("legs", "=", "2", "a|bat a|dodo")
	filter("legs", "in", "2,4", "a|bat a|dodo a|dog")
	filter("legs", "exists", "false", "a|flier a|mammal a|rock")
	filter("inactive", "=", "false", "a|bat a|dog a|flier a|mammal a|rock")
	filter("inactive", "=", "true", "a|dodo")
	filter("colour", "=", "red", "not supported: The filter 'colour ='")
	f(`{'include':[{'system':'urn:f','filter':[{'property':'concept','op':'is-a','value':'1'}]}]}`, "not supported: The stored CodeSystem/flat does not say that a concept is what it is nested in")
}

func TestExpansions(t *testing.T) {
	f := func(expansion, want string) {
		t.Helper()
		l := stored(t, `{'resourceType':'ValueSet','id':'v','url':'urn:v','expansion':`+expansion+`}`)
		expect(t, expansion, ask(NewExpander(context.Background(), l).ValueSetByID("v")), want)
	}
	contains := `'contains':[{'system':'urn:a','code':'1','contains':[{'system':'urn:a','code':'2'}]},{'abstract':true,'display':'x','contains':[{'system':'urn:b','code':'1'}]},{'system':'urn:a','code':'3','abstract':true}]`
	f(`{`+contains+`}`, "a|1 a|2 b|1")
	f(`{'total':5,`+contains+`}`, "a|1 a|2 b|1")
	f(`{'total':3,`+contains+`}`, "a|1 a|2 b|1")
	f(`{'total':6,`+contains+`}`, "may lack codes: its total is more than the codes it has")
	f(`{'total':5,'offset':1,`+contains+`}`, "may lack codes: it does not begin with the first code")
	f(`{'extension':[{'url':'http://hl7.org/fhir/StructureDefinition/valueset-unclosed','valueBoolean':true}],`+contains+`}`, "may lack codes: it says that there are more codes")
	f(`{'extension':[{'url':'http://hl7.org/fhir/StructureDefinition/valueset-unclosed','valueBoolean':false}],`+contains+`}`, "a|1 a|2 b|1")
	f(`{'parameter':[{'name':'filter','valueString':'x'}],`+contains+`}`, "may lack codes: it was made with the parameter 'filter'")
	f(`{'parameter':[{'name':'count','valueInteger':5}],`+contains+`}`, "may lack codes: it is a page, and has no total")
	f(`{'parameter':[{'name':'count','valueInteger':5},{'name':'excludeNested','valueBoolean':false}],'total':5,`+contains+`}`, "a|1 a|2 b|1")
	f(`{'contains':[{'system':'a\\u0062','code':'1'},{'system':'a\u0062','code':'1'},{'system':'ab','code':'2'}]}`, `a\u0062|1 ab|1 ab|2`)
	f(`{}`, "")
	f(`{'contains':[{'code':'1'}]}`, "not supported: The stored ValueSet/v cannot be used: 'expansion.contains'")
	f(`{'contains':7}`, "not supported: The stored ValueSet/v cannot be used: 'expansion.contains'")
	f(`{'contains':[{'system':'urn:a','code':1}]}`, "cannot be used: 'expansion.contains.code'")
	f(`{'contains':[{'system':'urn:a','code':'1','modifierExtension':[]}]}`, "cannot be used: 'expansion.contains.modifierExtension'")
	f(`[]`, "cannot be used: 'expansion'")
}

// An expansion that is not whole does not matter when the definition is enough.
func TestADefinitionStandsInForAnExpansionThatIsNotWhole(t *testing.T) {
	l := stored(t, `{'resourceType':'ValueSet','id':'v','expansion':{'total':2,'contains':[{'system':'urn:a','code':'1'}]},
		'compose':{'include':[{'system':'urn:a','concept':[{'code':'1'},{'code':'2'}]}]}}`)
	expect(t, "the set", ask(NewExpander(context.Background(), l).ValueSetByID("v")), "a|1 a|2")
	expect(t, "another", ask(NewExpander(context.Background(), l).ValueSetByID("w")), "unknown: There is no ValueSet/w here")
	l = stored(t, `{'resourceType':'ValueSet','id':'v','url':'urn:v'}`)
	expect(t, "an empty one", ask(NewExpander(context.Background(), l).ValueSetByID("v")), "has neither an expansion nor a definition")
}

// Which resource a canonical reference names.
func TestCanonicalReferences(t *testing.T) {
	version := func(id, members string) string {
		return `{'resourceType':'ValueSet','id':'` + id + `','url':'urn:v',` + members + `,'compose':{'include':[{'system':'urn:a','concept':[{'code':'` + id + `'}]}]}}`
	}
	f := func(reference, want string, all ...string) {
		t.Helper()
		expect(t, reference, ask(NewExpander(context.Background(), stored(t, all...)).ValueSet(reference)), want)
	}
	a9, a10 := version("a9", `'status':'active','version':'1.9'`), version("a10", `'status':'active','version':'1.10'`)
	beta := version("beta", `'status':'active','version':'1.10-beta'`)
	draft, retired := version("draft", `'status':'draft','version':'3'`), version("retired", `'status':'retired','version':'9'`)
	none, later := version("none", `'status':'active','date':'2020'`), version("later", `'status':'active','date':'2021-01'`)
	f("urn:v", "a|a10", a9, a10, draft, retired)
	f("urn:v", "a|a10", retired, none, beta, a10, a9)
	f("urn:v", "a|draft", draft, retired)
	f("urn:v", "a|retired", retired)
	f("urn:v|9", "a|retired", retired, a9, a10)
	f("urn:v|1.9", "a|a9", a9, a10)
	f("urn:v|1", "unknown: No ValueSet 'urn:v|1' is stored here", a9, a10)
	f("urn:v", "a|later", none, later)
	f("urn:w", "unknown: No ValueSet 'urn:w' is stored here", a9)
	f("urn:v", "have the same url, status, version and date", a9, a10, version("twin", `'status':'active','version':'1.10'`))
	f("urn:v|1.9", "a|a9", a9, a10, version("twin", `'status':'active','version':'1.10'`))
}

func TestVersionsAreOrdered(t *testing.T) {
	ascending := []string{"", "0.9", "1-beta", "1", "1-1", "1.0", "1.0.0-alpha", "1.0.0-alpha2", "1.0.0", "1.9", "1.10", "2.0-snapshot", "2.0", "2019-12", "2020", "2020-01", "2020-01-31", "2021", "20200131"}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := compareVersions(a, b); got != min(1, max(-1, i-j)) {
				t.Errorf("%q and %q: %d", a, b, got)
			}
		}
	}
}

func TestSubsumption(t *testing.T) {
	f := func(system, code, below, above string, more ...string) {
		t.Helper()
		x := NewExpander(context.Background(), stored(t, append(more, animals, flat)...))
		expect(t, "below "+code, ask(x.Below(system, code)), below)
		expect(t, "above "+code, ask(x.Above(system, code)), above)
	}
	f("urn:a", "mammal", "a|bat a|dog a|mammal", "a|animal a|mammal")
	f("urn:a", "bat", "a|bat", "a|animal a|bat a|flier a|mammal")
	f("urn:a", "rock", "a|rock", "a|rock")
	f("urn:a", "cat", "has no code 'cat'", "has no code 'cat'")
	f("urn:f", "1", "its hierarchyMeaning is ''", "its hierarchyMeaning is ''")
	f("urn:n", "1", "No CodeSystem 'urn:n' is stored here", "No CodeSystem 'urn:n' is stored here")
	one := func(members string) string {
		return `{'resourceType':'CodeSystem','id':'o','url':'urn:o','hierarchyMeaning':'is-a',` + members + `}`
	}
	refused := func(members, why string) { t.Helper(); f("urn:o", "1", why, why, one(members)) }
	refused(`'content':'fragment','concept':[{'code':'1'}]`, "its content is 'fragment' and not 'complete'")
	refused(`'content':'complete','count':2,'concept':[{'code':'1'}]`, "has 1 concepts, but its count is 2")
	refused(`'content':'complete','compositional':true,'concept':[{'code':'1'}]`, "is compositional")
	refused(`'content':'complete','concept':[{'code':'1'},{'code':'1'}]`, "cannot be used: 'concept.code'")
	refused(`'content':'complete','concept':{'code':'1'}`, "cannot be used: 'concept'")
	f("urn:o", "1", "o|1 o|2 o|3", "o|1", one(`'content':'complete','concept':[{'code':'1'},{'code':'3','property':[{'code':'subsumedBy','valueCode':'2'}]},{'code':'2','property':[{'code':'subsumedBy','valueCode':'1'}]}]`))
	f("urn:o", "1", "o|1 o|2", "o|1 o|2", one(`'content':'complete','concept':[{'code':'1','property':[{'code':'child','valueCode':'2'}]},{'code':'2','property':[{'code':'child','valueCode':'1'}]}]`))
}

func TestWorkIsBounded(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"resourceType":"CodeSystem","id":"many","url":"urn:many","content":"complete","hierarchyMeaning":"is-a","concept":[{"code":"0"}`)
	for i := range codesMax {
		fmt.Fprintf(&text, `,{"code":"%d"}`, i+1)
	}
	text.WriteString("]}")
	l := stored(t, `{'resourceType':'ValueSet','id':'v','url':'urn:v','compose':{'include':[{'system':'urn:many'}]}}`)
	l.add(t, []byte(text.String()))
	expect(t, "many codes", ask(NewExpander(context.Background(), l).ValueSetByID("v")), "too large: A value set of this search has more than 200000 codes")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := NewExpander(ended, l).ValueSetByID("v"); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	deep := stored(t)
	for i := range importsMax + 1 {
		deep.add(t, fmt.Appendf(nil, `{"resourceType":"ValueSet","id":"v%d","url":"urn:%d","compose":{"include":[{"valueSet":["urn:%d"]}]}}`, i, i, i+1))
	}
	expect(t, "deep imports", ask(NewExpander(context.Background(), deep).ValueSet("urn:0")), "too large: The ValueSets of this search include each other more than 32 deep")
}

// Whatever bytes are stored, reading them ends with a set or a reason.
func FuzzValueSet(f *testing.F) {
	f.Add([]byte(`{"resourceType":"ValueSet","url":"urn:v","compose":{"include":[{"system":"urn:a","filter":[{"property":"concept","op":"is-a","value":"1"}]}]},"expansion":{"contains":[]}}`))
	f.Add([]byte(strings.ReplaceAll(animals, "'", `"`)))
	f.Fuzz(func(t *testing.T, text []byte) {
		body, err := fhir.Minify(text)
		if err != nil {
			return
		}
		l := newLibrary()
		l.byURL[valueSetType()] = map[string][]Resource{"urn:v": {{ID: "v", Body: body}}}
		l.byURL[codeSystemType()] = map[string][]Resource{"urn:a": {{ID: "a", Body: body}}}
		for _, question := range []func(x *Expander) (*Set, error){
			func(x *Expander) (*Set, error) { return x.ValueSet("urn:v") },
			func(x *Expander) (*Set, error) { return x.Below("urn:a", "dog") },
		} {
			var reason *Error
			if _, err := question(NewExpander(context.Background(), l)); err != nil && !errors.As(err, &reason) {
				t.Fatal(err)
			}
		}
	})
}
