package search

import "kiln/fhir"

// Kind is a search parameter's type: how the texts of a query are read.
type Kind uint8

// The search parameter types of R4.
const (
	Number Kind = iota + 1
	Date
	String
	Token
	Reference
	Composite
	Quantity
	URI
	Special
)

var kindNames = [...]string{"", "number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"}

// String is the name that the specification uses.
func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return ""
	}
	return kindNames[k]
}

func kindByName(name string) Kind {
	for k, known := range kindNames {
		if k > 0 && known == name {
			return Kind(k)
		}
	}
	return 0
}

// Numbers of fields are on disk and never reused. Those below FieldMin are the
// index's own; those from FieldCustomMin on are for parameters that are added
// at run time.
const (
	FieldLastUpdated = 1
	FieldMin         = 16
	FieldCustomMin   = 32768
)

// A Field is one stored set of values: the elements of one path, read as one
// search type.
type Field struct {
	Number uint16
	Kind   Kind
	// Name is the path in the words of FHIRPath, without what Source restricts:
	// "Observation.value as Quantity"; of a composite with its components in
	// parentheses: "Observation.component(code;value as Quantity)".
	Name string
	// Type is the resource type that has it; 0: every type.
	Type fhir.TypeCode
	// Elements are where the values lie. Empty for a composite.
	Elements []Element
	// Group is the element whose parts are paired, as in Element.Path; Parts
	// are the components, with paths below it. Composites only.
	Group string
	Parts []Part
}

// Part is one component of a composite field.
type Part struct {
	Kind     Kind
	Elements []Element
}

// Element is one place of values.
type Element struct {
	// Path in JSON keys, as in fhir.PathRule: "Observation.valueQuantity". "*"
	// stands for every type.
	Path string
	// Type is the FHIR data type of what is there: "Quantity".
	Type string
	// First says that only the first element of the array two steps above
	// counts: Bundle.entry[0].resource.
	First bool
	// Among, when not empty, keeps of the objects at the path before the last
	// step those whose "type" has this value: relatedArtifact.where(type='x').resource.
	Among string
	// Conditions keep the values inside of objects that fulfil all of them; the
	// outermost object's comes first.
	Conditions []Condition
}

// Condition is where(key='value'): it keeps the objects at Path whose member Key
// is the text Value.
type Condition struct {
	Path  string // as Element.Path, of which it is a part
	Key   string
	Value string
}

// Source is a field that answers a parameter, or a part of one.
type Source struct {
	Field *Field
	// Only, when not 0, keeps references to this type: where(resolve() is X).
	Only fhir.TypeCode
	// System, when not empty, keeps tokens of this system: where(system='phone').
	System string
}

// Param is a search parameter.
type Param struct {
	Type       fhir.TypeCode // 0: every resource type
	Code       string
	Kind       Kind
	URL        string
	Expression string
	Components string          // of a composite: "code=expression;code=expression"
	Targets    []fhir.TypeCode // of a reference; none: any
	// Sources answer the parameter, together: a resource matches when one of
	// them does. Empty for composites, and for the parameters that Virtual names.
	Sources []Source
	// Pairings answer a composite, together.
	Pairings []Pairing
	// Virtual says what answers a parameter that has no field.
	Virtual Virtual
}

// Virtual is a way to answer a parameter without a field.
type Virtual uint8

// The ways.
const (
	Stored      Virtual = iota // it has fields
	ByKey                      // _id: the key table
	ByClock                    // _lastUpdated: index.ParamLastUpdated
	Unsupported                // _text, _content, _query: nothing is stored for them
)

// Pairing is one way in which a resource can match a composite: Whole[i], when
// not empty, are the sources of component i, which the resource as a whole must
// match; the components with an empty Whole are, in order, the parts of Group.
// Group is nil when none is left: where a component occurs once in a resource
// the pair matches when both components do, so nothing is stored for the pair.
type Pairing struct {
	Whole [][]Source
	Group *Field
}
