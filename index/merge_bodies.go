package index

// bodies copies the body blocks.
func (m *merger) bodies() error {
	var index blockIndex
	for _, in := range m.inputs {
		if err := m.copyBodies(&index, in); err != nil {
			return err
		}
	}
	var err error
	m.footer.sections[sectionBodies], err = m.out.section(blockBodyIndex, index.append(nil, indexBodies))
	return err
}

func (m *merger) copyBodies(index *blockIndex, in *mergeInput) error {
	r := in.Run
	blocks := make([]int, r.bodies.count())
	for i := range blocks {
		blocks[i] = i
	}
	for len(blocks) > 0 {
		n := r.neighbours(blocks, mergeReadBytes)
		base, last := r.bodies.offsets[blocks[0]], blocks[n-1]
		length := int(r.bodies.offsets[last] + int64(r.bodies.lengths[last]) - base)
		m.disk = roomFor(m.disk, length)
		if err := r.readAt(m.disk, base); err != nil {
			return err
		}
		for _, i := range blocks[:n] {
			at := r.bodies.offsets[i] - base
			if err := m.copyBlock(index, in, i, m.disk[at:at+int64(r.bodies.lengths[i])]); err != nil {
				return err
			}
		}
		if err := m.step(length); err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	return nil
}

// copyBlock copies body block i of an input, without what is void.
func (m *merger) copyBlock(index *blockIndex, in *mergeInput, i int, disk []byte) error {
	r := in.Run
	checked, what := checkBlock(disk, r.footer.meta.ID, r.bodies.offsets[i], blockBodies)
	if what != "" {
		return corrupt(r.name, r.bodies.offsets[i], what)
	}
	first, end := r.bodies.first[i], r.bodies.first[i+1]
	var offset int64
	var length int
	var err error
	if in.void != nil && in.void.IntersectsWithInterval(uint64(first), uint64(end)) {
		offset, length, err = m.rewritten(in, i, checked)
	} else {
		offset, length, err = m.out.copied(blockBodies, checked)
	}
	if err != nil {
		return err
	}
	index.addRows(offset, length, int(end-first))
	return nil
}

// rewritten writes a body block anew, with nothing where void rows were: what
// was purged must be gone, and not only unread.
func (m *merger) rewritten(in *mergeInput, i int, checked checkedBlock) (offset int64, length int, err error) {
	var b cachedBlock
	if err := in.Run.decodeBodies(&b, checked, i); err != nil {
		return 0, 0, err
	}
	m.raw = m.raw[:0]
	for j := range b.entries {
		e := &b.entries[j]
		if in.void.Contains(in.Run.bodies.first[i] + uint32(j)) {
			m.footer.meta.BodyBytesRaw -= int64(e.length)
			*e = bodyEntry{}
			continue
		}
		m.raw = append(m.raw, e.stored(b.payload).Body...)
	}
	m.raw = appendBodyEntries(m.raw, b.entries)
	if m.enc == nil {
		m.enc = newEncoder()
	}
	return m.out.compressed(blockBodies, m.enc, m.raw)
}
