package patch

import (
	"strings"

	"kiln/fhir/structure"
)

// given is a part's value, ready to be put into a resource.
type given struct {
	suffix string // of a choice's key: "Quantity"; "" when the part does not tell
	value  *node  // nil: only the shadow is there
	shadow *node  // nil: none
}

// givenBy reads the part named value: value[x], resource, or the parts of an
// element that is no data type. element is the one it is for.
func givenBy(part *node, element structure.Element) (given, error) {
	var g given
	for _, m := range part.list() {
		bare := strings.TrimPrefix(m.key, "_")
		switch {
		case m.key == "name" || m.key == "id" || m.key == "extension":
		case m.key == "resource" && g.value == nil:
			g.value = m.value
		case m.key == "part" && g.value == nil && m.value.isArray():
			value, err := assembled(m.value, element)
			if err != nil {
				return g, err
			}
			g.value = value
		case !strings.HasPrefix(bare, "value") || g.suffix != "" && g.suffix != bare[len("value"):]:
			return g, malformed("A part has more than one value, or the member '%s'.", m.key)
		case bare != m.key && g.shadow == nil:
			g.suffix, g.shadow = bare[len("value"):], m.value
		case bare == m.key && g.value == nil:
			g.suffix, g.value = bare[len("value"):], m.value
		default:
			return g, malformed("A part has more than one value.")
		}
	}
	if g.value == nil && g.shadow == nil {
		return g, malformed("A part has no value.")
	}
	return g, nil
}

// assembled makes an object of parts, each of which is one of its members.
func assembled(parts *node, element structure.Element) (*node, error) {
	typ := ""
	if len(element.Types) == 1 {
		typ = element.Types[0]
	}
	object := newNode([]byte("{}"))
	object.list()
	d := document{root: object, budget: newBudget(len(parts.text) + workPerOperation*(1+len(parts.list())))}
	for _, m := range parts.list() {
		if !m.value.isObject() {
			return nil, malformed("A part is not an object.")
		}
		name, err := stringMember(m.value, "name")
		if err != nil {
			return nil, err
		}
		c, err := d.collection(item{value: object, typ: typ, index: -1}, name)
		if err != nil {
			return nil, err
		}
		present, err := d.members(c.holder, name)
		switch {
		case err != nil:
		case c.element.List:
			err = d.insertInto(c, m.value, len(present))
		case len(present) > 0:
			err = malformed("The part '%s' is there twice.", name)
		default:
			err = d.setMember(c, m.value)
		}
		if err != nil {
			return nil, err
		}
	}
	return object, nil
}

// home is the object that is to have a collection, made when it is missing: a
// primitive without extensions has no shadow yet.
func (c *collection) home() (*node, error) {
	if object := c.holder.object(); object != nil {
		return object, nil
	}
	if c.holder.holder == nil || c.name != "extension" && c.name != "id" {
		return nil, notApplicable("The element has no members, so it can have no '%s'.", c.name)
	}
	shadow := newNode([]byte("{}"))
	if err := c.holder.setShadow(shadow); err != nil {
		return nil, err
	}
	c.holder.shadow = shadow
	return shadow, nil
}

// setShadow sets the id and extensions of a primitive; nil takes them away.
func (it *item) setShadow(shadow *node) error {
	key := "_" + it.key
	if it.index < 0 {
		if shadow == nil {
			it.holder.removeKeys(map[string]bool{key: true})
			return nil
		}
		return it.holder.set(key, shadow)
	}
	list, err := it.holder.get(key)
	if err != nil {
		return err
	}
	if list == nil {
		if shadow == nil {
			return nil
		}
		list = newNode([]byte("[]"))
		if err := it.holder.set(key, list); err != nil {
			return err
		}
	}
	if !list.isArray() {
		return notApplicable("The member '%s' is not a list.", key)
	}
	padTo(list, it.index+1)
	if shadow == nil {
		shadow = newNode([]byte("null"))
	}
	list.members[it.index].value = shadow
	return nil
}

// setMember puts a value where no element of the name is.
func (d *document) setMember(c collection, part *node) error {
	g, err := givenBy(part, c.element)
	if err != nil {
		return err
	}
	object, err := c.home()
	if err != nil {
		return err
	}
	key := c.name
	if c.element.Choice {
		if g.suffix == "" {
			return malformed("The value of '%s' does not tell its type.", c.name)
		}
		key += g.suffix
	}
	if g.value != nil {
		if err := object.set(key, g.value.copy()); err != nil {
			return err
		}
	}
	if g.shadow != nil {
		return object.set("_"+key, g.shadow.copy())
	}
	return nil
}

// insertInto puts a value into a list.
func (d *document) insertInto(c collection, part *node, at int) error {
	g, err := givenBy(part, c.element)
	if err != nil {
		return err
	}
	object, err := c.home()
	if err != nil {
		return err
	}
	count := at
	for _, key := range []string{c.name, "_" + c.name} {
		list, err := object.get(key)
		if err != nil {
			return err
		}
		if list != nil && !list.isArray() {
			return notApplicable("The member '%s' is not a list.", key)
		}
		count = max(count, len(elementsOf(list)))
	}
	if err := insertElement(object, c.name, at, count, g.value, g.shadow == nil); err != nil {
		return err
	}
	return insertElement(object, "_"+c.name, at, count, g.shadow, true)
}

// insertElement inserts into the list under a key, whose places count together
// with those of another list; nil stands for nothing in this one.
func insertElement(object *node, key string, at, count int, value *node, optional bool) error {
	list, err := object.get(key)
	if err != nil {
		return err
	}
	if list == nil {
		if value == nil && optional {
			return nil
		}
		list = newNode([]byte("[]"))
		if err := object.set(key, list); err != nil {
			return err
		}
	}
	padTo(list, min(at, count))
	inserted := newNode([]byte("null"))
	if value != nil {
		inserted = value.copy()
	}
	list.insert(min(at, len(list.list())), inserted)
	return nil
}

// replaceItem puts a value in an element's place.
func (d *document) replaceItem(it item, part *node) error {
	element := structure.Element{Types: []string{it.typ}}
	g, err := givenBy(part, element)
	if err != nil {
		return err
	}
	if it.index < 0 {
		if err := it.retype(g.suffix); err != nil {
			return err
		}
	}
	var shadow *node
	if g.shadow != nil {
		shadow = g.shadow.copy()
	}
	if shadow != nil || it.shadow != nil {
		if err := it.setShadow(shadow); err != nil {
			return err
		}
	}
	value := newNode([]byte("null"))
	if g.value != nil {
		value = g.value.copy()
	}
	if it.index < 0 {
		if g.value == nil {
			it.holder.removeKeys(map[string]bool{it.key: true})
			return nil
		}
		return it.holder.set(it.key, value)
	}
	list, err := it.holder.get(it.key)
	if err != nil || it.index >= len(elementsOf(list)) {
		return notApplicable("The element has no value that could be replaced.")
	}
	list.members[it.index].value = value
	return nil
}

// retype changes the key of a choice to the new value's type.
func (it *item) retype(suffix string) error {
	old := structure.Suffix(it.typ)
	name := strings.TrimSuffix(it.key, old)
	if !it.choice || suffix == "" || suffix == old {
		return nil
	}
	for _, prefix := range []string{"", "_"} {
		at, err := it.holder.find(prefix + it.key)
		if err != nil {
			return err
		}
		if at >= 0 {
			it.holder.rename(at, prefix+name+suffix)
		}
	}
	it.key = name + suffix
	return nil
}
