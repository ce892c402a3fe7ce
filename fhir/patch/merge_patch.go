package patch

// Merge applies a JSON Merge Patch (RFC 7396) to a resource and returns the
// result, which is at most bytesMax long. Neither text is changed or kept.
func Merge(resource, patch []byte, bytesMax int) ([]byte, error) {
	changes, err := parseTree(patch)
	if err != nil {
		return nil, malformed("The patch is refused: %v.", err)
	}
	if !changes.isObject() {
		return nil, malformed("A merge patch for a resource is an object.")
	}
	root, err := parseTree(resource)
	if err != nil {
		return nil, err
	}
	d := document{root: root, budget: newBudget(bytesMax)}
	if err := d.merge(d.root, changes); err != nil {
		return nil, err
	}
	return d.result()
}

// merge is MergePatch of RFC 7396 section 2 for an object.
func (d *document) merge(n, changes *node) error {
	if err := d.spend(len(changes.text)); err != nil {
		return err
	}
	seen := make(map[string]bool, len(changes.list()))
	places := make(map[string]int, len(n.list()))
	for i, m := range n.list() {
		if _, twice := places[m.key]; twice {
			return notApplicable("The key '%s' is there twice.", m.key)
		}
		places[m.key] = i
	}
	removed := map[string]bool{}
	for _, m := range changes.list() {
		if seen[m.key] {
			return malformed("The patch has the key '%s' twice.", m.key)
		}
		seen[m.key] = true
		if m.value.isNull() {
			removed[m.key] = true
			continue
		}
		at, ok := places[m.key]
		if !ok {
			at = len(n.members)
			n.members = append(n.members, member{quoted: m.quoted, key: m.key, value: newNode([]byte("null"))})
		}
		if err := d.mergeValue(&n.members[at], m.value); err != nil {
			return err
		}
	}
	n.removeKeys(removed)
	return nil
}

func (d *document) mergeValue(m *member, change *node) error {
	if !change.isObject() {
		m.value = change
		return nil
	}
	if !m.value.isObject() {
		m.value = newNode([]byte("{}"))
	}
	return d.merge(m.value, change)
}
