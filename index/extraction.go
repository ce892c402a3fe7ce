package index

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"kiln/fhir"
	"kiln/fhir/search"
)

// Extraction says which elements of a resource become which terms: the fields
// of a search.Table compiled to sites. It is immutable and safe for concurrent
// use; every goroutine has its own Extractor.
type Extraction struct {
	paths  *fhir.Paths
	sites  []site
	groups []pairGroup
	dead   Param // the field of Patient.deceased
	custom int   // fields behind those of R4
}

// ExtractionVersion is the number of the rules by which terms are made of
// resources; a run keeps that of its terms. It is raised with every change that
// makes other terms of some resource: a new field, another layout, a mended
// mistake. A run of another version is indexed again. Until then it answers no
// search by terms that it does not have:
//
//	1  the terms of fields
//	2  these, and ParamContained
//
// A change to the terms of fields raises extractionFields with it.
const (
	ExtractionVersion   = 2
	extractionFields    = 1 // the oldest with the same terms of fields
	extractionContained = 2 // the oldest with ParamContained
)

// A site is an element path and the way it is read. Its roles are the members
// that the reader needs; the number of a path is site and role together:
//
//	PathID = site << roleBits | role
//
// Role 0 is the element itself.
type site struct {
	reader  reader
	numeric uint16 // bit r: role r is a number, not a string
	uses    []use
}

const (
	roleBits = 4
	roleMask = 1<<roleBits - 1
	rolesMax = 1 << roleBits
	roleSelf = 0
	// roleMember is the member that a condition looks at.
	roleMember = 1
)

// use is what a site's values are for: terms of a field, or one part of a group.
type use struct {
	param Param
	group int32  // index in Extraction.groups; -1: terms
	part  uint8  // of the group
	among string // of relatedArtifact: its type
	// conditions are of the objects around the value, the outermost first.
	conditions []condition
	when       []search.Condition // they, as the field has them
}

// condition keeps what lies in objects of a site whose member has this text.
type condition struct {
	site  uint32
	value string
}

// pairGroup is a composite field: the values of its parts inside one element
// are paired.
type pairGroup struct {
	param Param
	parts int
}

// reader is a way to read values.
type reader uint8

// Readers of one value come first; frameReaders and those behind read objects.
const (
	readCode reader = iota
	readText
	readString
	readURI
	readReference
	readCanonical
	readDate
	readNumber
	readDead
	readContained

	readCoding
	readIdentifier
	readIdentifierType
	readLogical
	readPeriod
	readTiming
	readQuantity
	readMoney
	readQuantityRange
	readNumberRange
	readPosition
	readArtifact
	readEntry
	readGroup
	// readCondition reads no values: it decides on those inside. Its sites come
	// behind all others, so that of an element's sites they end last.
	readCondition

	readerCount
	frameReaders = readCoding
)

// readerRoles are the members that readers of objects need, by role from 1 on.
// A "#" marks numbers.
var readerRoles = [readerCount][]string{
	readCoding:         {"system", "code", "display"},
	readIdentifier:     {"system", "value"},
	readIdentifierType: {"system", "code"},
	readLogical:        {"system", "value"},
	readPeriod:         {"start", "end"},
	readTiming:         {"event", "repeat.boundsPeriod.start", "repeat.boundsPeriod.end"},
	readQuantity:       {"#value", "system", "code", "unit", "comparator"},
	readMoney:          {"#value", "currency"},
	readQuantityRange:  {"#low.value", "low.system", "low.code", "low.unit", "#high.value", "high.system", "high.code", "high.unit"},
	readNumberRange:    {"#low.value", "#high.value"},
	readPosition:       {"#latitude", "#longitude"},
	readArtifact:       {"type", "resource"},
	readEntry:          {"resource.resourceType", "resource.id"},
}

// read is a reader at a path below an element.
type read struct {
	below  string
	reader reader
}

