package httpapi

import (
	"slices"
	"strings"

	"kiln/engine"
	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/fhir/ucum"
	"kiln/query"
)

// compartmentPrefix begins the addresses of R4's compartments.
const compartmentPrefix = "http://hl7.org/fhir/CompartmentDefinition/"

// searchDocumentation is what of searches has no element of its own.
const searchDocumentation = "Tokens of codes take the modifiers :in and :not-in with the url of a ValueSet or a reference to one, and :above and :below with system|code. " +
	"They are answered from the ValueSets and complete CodeSystems that are stored here, and refused when these do not answer for certain. " +
	"Chains lead to what a resource contains itself, too. _contained and _containedType search what is contained in resources; without _sort, _has, _list and _lastUpdated. Pages of such a search may be shorter than _count says, and have a next link."

// addSearch tells which search parameters work, and what can be included.
func (rest *capabilityRest) addSearch(table *search.Table, units *ucum.Table, done engine.Reindexing) error {
	if units != nil {
		rest.Documentation += " Quantities in a unit of UCUM are found in other units too, by UCUM's table of version " + units.Version + "."
	}
	for _, p := range table.Params() {
		if !query.Supports(p) {
			continue
		}
		told := capabilityParameter{Name: p.Code, Definition: p.URL, Type: p.Kind.String()}
		if !query.Usable(p, done) {
			told.Documentation = "The index of this parameter is being built; searches by it are refused until then."
		}
		if p.Type == 0 {
			rest.SearchParam = append(rest.SearchParam, told)
			continue
		}
		r := &rest.Resource[p.Type-1]
		r.SearchParam = append(r.SearchParam, told)
		if p.Kind == search.Reference {
			r.SearchInclude = append(r.SearchInclude, p.Type.String()+":"+p.Code)
			for _, target := range p.Targets {
				back := &rest.Resource[target-1]
				back.SearchRevInclude = append(back.SearchRevInclude, p.Type.String()+":"+p.Code)
			}
		}
	}
	// The table has no row for it, since it is no element.
	rest.SearchParam = append(rest.SearchParam, capabilityParameter{Name: "_filter", Definition: search.URLPrefix + "filter", Type: search.Special.String()})
	for t := fhir.TypeCode(1); t <= fhir.TypeMax; t++ {
		r := &rest.Resource[t-1]
		r.SearchParam = append(r.SearchParam, rest.SearchParam...)
		slices.Sort(r.SearchRevInclude)
		types, err := query.CompartmentTypes(t)
		if err != nil {
			return err
		}
		if len(types) > 0 {
			rest.Compartment = append(rest.Compartment, compartmentPrefix+strings.ToLower(t.String()))
		}
	}
	return nil
}
