package index

import (
	"bytes"
	"encoding/binary"
)

// The payload of a block of the key or term table:
//
//	+-------------------------------+------------------+-------+
//	| entries, ascending            | restarts, u16 ×n | n u16 |
//	+-------------------------------+------------------+-------+
//
// and an entry:
//
//	+-----------------+---------------------------+--------+---------+
//	| shared|unshared | uvarint × 2 when 0xff     | suffix | payload |
//	|  4 bit | 4 bit  | (one of them 15 or more)  |        |         |
//	+-----------------+---------------------------+--------+---------+
//
// The key is the first `shared` bytes of the key before and the suffix; at a
// restart shared is 0. Restarts are offsets of entries. The payload delimits
// itself: version and ordinal (key table), or postings (term table).
const tableEntryEscape = 0xff

// tableBlock collects the entries of one block.
type tableBlock struct {
	buf      []byte
	restarts []uint16
	count    int
	last     []byte // the last key
}

func (t *tableBlock) reset() {
	t.buf, t.restarts, t.count, t.last = t.buf[:0], t.restarts[:0], 0, t.last[:0]
}

// full says that the next entry belongs into another block.
func (t *tableBlock) full() bool { return len(t.buf)+2*len(t.restarts) >= tableBlockBytes }

// add begins an entry; the caller appends the payload to buf. Keys ascend;
// equal ones may follow each other.
func (t *tableBlock) add(key []byte) {
	shared := 0
	if t.count%tableRestartEvery == 0 {
		t.restarts = append(t.restarts, uint16(len(t.buf)))
	} else {
		shared = sharedPrefix(t.last, key)
	}
	unshared := len(key) - shared
	if shared < 15 && unshared < 15 {
		t.buf = append(t.buf, byte(shared<<4|unshared))
	} else {
		t.buf = append(t.buf, tableEntryEscape)
		t.buf = binary.AppendUvarint(t.buf, uint64(shared))
		t.buf = binary.AppendUvarint(t.buf, uint64(unshared))
	}
	t.buf = append(t.buf, key[shared:]...)
	t.last = append(t.last[:shared], key[shared:]...)
	t.count++
}

// finish appends the restarts; the payload is valid until reset.
func (t *tableBlock) finish() []byte {
	for _, at := range t.restarts {
		t.buf = binary.LittleEndian.AppendUint16(t.buf, at)
	}
	t.buf = binary.LittleEndian.AppendUint16(t.buf, uint16(len(t.restarts)))
	return t.buf
}

func sharedPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for i+8 <= n && binary.LittleEndian.Uint64(a[i:]) == binary.LittleEndian.Uint64(b[i:]) {
		i += 8
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// tableCursor walks the entries of one block's payload forwards. skipPayload tells
// the length of the payload at the front of b, or -1.
type tableCursor struct {
	entries     []byte
	restarts    []byte
	skipPayload func(b []byte) int
	at          int // offset of the next entry
	key         []byte
	payload     []byte
	bad         bool
}

// open begins at the first entry; ok is false for a damaged block.
func (c *tableCursor) open(block []byte, skipPayload func([]byte) int) bool {
	c.key, c.payload, c.at, c.bad, c.skipPayload = c.key[:0], nil, 0, false, skipPayload
	c.entries, c.restarts = nil, nil
	if len(block) < 2 {
		c.bad = true
		return false
	}
	n := int(binary.LittleEndian.Uint16(block[len(block)-2:]))
	end := len(block) - 2 - 2*n
	if n == 0 || end < 0 {
		c.bad = true
		return false
	}
	c.entries, c.restarts = block[:end], block[end:len(block)-2]
	return true
}

// next decodes the next entry into key and payload; false at the end, or when
// the block is damaged, which sets bad.
func (c *tableCursor) next() bool {
	if c.at >= len(c.entries) {
		return false
	}
	b := c.entries[c.at:]
	head := b[0]
	shared, unshared, n := int(head>>4), int(head&15), 1
	if head == tableEntryEscape {
		r := byteReader{b: b[1:]}
		s, u := r.uvarint(), r.uvarint()
		if r.bad || s > uint64(len(c.key)) || u > uint64(len(r.b)) {
			return c.fail()
		}
		shared, unshared, n = int(s), int(u), len(b)-len(r.b)
	}
	if shared > len(c.key) || n+unshared > len(b) {
		return c.fail()
	}
	c.key = append(c.key[:shared], b[n:n+unshared]...)
	n += unshared
	size := c.skipPayload(b[n:])
	if size < 0 {
		return c.fail()
	}
	c.payload = b[n : n+size : n+size]
	c.at += n + size
	return true
}

func (c *tableCursor) fail() bool {
	c.bad = true
	c.at = len(c.entries)
	return false
}

// seekGE moves to the first entry with a key >= key; false when there is none
// in this block, or when it is damaged.
func (c *tableCursor) seekGE(key []byte) bool {
	lo, hi := 0, len(c.restarts)/2 // the restarts before lo have a key < key, from hi on >=
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		k, ok := c.restartKey(mid)
		if !ok {
			return c.fail()
		}
		if bytes.Compare(k, key) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	c.at, c.key = 0, c.key[:0]
	if lo > 0 {
		c.at = c.restart(lo - 1)
	}
	return c.scanGE(key)
}

// scanGE is seekGE from where the cursor stands.
func (c *tableCursor) scanGE(key []byte) bool {
	for c.next() {
		if bytes.Compare(c.key, key) >= 0 {
			return true
		}
	}
	return false
}

func (c *tableCursor) restartCount() int { return len(c.restarts) / 2 }

// part is a cursor over the entries from a restart up to the next one; ok is false
// when the restarts are damaged.
func (c *tableCursor) part(i int) (p tableCursor, ok bool) {
	end := len(c.entries)
	if i+1 < c.restartCount() {
		end = c.restart(i + 1)
	}
	at := c.restart(i)
	if at >= end || end > len(c.entries) {
		return tableCursor{bad: true}, false
	}
	return tableCursor{entries: c.entries[:end], restarts: c.restarts, skipPayload: c.skipPayload, at: at}, true
}

func (c *tableCursor) restart(i int) int {
	return int(binary.LittleEndian.Uint16(c.restarts[2*i:]))
}

// restartKey gives the whole key of the entry at restart i.
func (c *tableCursor) restartKey(i int) (key []byte, ok bool) {
	at := c.restart(i)
	if at >= len(c.entries) {
		return nil, false
	}
	r := byteReader{b: c.entries[at+1:]}
	head := c.entries[at]
	shared, unshared := uint64(head>>4), uint64(head&15)
	if head == tableEntryEscape {
		shared, unshared = r.uvarint(), r.uvarint()
	}
	key = r.take(unshared)
	return key, shared == 0 && !r.bad
}

// separator gives the shortest prefix of next that is greater than last, or
// next itself when both are equal: it tells the blocks that they end and begin apart.
func separator(last, next []byte) []byte {
	return next[:min(len(next), sharedPrefix(last, next)+1)]
}
