package query

import (
	"slices"
	"strings"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
)

// comparable says which operators a parameter's type has (R4 search_filter.html#ops).
// Numbers have no co here: how precisely a stored one was written is not in its term.
var comparable = map[search.Kind][]string{
	search.Number:    strings.Fields("eq ne gt lt ge le ap sa eb pr"),
	search.Quantity:  strings.Fields("eq ne gt lt ge le ap sa eb pr"),
	search.Date:      strings.Fields("eq ne gt lt ge le ap sa eb co po pr"),
	search.String:    strings.Fields("eq ne co sw ew gt lt ge le pr"),
	search.Token:     strings.Fields("eq ne in ni ss sb pr"),
	search.Reference: strings.Fields("re pr"),
	search.URI:       strings.Fields("eq ne sw pr"),
	search.Composite: strings.Fields("eq pr"),
	search.Special:   strings.Fields("eq pr"),
}

// keyComparable is what _id has.
var keyComparable = strings.Fields("eq ne pr")

// tokenModifiers are the modifiers that say the same as operators of tokens.
var tokenModifiers = map[string]string{"eq": "", "in": "in", "ni": "not-in", "ss": "below", "sb": "above"}

// systems are the names of code systems that a _filter may use for their URIs.
var systems = map[string]string{
	"loinc": "http://loinc.org", "snomed": "http://snomed.info/sct",
	"rxnorm": "http://www.nlm.nih.gov/research/umls/rxnorm", "ucum": "http://unitsofmeasure.org",
}

// compare reads a test of one parameter. What an ordinary search can ask is asked
// by the same functions.
func (r *clauseReader) compare(t fhir.TypeCode, p *search.Param, c *clause) (*filter, error) {
	has := comparable[p.Kind]
	if p.Virtual == search.ByKey {
		has = keyComparable
	}
	switch {
	case !slices.Contains(has, c.operator):
		return nil, invalid("The parameter '%s' of type %s has no operator %s, only %s.", p.Code, p.Kind, c.operator, strings.Join(has, ", "))
	case c.value == "":
		return nil, invalid("The parameter '%s' has an empty value.", p.Code)
	case c.operator == "pr":
		return r.present(p, c.value)
	}
	if err := r.addValues(1); err != nil {
		return nil, err
	}
	switch {
	case p.Virtual == search.ByKey:
		return r.compareID(t, c)
	case p.Kind == search.Date:
		return r.compareDate(p, c)
	case p.Kind == search.Number || p.Kind == search.Quantity:
		return r.value(p, "", c.operator+named(c.value, 1))
	case p.Kind == search.String:
		walks, err := compareString(p, c)
		return terms(walks), badValue(p, c.value, err)
	case p.Kind == search.Token:
		return r.compareToken(p, c)
	case p.Kind == search.URI:
		walks, err := compareURI(p, c)
		return terms(walks), badValue(p, c.value, err)
	case p.Kind == search.Reference:
		return r.value(p, "", strings.ReplaceAll(c.value, `\`, `\\`))
	}
	return r.value(p, "", c.value)
}

// compareID reads _id, of which every resource has one.
func (r *clauseReader) compareID(t fhir.TypeCode, c *clause) (*filter, error) {
	f, err := r.ids(t, "", []string{c.value})
	if err == nil && c.operator == "ne" {
		f = not(f)
	}
	return f, err
}

// present reads pr, which is :missing the other way round.
func (r *clauseReader) present(p *search.Param, value string) (*filter, error) {
	switch value {
	case "true":
		return r.missing(p, "false")
	case "false":
		return r.missing(p, "true")
	}
	return nil, invalid("The value '%s' of the operator pr is not true or false.", value)
}

// named puts the URI of a system in the place of its name, which is the part of
// a value with that number.
func named(value string, part int) string {
	parts := split(value, '|')
	if len(parts) > part+1 && systems[parts[part]] != "" {
		parts[part] = systems[parts[part]]
	}
	return strings.Join(parts, "|")
}

// compareDate reads co, the value's span holds the one that is asked for, and po,
// they overlap; all else is a prefix.
func (r *clauseReader) compareDate(p *search.Param, c *clause) (*filter, error) {
	compare := index.Holds
	switch c.operator {
	case "co":
	case "po":
		compare = index.Ap
	default:
		return r.value(p, "", c.operator+c.value)
	}
	first, last, err := dateSpan(p.Code, []byte(c.value))
	if err != nil {
		return nil, err
	}
	if p.Virtual == search.ByClock {
		return terms(index.LastUpdatedWalks(compare, first, last)), nil
	}
	return terms(index.DateWalks(p.Sources, compare, first, last)), nil
}

func compareString(p *search.Param, c *clause) ([]index.Walk, error) {
	text := []byte(c.value)
	switch c.operator {
	case "eq":
		return index.StringEqualWalks(p.Sources, text)
	case "sw":
		return stringWalks(p, p.Sources, "", text)
	case "co":
		return stringWalks(p, p.Sources, "contains", text)
	case "ew":
		return index.StringEndWalks(p.Sources, text), nil
	}
	compare, _ := index.CutCompare([]byte(c.operator + "-"))
	return index.StringOrderWalks(p.Sources, compare, text)
}

// compareToken reads ne, some code is another one, and what modifiers do.
func (r *clauseReader) compareToken(p *search.Param, c *clause) (*filter, error) {
	value := named(c.value, 0)
	if c.operator != "ne" {
		return r.value(p, tokenModifiers[c.operator], value)
	}
	token, err := knownToken(p, p.Sources, value)
	if err != nil {
		return nil, err
	}
	walks, err := index.TokenOtherWalks(p.Sources, token)
	return terms(walks), badValue(p, c.value, err)
}

func compareURI(p *search.Param, c *clause) ([]index.Walk, error) {
	text := []byte(c.value)
	switch c.operator {
	case "ne":
		return index.URIOtherWalks(p.Sources, text), nil
	case "sw":
		return uriWalks(p, p.Sources, "below", text)
	}
	return uriWalks(p, p.Sources, "", text)
}
