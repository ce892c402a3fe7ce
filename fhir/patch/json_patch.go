package patch

// JSON applies a JSON Patch (RFC 6902) to a resource and returns the result,
// which is at most bytesMax long. Neither text is changed or kept.
func JSON(resource, patch []byte, bytesMax int) ([]byte, error) {
	ops, err := parseTree(patch)
	if err != nil {
		return nil, malformed("The patch is refused: %v.", err)
	}
	if !ops.isArray() {
		return nil, malformed("A JSON Patch is an array of operations.")
	}
	if len(ops.list()) > operationsMax {
		return nil, tooLarge("The patch has %d operations; at most %d are allowed.", len(ops.list()), operationsMax)
	}
	root, err := parseTree(resource)
	if err != nil {
		return nil, err
	}
	d := document{root: root, budget: newBudget(bytesMax)}
	for i, op := range ops.list() {
		if err := d.apply(op.value); err != nil {
			return nil, inOperation(i, err)
		}
	}
	return d.result()
}

// document is a resource that is being patched.
type document struct {
	root         *node
	resourceType string // for FHIRPath Patch
	budget
}

func (d *document) result() ([]byte, error) {
	if !d.root.isObject() {
		return nil, notApplicable("The result is not an object.")
	}
	d.root.prune(false)
	size := d.root.size()
	if size > d.bytesMax {
		return nil, tooLarge("The result has %d bytes; at most %d are allowed.", size, d.bytesMax)
	}
	return d.root.append(make([]byte, 0, size)), nil
}

// jsonOperation is one operation of a JSON Patch.
type jsonOperation struct {
	name       string
	path, from pointer
	value      *node
}

func (d *document) apply(n *node) error {
	op, err := parseOperation(n)
	if err != nil {
		return err
	}
	if op.value != nil {
		if err := d.spend(len(op.value.text)); err != nil {
			return err
		}
	}
	switch op.name {
	case "add":
		return d.add(op.path, op.value)
	case "remove":
		_, err := d.take(op.path)
		return err
	case "replace":
		return d.replace(op.path, op.value)
	case "move":
		return d.move(op.from, op.path)
	case "copy":
		return d.copyTo(op.from, op.path)
	default:
		return d.test(op.path, op.value)
	}
}

func parseOperation(n *node) (op jsonOperation, err error) {
	if !n.isObject() {
		return op, malformed("It is not an object.")
	}
	if op.name, err = stringMember(n, "op"); err != nil {
		return op, err
	}
	needsValue, needsFrom := false, false
	switch op.name {
	case "add", "replace", "test":
		needsValue = true
	case "move", "copy":
		needsFrom = true
	case "remove":
	default:
		return op, malformed("The operation '%s' is none of add, remove, replace, move, copy and test.", op.name)
	}
	if op.path, err = pointerMember(n, "path"); err != nil {
		return op, err
	}
	if needsFrom {
		if op.from, err = pointerMember(n, "from"); err != nil {
			return op, err
		}
	}
	if needsValue {
		if op.value, err = n.get("value"); err != nil || op.value == nil {
			return op, malformed("It has no 'value', or two.")
		}
	}
	return op, nil
}

func stringMember(n *node, key string) (string, error) {
	value, err := n.get(key)
	if err != nil || value == nil || !value.isString() {
		return "", malformed("'%s' has to be there once and to be a string.", key)
	}
	return value.str(), nil
}

func pointerMember(n *node, key string) (pointer, error) {
	text, err := stringMember(n, key)
	if err != nil {
		return nil, err
	}
	return parsePointer(text)
}

// at follows a pointer to a value that must be there.
func (d *document) at(p pointer) (*node, error) {
	n := d.root
	for i, token := range p {
		next, err := d.step(n, token)
		if err != nil {
			return nil, err
		}
		if next == nil {
			return nil, notApplicable("There is nothing at the path '%s'.", p[:i+1])
		}
		n = next
	}
	return n, nil
}

// step returns the value that a token leads to; nil: there is none.
func (d *document) step(n *node, token string) (*node, error) {
	if !n.open {
		if err := d.spend(len(n.text)); err != nil {
			return nil, err
		}
	}
	if err := d.spend(len(n.list())); err != nil {
		return nil, err
	}
	switch {
	case n.isObject():
		return n.get(token)
	case n.isArray():
		i, err := elementIndex(token, len(n.list()))
		if err != nil || i == len(n.list()) {
			return nil, err
		}
		return n.list()[i].value, nil
	}
	return nil, nil
}

// parent follows a pointer that is not empty to all but its last token.
func (d *document) parent(p pointer) (*node, string, error) {
	n, err := d.at(p[:len(p)-1])
	if err != nil {
		return nil, "", err
	}
	if !n.isObject() && !n.isArray() {
		return nil, "", notApplicable("The value at the path '%s' has no members.", p[:len(p)-1])
	}
	return n, p[len(p)-1], d.spend(len(n.list()))
}

func (d *document) add(p pointer, value *node) error {
	if len(p) == 0 {
		d.root = value.copy()
		return nil
	}
	n, last, err := d.parent(p)
	if err != nil {
		return err
	}
	if n.isObject() {
		return n.set(last, value.copy())
	}
	i, err := elementIndex(last, len(n.list()))
	if err != nil {
		return err
	}
	n.insert(i, value.copy())
	return nil
}

// take removes the value at a path and returns it.
func (d *document) take(p pointer) (*node, error) {
	if len(p) == 0 {
		return nil, notApplicable("The resource itself cannot be removed.")
	}
	n, last, err := d.parent(p)
	if err != nil {
		return nil, err
	}
	var i int
	if n.isObject() {
		if i, err = n.find(last); err == nil && i < 0 {
			err = notApplicable("There is nothing at the path '%s'.", p)
		}
	} else if i, err = elementIndex(last, len(n.list())); err == nil && i == len(n.list()) {
		err = notApplicable("There is nothing at the path '%s'.", p)
	}
	if err != nil {
		return nil, err
	}
	return n.remove(i), nil
}

func (d *document) replace(p pointer, value *node) error {
	n, err := d.at(p)
	if err != nil {
		return err
	}
	*n = *value.copy()
	return nil
}

func (d *document) move(from, to pointer) error {
	if to.within(from) {
		return notApplicable("A value cannot be moved into itself.")
	}
	value, err := d.take(from)
	if err != nil {
		return err
	}
	if err := d.spend(value.size()); err != nil {
		return err
	}
	return d.add(to, value)
}

func (d *document) copyTo(from, to pointer) error {
	value, err := d.at(from)
	if err != nil {
		return err
	}
	if err := d.spend(value.size()); err != nil {
		return err
	}
	return d.add(to, value)
}

func (d *document) test(p pointer, want *node) error {
	got, err := d.at(p)
	if err != nil {
		return err
	}
	if err := d.spend(got.size()); err != nil {
		return err
	}
	if !equal(got, want) {
		return notApplicable("The value at the path '%s' is not the one that is tested for.", p)
	}
	return nil
}
