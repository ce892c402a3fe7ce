package index

import (
	"bytes"
	"math"
)

// MayContain asks the filter. No false negatives.
func (r *Run) MayContain(keyHash uint64) bool { return r.filter.mayContain(keyHash) }

// MayContainAmong appends the numbers of those hashes for which MayContain is
// true: one call for many keys.
func (r *Run) MayContainAmong(dst []uint32, keyHashes []uint64) []uint32 {
	return r.filter.among(dst, keyHashes)
}

// Lookup appends every version of key, highest VersionID first.
func (r *Run) Lookup(dst []Found, key []byte) ([]Found, error) {
	c := LookupCursor{r: r, block: -1}
	return c.Lookup(dst, key)
}

// LookupCursor is Lookup for many ascending keys: it keeps its key block.
func (r *Run) LookupCursor() *LookupCursor { return &LookupCursor{r: r, block: -1} }

// LookupCursor remembers where the last lookup ended. Not safe for concurrent use.
type LookupCursor struct {
	r       *Run
	block   int // -1: none
	entries tableCursor
	on      bool   // entries stands on an entry
	last    []byte // key of the last lookup in this block
}

// Lookup appends every version of key, highest VersionID first. It is fastest
// when keys ascend, and right in any order.
func (c *LookupCursor) Lookup(dst []Found, key []byte) ([]Found, error) {
	return c.Highest(dst, key, math.MaxInt)
}

// Highest is Lookup of so many versions at most, those with the highest
// VersionIDs. The rest of a long history is not read.
func (c *LookupCursor) Highest(dst []Found, key []byte, most int) ([]Found, error) {
	r := c.r
	most = len(dst) + min(most, math.MaxInt-len(dst))
	if r.keys.count() == 0 || bytes.Compare(key, r.keyMin) < 0 || bytes.Compare(key, r.keyMax) > 0 {
		return dst, nil
	}
	block := c.block
	if block >= 0 && c.on && bytes.Compare(key, c.entries.key) < 0 && bytes.Compare(key, c.last) > 0 {
		return dst, nil // between the last one and what follows it
	}
	if block < 0 || !r.startsIn(key, block) {
		block = r.keys.seek(key)
	}
	for ; ; block++ {
		if err := c.enter(block); err != nil {
			return dst, err
		}
		var ok bool
		if dst, ok = c.collect(dst, key, most); !ok {
			return dst, r.impossible(blockKeys, r.keys, block)
		}
		if c.on || len(dst) == most || block+1 == r.keys.count() || bytes.Compare(r.keys.separator(block+1), key) > 0 {
			return dst, nil
		}
	}
}

// startsIn tells whether block is where seek would begin.
func (r *Run) startsIn(key []byte, block int) bool {
	if block > 0 && bytes.Compare(key, r.keys.separator(block)) <= 0 {
		return false
	}
	return block+1 == r.keys.count() || bytes.Compare(key, r.keys.separator(block+1)) <= 0
}

func (c *LookupCursor) enter(block int) error {
	if c.block == block {
		return nil
	}
	b, err := c.r.block(blockKeys, c.r.keys, block)
	if err != nil {
		return err
	}
	if !c.entries.open(b.payload, skipKeyPayload) {
		return c.r.impossible(blockKeys, c.r.keys, block)
	}
	c.block, c.on, c.last = block, false, c.last[:0]
	return nil
}

// collect appends the key's versions in this block until there are most in dst;
// on tells whether an entry follows in it. ok is false for a damaged block.
func (c *LookupCursor) collect(dst []Found, key []byte, most int) (found []Found, ok bool) {
	c.on = c.seek(key)
	c.last = append(c.last[:0], key...)
	for len(dst) < most && c.on && bytes.Equal(c.entries.key, key) {
		f, ok := parseKeyPayload(c.entries.payload, c.r.footer.meta.Rows)
		if !ok {
			c.block = -1
			return dst, false
		}
		dst = append(dst, f)
		c.on = c.entries.next()
	}
	if c.entries.bad {
		c.block = -1
		return dst, false
	}
	return dst, true
}

// seek moves to the first entry with a key >= key. Where keys ascend in small
// steps it walks from where the last lookup ended.
func (c *LookupCursor) seek(key []byte) bool {
	if !c.on || bytes.Compare(key, c.last) <= 0 {
		return c.entries.seekGE(key)
	}
	for range tableRestartEvery {
		if bytes.Compare(c.entries.key, key) >= 0 {
			return true
		}
		if !c.entries.next() {
			return false
		}
	}
	return c.entries.seekGE(key)
}
