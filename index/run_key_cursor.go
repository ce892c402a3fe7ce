package index

// KeyCursor walks the key table in key order; the versions of one key come
// highest VersionID first.
func (r *Run) KeyCursor() *RunKeyCursor { return &RunKeyCursor{r: r, block: -1} }

// RunKeyCursor walks a run's keys. Next moves; Key and Found hold until the
// next move. Not safe for concurrent use.
type RunKeyCursor struct {
	r       *Run
	block   int // -1: before the first
	entries tableCursor
	found   Found
	err     error
}

// Next advances; false at the end or at damage, which Err tells.
func (c *RunKeyCursor) Next() bool {
	for c.err == nil {
		if c.block >= 0 && c.entries.next() {
			found, ok := parseKeyPayload(c.entries.payload, c.r.footer.meta.Rows)
			if !ok {
				c.err = c.r.impossible(blockKeys, c.r.keys, c.block)
				return false
			}
			c.found = found
			return true
		}
		if c.block >= 0 && c.entries.bad {
			c.err = c.r.impossible(blockKeys, c.r.keys, c.block)
			return false
		}
		if c.block+1 >= c.r.keys.count() {
			return false
		}
		c.block++
		c.enter()
	}
	return false
}

func (c *RunKeyCursor) enter() {
	b, err := c.r.block(blockKeys, c.r.keys, c.block)
	if err != nil {
		c.err = err
		return
	}
	if !c.entries.open(b.payload, skipKeyPayload) {
		c.err = c.r.impossible(blockKeys, c.r.keys, c.block)
	}
}

// Key is the key of the row, as AppendKey made it.
func (c *RunKeyCursor) Key() []byte { return c.entries.key }

// Found is the row.
func (c *RunKeyCursor) Found() Found { return c.found }

// Err is the damage or failure that ended the walk.
func (c *RunKeyCursor) Err() error { return c.err }
