package index

// tableWriter writes the blocks of a sorted table and their index.
type tableWriter struct {
	out   *fileWriter
	kind  blockKind
	block tableBlock
	index blockIndex
	begin []byte // separator of the open block
	first []byte // first and last key of the table
	last  []byte
	count uint64
}

// add begins an entry; the caller appends its payload to t.block.buf.
func (t *tableWriter) add(key []byte) error {
	if t.count == 0 {
		t.first = append(t.first[:0], key...)
	}
	if t.block.full() {
		if err := t.closeBlock(); err != nil {
			return err
		}
		t.begin = append(t.begin[:0], separator(t.last, key)...)
	}
	t.block.add(key)
	t.last = append(t.last[:0], key...)
	t.count++
	return nil
}

func (t *tableWriter) closeBlock() error {
	if t.block.count == 0 {
		return nil
	}
	offset, length, err := t.out.block(t.kind, t.block.finish())
	if err != nil {
		return err
	}
	t.index.addSeparated(offset, length, t.begin)
	t.block.reset()
	return nil
}