// readings says how the data types are read, by search type.
var readings = map[search.Kind]map[string][]read{
	search.Token: {
		"CodeableConcept": {{".coding", readCoding}, {".text", readText}},
		"Coding":          {{"", readCoding}},
		"Identifier":      {{"", readIdentifier}, {".type.coding", readIdentifierType}, {".type.text", readText}},
		"ContactPoint":    {{"", readIdentifier}},
		"code":            {{"", readCode}}, "boolean": {{"", readCode}}, "id": {{"", readCode}},
		"string": {{"", readCode}}, "uri": {{"", readCode}},
		"deceased": {{"", readDead}},
	},
	search.String: {
		"string": {{"", readString}}, "markdown": {{"", readString}},
		"HumanName": {{".family", readString}, {".given", readString}, {".prefix", readString}, {".suffix", readString}, {".text", readString}},
		"Address": {{".line", readString}, {".city", readString}, {".district", readString}, {".state", readString},
			{".postalCode", readString}, {".country", readString}, {".text", readString}},
	},
	search.Reference: {
		"Reference": {{".reference", readReference}, {".identifier", readLogical}},
		"canonical": {{"", readCanonical}}, "uri": {{"", readCanonical}},
	},
	search.Date: {
		"date": {{"", readDate}}, "dateTime": {{"", readDate}}, "instant": {{"", readDate}},
		"Period": {{"", readPeriod}}, "Timing": {{"", readTiming}},
	},
	search.Number: {
		"decimal": {{"", readNumber}}, "integer": {{"", readNumber}}, "positiveInt": {{"", readNumber}}, "unsignedInt": {{"", readNumber}},
		"Range": {{"", readNumberRange}},
	},
	search.Quantity: {
		"Quantity": {{"", readQuantity}}, "Age": {{"", readQuantity}}, "Duration": {{"", readQuantity}},
		"Money": {{"", readMoney}}, "Range": {{"", readQuantityRange}},
		// A SampledData is a series with one unit for its origin; R4 does not say
		// what of it a quantity should be compared with. It has no terms.
		"SampledData": {},
	},
	search.URI:     {"uri": {{"", readURI}}, "url": {{"", readURI}}, "canonical": {{"", readURI}}},
	search.Special: {"Location.position": {{"", readPosition}}},
}

// LoadExtraction gives the extraction of R4's fields, which is compiled when the
// first caller asks: about 10 milliseconds. An error means that the program has
// no reader for a data type.
func LoadExtraction() (*Extraction, error) { return loadExtraction() }

var loadExtraction = sync.OnceValues(func() (*Extraction, error) { return NewExtraction(nil) })

// NewExtraction gives the extraction of R4's fields and of more behind them,
// which are errors where there is no way to read them.
func NewExtraction(custom []*search.Field) (*Extraction, error) {
	table, err := search.Load()
	if err != nil {
		return nil, err
	}
	x, err := newExtraction(slices.Concat(table.Fields(), custom), true)
	if err == nil {
		x.custom = len(custom)
	}
	return x, err
}

// NewExtractionOf gives an extraction of some fields alone, for who looks for their
// values in resources. No run is made by it.
func NewExtractionOf(fields []*search.Field) (*Extraction, error) {
	return newExtraction(fields, false)
}

// Custom counts the fields that it has beside R4's.
func (e *Extraction) Custom() int { return e.custom }

// newExtraction compiles some fields; contained: and ParamContained.
func newExtraction(fields []*search.Field, contained bool) (*Extraction, error) {
	c := extractionCompiler{x: &Extraction{}, at: map[siteKey]int{}}
	if contained {
		c.site("*.contained.resourceType", readContained, use{param: ParamContained, group: -1})
	}
	for _, f := range fields {
		if err := c.field(f); err != nil {
			return nil, fmt.Errorf("cannot compile field %d, %s: %w", f.Number, f.Name, err)
		}
	}
	c.conditions()
	var err error
	c.x.paths, err = fhir.NewPaths(c.rules)
	return c.x, err
}

type siteKey struct {
	path   string
	reader reader
	member string // of a condition
}

type extractionCompiler struct {
	x     *Extraction
	rules []fhir.PathRule
	at    map[siteKey]int
}

