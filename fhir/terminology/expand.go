package terminology

import (
	"context"
	"strings"

	"kiln/fhir"
)

// Resource is a stored ValueSet or CodeSystem.
type Resource struct {
	ID   string
	Body []byte // checked JSON without white space
}

// Source is where resources are stored.
type Source interface {
	// WithURL gives the current resources of a type whose url is this.
	WithURL(t fhir.TypeCode, url string) ([]Resource, error)
	// WithID gives one; ok is false when there is none.
	WithID(t fhir.TypeCode, id string) (r Resource, ok bool, err error)
}

// Expander finds sets of codes. It reads each resource once; it is for one search,
// and not safe for concurrent use.
type Expander struct {
	ctx     context.Context
	source  Source
	sets    map[string]*Set        // by the ids of their ValueSets
	named   map[string]*Set        // by canonical references
	systems map[string]*codeSystem // by url|version
	open    []string               // value sets that are being made
	bytes   int
	steps   int // concepts read
	codes   int // collected
}

// NewExpander makes an Expander that works until ctx ends.
func NewExpander(ctx context.Context, source Source) *Expander {
	return &Expander{ctx: ctx, source: source, sets: map[string]*Set{}, named: map[string]*Set{}, systems: map[string]*codeSystem{}}
}

// ValueSetByID is the codes of a stored ValueSet. Errors: *Error, those of the
// source and of the context.
func (x *Expander) ValueSetByID(id string) (*Set, error) {
	r, ok, err := x.source.WithID(valueSetType(), id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, unknown("There is no ValueSet/%s here.", id)
	}
	if err := x.take(r); err != nil {
		return nil, err
	}
	return x.set(parseValueSet(r.ID, r.Body))
}

// ValueSet is the codes of the ValueSet that a canonical reference names, url or
// url|version. Errors as of ValueSetByID.
func (x *Expander) ValueSet(reference string) (*Set, error) {
	if set := x.named[reference]; set != nil {
		return set, nil
	}
	url, version := cutCanonical(reference)
	all, err := x.read(valueSetType(), url)
	if err != nil {
		return nil, err
	}
	var found []*valueSet
	for _, r := range all {
		found = append(found, parseValueSet(r.ID, r.Body))
	}
	best, err := latest(found, func(v *valueSet) (*identity, string) { return &v.identity, "ValueSet/" + v.id }, version)
	if err != nil {
		return nil, err
	}
	if best == nil {
		return nil, unknown("No ValueSet '%s' is stored here. Store it, best with its expansion.", reference)
	}
	set, err := x.set(best)
	if err == nil {
		x.named[reference] = set
	}
	return set, err
}

// Below is a code and all that it subsumes; Above is a code and all that subsume
// it. Errors as of ValueSetByID.
func (x *Expander) Below(system, code string) (*Set, error) {
	return x.subsumption(system, code, func(c *codeSystem) *edges { return c.down })
}

// Above: see Below.
func (x *Expander) Above(system, code string) (*Set, error) {
	return x.subsumption(system, code, func(c *codeSystem) *edges { return c.up })
}

