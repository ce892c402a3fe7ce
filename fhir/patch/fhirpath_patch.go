package patch

import (
	"strconv"

	"kiln/fhir/structure"
)

// FHIRPath applies a FHIRPath Patch, a Parameters resource, to a resource of a
// type and returns the result, which is at most bytesMax long. Neither text is
// changed or kept.
func FHIRPath(resource, parameters []byte, resourceType string, bytesMax int) ([]byte, error) {
	ops, err := parseParameters(parameters)
	if err != nil {
		return nil, err
	}
	root, err := parseTree(resource)
	if err != nil {
		return nil, err
	}
	d := document{root: root, budget: newBudget(bytesMax), resourceType: resourceType}
	for i, op := range ops {
		if err := d.applyOperation(op); err != nil {
			return nil, inOperation(i, err)
		}
	}
	return d.result()
}

// pathOperation is one operation of a FHIRPath Patch. Numbers are -1 when absent.
type pathOperation struct {
	kind, path, name           string
	value                      *node // the part with the value
	index, source, destination int
}

// parseParameters reads the operations of a Parameters resource.
func parseParameters(text []byte) ([]pathOperation, error) {
	root, err := parseTree(text)
	if err != nil {
		return nil, malformed("The patch is refused: %v.", err)
	}
	if !root.isObject() {
		return nil, malformed("A FHIRPath Patch is a Parameters resource.")
	}
	if name, err := root.get("resourceType"); err != nil || name == nil || name.str() != "Parameters" {
		return nil, malformed("A FHIRPath Patch is a Parameters resource.")
	}
	list, err := root.get("parameter")
	if err != nil || list != nil && !list.isArray() {
		return nil, malformed("The Parameters have no list 'parameter'.")
	}
	if len(elementsOf(list)) > operationsMax {
		return nil, tooLarge("The patch has %d operations; at most %d are allowed.", len(list.list()), operationsMax)
	}
	var ops []pathOperation
	for i, m := range elementsOf(list) {
		op, err := parsePathOperation(m.value)
		if err != nil {
			return nil, inOperation(i, err)
		}
		ops = append(ops, op)
	}
	return ops, nil
}

func parsePathOperation(n *node) (pathOperation, error) {
	op := pathOperation{index: -1, source: -1, destination: -1}
	if !n.isObject() {
		return op, malformed("It is not an object.")
	}
	if name, err := stringMember(n, "name"); err != nil || name != "operation" {
		return op, malformed("A parameter of a FHIRPath Patch has the name 'operation'.")
	}
	parts, err := n.get("part")
	if err != nil || parts == nil || !parts.isArray() {
		return op, malformed("It has no list 'part'.")
	}
	for _, m := range parts.list() {
		if err := op.read(m.value); err != nil {
			return op, err
		}
	}
	if op.kind == "" || op.path == "" {
		return op, malformed("It needs the parts 'type' and 'path'.")
	}
	return op, nil
}

// read takes up one part.
func (op *pathOperation) read(part *node) error {
	if !part.isObject() {
		return malformed("A part is not an object.")
	}
	name, err := stringMember(part, "name")
	if err != nil {
		return err
	}
	if name == "value" {
		op.value = part
		return nil
	}
	var text string
	for _, m := range part.list() {
		if len(m.key) > len("value") && m.key[:len("value")] == "value" {
			text = m.value.str()
		}
	}
	switch name {
	case "type":
		op.kind = text
	case "path":
		op.path = text
	case "name":
		op.name = text
	case "index":
		op.index, err = parseIndex(name, text)
	case "source":
		op.source, err = parseIndex(name, text)
	case "destination":
		op.destination, err = parseIndex(name, text)
	default:
		return malformed("The part '%s' is not one of a FHIRPath Patch.", name)
	}
	return err
}

func parseIndex(name, text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 31)
	if err != nil || n < 0 {
		return 0, malformed("The part '%s' is not a number of 0 or more.", name)
	}
	return int(n), nil
}

func (d *document) applyOperation(op pathOperation) error {
	p, err := parsePath(op.path, d.resourceType)
	if err != nil {
		return err
	}
	if op.value != nil {
		if err := d.spend(op.value.size()); err != nil {
			return err
		}
	}
	switch op.kind {
	case "add":
		return d.addAt(p, op)
	case "insert":
		return d.insertAt(p, op)
	case "delete":
		return d.deleteAt(p, op)
	case "replace":
		return d.replaceAt(p, op)
	case "move":
		return d.moveAt(p, op)
	}
	return malformed("The type '%s' is none of add, insert, delete, replace and move.", op.kind)
}

// one returns the element at a path, which must be a single one.
func (d *document) one(p path, op pathOperation) (item, error) {
	items, err := d.selectItems(p)
	if err != nil {
		return item{}, err
	}
	if len(items) != 1 {
		return item{}, notApplicable("The path '%s' finds %d elements, not one.", op.path, len(items))
	}
	return items[0], nil
}