func (c *extractionCompiler) field(f *search.Field) error {
	if f.Kind == search.Composite {
		return c.group(f)
	}
	for _, e := range f.Elements {
		if err := c.element(f.Kind, e, use{param: Param(f.Number), group: -1, among: e.Among, when: e.Conditions}); err != nil {
			return err
		}
	}
	return nil
}

// group makes a composite's group. Groups do not lie inside each other: an
// Extractor collects the parts of one element at a time.
func (c *extractionCompiler) group(f *search.Field) error {
	for key := range c.at {
		if key.reader == readGroup && (strings.HasPrefix(key.path, f.Group+".") || strings.HasPrefix(f.Group, key.path+".")) {
			return fmt.Errorf("the group %s lies inside of %s or around it", f.Group, key.path)
		}
	}
	group := int32(len(c.x.groups))
	c.x.groups = append(c.x.groups, pairGroup{param: Param(f.Number), parts: len(f.Parts)})
	c.site(f.Group, readGroup, use{param: Param(f.Number), group: group})
	for i, part := range f.Parts {
		for _, e := range part.Elements {
			if err := c.element(part.Kind, e, use{param: Param(f.Number), group: group, part: uint8(i)}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *extractionCompiler) element(kind search.Kind, e search.Element, u use) error {
	reads, ok := readings[kind][e.Type]
	switch {
	case e.Among != "":
		path, ok := strings.CutSuffix(e.Path, ".resource")
		if !ok || e.Type != "canonical" || u.group >= 0 {
			return fmt.Errorf("%s is no resource of a related artifact", e.Path)
		}
		c.site(path, readArtifact, u)
		return nil
	case e.First:
		path, ok := strings.CutSuffix(e.Path, ".resource")
		if !ok || e.Type != "Resource" {
			return fmt.Errorf("%s is no entry's resource", e.Path)
		}
		c.site(path, readEntry, u)
		return nil
	case !ok:
		return fmt.Errorf("there is no way to read a %s as a %s", e.Type, kind)
	}
	for _, r := range reads {
		if u.group >= 0 && (r.reader == readText || r.reader == readIdentifierType) {
			continue // :text and :of-type are not for composites
		}
		if r.reader == readDead {
			c.x.dead = u.param
		}
		c.site(e.Path+r.below, r.reader, u)
	}
	return nil
}

// site adds a use of the site at path.
func (c *extractionCompiler) site(path string, r reader, u use) {
	key := siteKey{path: path, reader: r}
	at, ok := c.at[key]
	if !ok {
		at = len(c.x.sites)
		c.at[key] = at
		s := site{reader: r}
		c.rule(path, at, roleSelf)
		for i, member := range readerRoles[r] {
			name, numeric := strings.CutPrefix(member, "#")
			if numeric {
				s.numeric |= 1 << (i + 1)
			}
			c.rule(path+"."+name, at, i+1)
		}
		c.x.sites = append(c.x.sites, s)
	}
	c.x.sites[at].uses = append(c.x.sites[at].uses, u)
}

// conditions makes the sites of all uses' conditions.
func (c *extractionCompiler) conditions() {
	for i := range len(c.x.sites) {
		for j := range c.x.sites[i].uses {
			u := &c.x.sites[i].uses[j]
			for _, w := range u.when {
				u.conditions = append(u.conditions, condition{c.conditionSite(w.Path, w.Key), w.Value})
			}
		}
	}
}

func (c *extractionCompiler) conditionSite(path, member string) uint32 {
	key := siteKey{path, readCondition, member}
	at, ok := c.at[key]
	if !ok {
		at = len(c.x.sites)
		c.at[key] = at
		c.rule(path, at, roleSelf)
		c.rule(path+"."+member, at, roleMember)
		c.x.sites = append(c.x.sites, site{reader: readCondition})
	}
	return uint32(at)
}

func (c *extractionCompiler) rule(path string, site, role int) {
	c.rules = append(c.rules, fhir.PathRule{Path: path, ID: fhir.PathID(site<<roleBits | role)})
}