func (x *Expander) subsumption(system, code string, direction func(*codeSystem) *edges) (*Set, error) {
	c, err := x.system(system, "")
	if err != nil {
		return nil, err
	}
	start, err := c.concept(code)
	if err == nil {
		err = c.isA()
	}
	if err != nil {
		return nil, err
	}
	set := newSet()
	for i, reached := range c.reach(start, direction(c)) {
		if !reached {
			continue
		}
		if err := x.add(set, Code{system, c.concepts[i].code}, false); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// system is the code system of a url, complete; version "": the latest.
func (x *Expander) system(url, version string) (*codeSystem, error) {
	key := url + "|" + version
	if c := x.systems[key]; c != nil {
		return c, nil
	}
	all, err := x.read(codeSystemType(), url)
	if err != nil {
		return nil, err
	}
	var found []*codeSystem
	for _, r := range all {
		c, err := parseCodeSystem(r.ID, r.Body, x.tick)
		if err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	best, err := latest(found, func(c *codeSystem) (*identity, string) { return &c.identity, "CodeSystem/" + c.id }, version)
	if err != nil {
		return nil, err
	}
	if best == nil {
		return nil, notSupported("No CodeSystem '%s' is stored here, so its concepts are not known. Store it whole, or store the ValueSet with its expansion.", strings.TrimSuffix(key, "|"))
	}
	if err := best.whole(); err != nil {
		return nil, err
	}
	x.systems[key] = best
	return best, nil
}

// whole refuses a code system that does not have all of its concepts.
func (c *codeSystem) whole() error {
	switch {
	case c.broken != "":
		return notSupported("The stored CodeSystem/%s cannot be used: '%s' is not built as R4 says, or may change the meaning of the rest.", c.id, c.broken)
	case c.content != "complete":
		return notSupported("The stored CodeSystem/%s does not have all concepts: its content is '%s' and not 'complete'. Store the ValueSet with its expansion.", c.id, c.content)
	case c.count > len(c.concepts):
		return notSupported("The stored CodeSystem/%s has %d concepts, but its count is %d. Store the ValueSet with its expansion.", c.id, len(c.concepts), c.count)
	case c.compositional:
		return notSupported("The stored CodeSystem/%s is compositional: its codes cannot be listed. Store the ValueSet with its expansion.", c.id)
	}
	return nil
}

// latest chooses among resources of one url; nil: there is none.
func latest[T any](all []*T, of func(*T) (*identity, string), version string) (*T, error) {
	var best *T
	rival := ""
	for _, candidate := range all {
		i, name := of(candidate)
		if version != "" && i.version != version {
			continue
		}
		if best == nil {
			best = candidate
			continue
		}
		j, _ := of(best)
		switch order := i.compare(j); {
		case order > 0:
			best, rival = candidate, ""
		case order == 0:
			rival = name
		}
	}
	if rival != "" {
		_, name := of(best)
		return nil, notSupported("%s and %s have the same url, status, version and date: say which by its reference, or make one of them 'retired'.", name, rival)
	}
	return best, nil
}

// read gives the resources of a url.
func (x *Expander) read(t fhir.TypeCode, url string) ([]Resource, error) {
	all, err := x.source.WithURL(t, url)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if err := x.take(r); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// take counts a resource's bytes.
func (x *Expander) take(r Resource) error {
	if x.bytes += len(r.Body); x.bytes > bytesMax {
		return tooLarge("The ValueSets and CodeSystems of this search have more than %d bytes. Store an expanded ValueSet that has what is wanted only.", bytesMax)
	}
	return x.ctx.Err()
}

// tick counts a concept.
func (x *Expander) tick() error {
	if x.steps++; x.steps > conceptsMax {
		return tooLarge("The CodeSystems of this search have more than %d concepts. Store an expanded ValueSet that has what is wanted only.", conceptsMax)
	}
	if x.steps%checkEvery == 0 {
		return x.ctx.Err()
	}
	return nil
}

// add adds a code to a set. It is abstract when all say so who add it.
func (x *Expander) add(set *Set, c Code, abstract bool) error {
	if before, known := set.codes[c]; known {
		abstract = abstract && before
	}
	set.codes[c] = abstract
	if len(set.codes) > codesMax {
		return tooLarge("A value set of this search has more than %d codes. Store an expanded ValueSet that has what is wanted only.", codesMax)
	}
	if x.codes++; x.codes > conceptsMax {
		return tooLarge("The value sets of this search have more than %d codes together. Store an expanded ValueSet that has what is wanted only.", conceptsMax)
	}
	if x.codes%checkEvery == 0 {
		return x.ctx.Err()
	}
	return nil
}

func valueSetType() fhir.TypeCode   { return fhir.TypeByName([]byte("ValueSet")) }
func codeSystemType() fhir.TypeCode { return fhir.TypeByName([]byte("CodeSystem")) }