// addAt adds a member to the element at the path.
func (d *document) addAt(p path, op pathOperation) error {
	if op.name == "" || op.value == nil {
		return malformed("'add' needs the parts 'name' and 'value'.")
	}
	it, err := d.one(p, op)
	if err != nil {
		return err
	}
	c, err := d.collection(it, op.name)
	if err != nil {
		return err
	}
	present, err := d.members(c.holder, c.name)
	if err != nil {
		return err
	}
	if c.element.List {
		return d.insertInto(c, op.value, len(present))
	}
	if len(present) > 0 {
		return notApplicable("The element '%s' is there already; use 'replace'.", op.name)
	}
	return d.setMember(c, op.value)
}

// collection is the place of a named member of an element.
func (d *document) collection(it item, name string) (collection, error) {
	typ, err := it.typeName()
	if err != nil {
		return collection{}, err
	}
	element, ok := structure.Of(typ, name)
	if !ok { // a choice, written with its type
		name, element, ok = structure.ByKey(typ, name)
		element.Choice = ok
	}
	if !ok {
		return collection{}, notApplicable("The type '%s' has no element of that name.", typ)
	}
	return collection{it, name, element}, nil
}

// insertAt inserts into the list at the path.
func (d *document) insertAt(p path, op pathOperation) error {
	if op.index < 0 || op.value == nil {
		return malformed("'insert' needs the parts 'index' and 'value'.")
	}
	c, present, err := d.listAt(p, op)
	if err != nil {
		return err
	}
	if op.index > len(present) {
		return notApplicable("The list '%s' has no place %d; it has %d elements.", op.path, op.index, len(present))
	}
	return d.insertInto(c, op.value, op.index)
}

// listAt is the list that a path ends at, and what is in it.
func (d *document) listAt(p path, op pathOperation) (collection, []item, error) {
	if len(p) == 0 || p[len(p)-1].kind != stepMember {
		return collection{}, nil, malformed("The path '%s' does not end with the name of a list.", op.path)
	}
	it, err := d.one(p[:len(p)-1], op)
	if err != nil {
		return collection{}, nil, err
	}
	c, err := d.collection(it, p[len(p)-1].name)
	if err != nil {
		return collection{}, nil, err
	}
	if !c.element.List {
		return collection{}, nil, notApplicable("The element '%s' is not a list.", op.path)
	}
	present, err := d.members(it, c.name)
	return c, present, err
}

// deleteAt removes the element at the path; none is no error.
func (d *document) deleteAt(p path, op pathOperation) error {
	items, err := d.selectItems(p)
	if err != nil || len(items) == 0 {
		return err
	}
	if len(items) > 1 {
		return notApplicable("The path '%s' finds %d elements, not one.", op.path, len(items))
	}
	it := items[0]
	if it.holder == nil {
		return notApplicable("The resource itself cannot be removed.")
	}
	if it.index < 0 {
		it.holder.removeKeys(map[string]bool{it.key: true, "_" + it.key: true})
		return nil
	}
	for _, key := range []string{it.key, "_" + it.key} {
		list, err := it.holder.get(key)
		if err != nil {
			return err
		}
		if it.index < len(elementsOf(list)) {
			list.remove(it.index)
		}
	}
	return nil
}

func (d *document) replaceAt(p path, op pathOperation) error {
	if op.value == nil {
		return malformed("'replace' needs the part 'value'.")
	}
	it, err := d.one(p, op)
	if err != nil {
		return err
	}
	if it.holder == nil {
		return notApplicable("The resource itself cannot be replaced by a patch.")
	}
	return d.replaceItem(it, op.value)
}

// moveAt moves an element inside the list at the path.
func (d *document) moveAt(p path, op pathOperation) error {
	if op.source < 0 || op.destination < 0 {
		return malformed("'move' needs the parts 'source' and 'destination'.")
	}
	c, present, err := d.listAt(p, op)
	if err != nil {
		return err
	}
	if op.source >= len(present) || op.destination >= len(present) {
		return notApplicable("The list '%s' has %d elements, so none can be moved from %d to %d.", op.path, len(present), op.source, op.destination)
	}
	for _, key := range []string{c.name, "_" + c.name} {
		list, err := c.holder.object().get(key)
		if err != nil {
			return err
		}
		if elementsOf(list) == nil {
			continue
		}
		padTo(list, len(present))
		list.insert(op.destination, list.remove(op.source))
	}
	return nil
}

// padTo fills a list with null, as lists have it whose places count.
func padTo(list *node, count int) {
	for len(list.list()) < count {
		list.insert(len(list.members), newNode([]byte("null")))
	}
}
