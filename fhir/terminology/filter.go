package terminology

import (
	"slices"
	"strings"
)

// pass is which concepts of a code system a filter lets through.
type pass func(i int32) bool

// filter makes a filter of a value set's definition (R4 valueset-filter-operator).
func (c *codeSystem) filter(f propertyFilter) (pass, error) {
	if f.property == "concept" || f.property == "code" {
		return c.codeFilter(f)
	}
	for _, hierarchical := range []string{"parent", "child"} {
		if c.means(f.property, hierarchical) {
			return c.neighbourFilter(f, hierarchical)
		}
	}
	return c.valueFilter(f)
}

func (c *codeSystem) refuseFilter(f propertyFilter) error {
	return notSupported("The filter '%s %s' of a ValueSet cannot be answered from the stored CodeSystem/%s. Store the ValueSet with its expansion.", f.property, f.op, c.id)
}

// codeFilter is about the code itself, and its place in the hierarchy.
func (c *codeSystem) codeFilter(f propertyFilter) (pass, error) {
	listed := listOf(f.value)
	has := func(i int32) bool { return slices.Contains(listed, c.concepts[i].code) }
	switch f.op {
	case "=":
		return func(i int32) bool { return c.concepts[i].code == f.value }, nil
	case "in":
		return has, nil
	case "not-in":
		return func(i int32) bool { return !has(i) }, nil
	case "is-a", "descendent-of", "is-not-a", "generalizes":
	default:
		return nil, c.refuseFilter(f)
	}
	start, err := c.concept(f.value)
	if err == nil {
		err = c.isA()
	}
	if err != nil {
		return nil, err
	}
	direction := c.down
	if f.op == "generalizes" {
		direction = c.up
	}
	reached := c.reach(start, direction)
	if f.op == "descendent-of" {
		reached[start] = false
	}
	return func(i int32) bool { return reached[i] != (f.op == "is-not-a") }, nil
}

// neighbourFilter is about direct parents or children.
func (c *codeSystem) neighbourFilter(f propertyFilter, which string) (pass, error) {
	c.arrange()
	direction := c.up
	if which == "child" {
		direction = c.down
	}
	switch {
	case f.op == "exists" && (f.value == "true" || f.value == "false"):
		return func(i int32) bool { return (len(direction.of(i)) > 0) == (f.value == "true") }, nil
	case f.op == "=":
		other, err := c.concept(f.value)
		if err != nil {
			return nil, err
		}
		return func(i int32) bool { return slices.Contains(direction.of(i), other) }, nil
	}
	return nil, c.refuseFilter(f)
}

// valueFilter is about a property's values. Values whose text is not the only one
// for what they mean (decimals, times, codings) are compared by nobody here.
func (c *codeSystem) valueFilter(f propertyFilter) (pass, error) {
	if _, defined := c.defined[f.property]; !defined && f.property != "inactive" {
		return nil, c.refuseFilter(f)
	}
	if f.op == "exists" {
		if f.value != "true" && f.value != "false" {
			return nil, c.refuseFilter(f)
		}
		return func(i int32) bool { return (len(c.values(i, f.property)) > 0) == (f.value == "true") }, nil
	}
	for i := range c.properties {
		if p := &c.properties[i]; p.code == f.property && !slices.Contains([]string{"Code", "String", "Integer", "Boolean"}, p.kind) {
			return nil, c.refuseFilter(f)
		}
	}
	listed := []string{f.value}
	if f.op == "in" || f.op == "not-in" {
		listed = listOf(f.value)
	}
	has := func(i int32) bool {
		return slices.ContainsFunc(c.values(i, f.property), func(v string) bool { return slices.Contains(listed, v) })
	}
	switch f.op {
	case "=", "in":
		return has, nil
	case "not-in":
		return func(i int32) bool { return !has(i) }, nil
	}
	return nil, c.refuseFilter(f)
}

// values gives the texts of a concept's property. One that is not said to be
// inactive is not (R4 codesystem.html#properties).
func (c *codeSystem) values(i int32, code string) (texts []string) {
	for _, p := range c.of(i) {
		if p.code == code {
			texts = append(texts, p.text)
		}
	}
	if len(texts) == 0 && c.means(code, "inactive") {
		texts = append(texts, "false")
	}
	return texts
}

// listOf parts the values of "in" and "not-in".
func listOf(value string) []string {
	listed := strings.Split(value, ",")
	for i := range listed {
		listed[i] = strings.TrimSpace(listed[i])
	}
	return listed
}
