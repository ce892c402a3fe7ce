package patch

import (
	"strings"

	"kiln/fhir/structure"
)

// item is an element that a path found. A primitive may have a shadow: the
// object under its key with "_" before it, for its id and extensions.
type item struct {
	value  *node // nil: only the shadow is there
	shadow *node // nil or null: none
	typ    string
	holder *node // the object that has the element; nil for the resource
	key    string
	index  int // in the array under key; -1: there is none
	choice bool
}

// collection is where a member is, or would be.
type collection struct {
	holder  item
	name    string
	element structure.Element
}

// selectItems returns what a path finds.
func (d *document) selectItems(p path) ([]item, error) {
	items := []item{{value: d.root, typ: d.resourceType, index: -1}}
	for _, s := range p {
		var err error
		if items, err = d.narrow(items, s); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (d *document) narrow(items []item, s step) ([]item, error) {
	switch s.kind {
	case stepMember:
		return d.membersOf(items, s.name)
	case stepIndex:
		return part(items, s.index), nil
	case stepFirst:
		return part(items, 0), nil
	case stepLast:
		return part(items, len(items)-1), nil
	case stepSingle:
		if len(items) > 1 {
			return nil, notApplicable("single() finds %d elements.", len(items))
		}
		return items, nil
	}
	var kept []item
	for _, it := range items {
		ok := it.typ == s.name
		if s.kind == stepWhere {
			var err error
			if ok, err = d.meets(it, s.criteria); err != nil {
				return nil, err
			}
		}
		if ok {
			kept = append(kept, it)
		}
	}
	return kept, nil
}

func part(items []item, i int) []item {
	if i < 0 || i >= len(items) {
		return nil
	}
	return items[i : i+1]
}

func (d *document) membersOf(items []item, name string) ([]item, error) {
	var found []item
	for _, it := range items {
		own, err := d.members(it, name)
		if err != nil {
			return nil, err
		}
		found = append(found, own...)
	}
	return found, nil
}

// object is where the members of an element are: in its value or its shadow.
func (it *item) object() *node {
	switch {
	case it.value != nil && it.value.isObject():
		return it.value
	case it.shadow != nil && it.shadow.isObject():
		return it.shadow
	}
	return nil
}

// typeName is the type whose members an element has: a resource tells its own.
func (it *item) typeName() (string, error) {
	if it.value == nil || !it.value.isObject() || it.typ != "Resource" {
		return it.typ, nil
	}
	name, err := it.value.get("resourceType")
	if err != nil || name == nil {
		return it.typ, err
	}
	return name.str(), nil
}

// members are the elements of a name in an element.
func (d *document) members(it item, name string) ([]item, error) {
	object := it.object()
	if object == nil {
		return nil, nil
	}
	if !object.open {
		if err := d.spend(len(object.text)); err != nil {
			return nil, err
		}
	}
	if err := d.spend(len(object.list())); err != nil {
		return nil, err
	}
	typ, err := it.typeName()
	if err != nil {
		return nil, err
	}
	key, element := keyOf(object, typ, name)
	if key == "" {
		return nil, nil
	}
	value, err := object.get(key)
	if err != nil {
		return nil, err
	}
	shadow, err := object.get("_" + key)
	if err != nil {
		return nil, err
	}
	own := item{value: value, shadow: shadow, holder: object, key: key, index: -1, choice: element.Choice}
	if len(element.Types) > 0 {
		own.typ = element.Types[0]
	}
	return d.spread(own)
}

// keyOf finds the key under which an object has an element; "" when it has not.
func keyOf(object *node, typ, name string) (string, structure.Element) {
	for _, m := range object.list() {
		bare := strings.TrimPrefix(m.key, "_")
		if !strings.HasPrefix(bare, name) {
			continue
		}
		known, element, _ := structure.ByKey(typ, bare)
		if known == name || bare == name { // of R4; or not, or written with its type
			return bare, element
		}
	}
	return "", structure.Element{}
}

// spread makes one item of each element of a list.
func (d *document) spread(it item) ([]item, error) {
	list := it.value
	if list == nil {
		list = it.shadow
	}
	if list == nil || !list.isArray() {
		return []item{it}, nil
	}
	if err := d.spend(list.size()); err != nil {
		return nil, err
	}
	values, shadows := elementsOf(it.value), elementsOf(it.shadow)
	items := make([]item, max(len(values), len(shadows)))
	for i := range items {
		items[i] = item{typ: it.typ, holder: it.holder, key: it.key, index: i}
		if i < len(values) {
			items[i].value = values[i].value
		}
		if i < len(shadows) {
			items[i].shadow = shadows[i].value
		}
	}
	return items, nil
}

func elementsOf(n *node) []member {
	if n == nil || !n.isArray() {
		return nil
	}
	return n.list()
}

// meets says whether an element meets all criteria of a where().
func (d *document) meets(it item, criteria []criterion) (bool, error) {
	for _, c := range criteria {
		items := []item{it}
		for _, name := range c.names {
			var err error
			if items, err = d.membersOf(items, name); err != nil {
				return false, err
			}
		}
		if len(items) != 1 || items[0].value == nil || !c.matches(items[0].value) {
			return false, nil
		}
	}
	return true, nil
}

func (c *criterion) matches(n *node) bool {
	switch {
	case c.quoted:
		return n.isString() && n.str() == c.value
	case n.isNumber():
		return decimalOf(string(n.text)) == decimalOf(c.value)
	}
	return string(n.text) == c.value
}
