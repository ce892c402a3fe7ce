package index

import (
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

const (
	cacheShards = 16
	// cacheEntryCost is what an entry takes beside its bytes.
	cacheEntryCost = 160
	bodyEntryBytes = 24
)

// Cache holds decoded blocks of all runs, bounded by bytes: least recently used
// ones go first. Columns of fields take up to a columnShare-th more. Safe for concurrent use. Evicted blocks live on as long as
// somebody holds slices of them.
type Cache struct {
	decoder *zstd.Decoder
	spaces  atomic.Uint64
	columns *columnCache // beside the blocks
	shards  [cacheShards]cacheShard
}

// cachedBlock is one decoded block; it never changes.
type cachedBlock struct {
	payload []byte
	entries []bodyEntry // bodies only
}

type cacheKey struct {
	space  uint64 // of one open run
	offset int64
}

type cacheShard struct {
	mu       sync.Mutex // guards all below
	entries  map[cacheKey]*cacheEntry
	bytes    int64
	bytesMax int64
	hits     uint64
	misses   uint64
	ring     cacheEntry // newest is next, oldest prev
}

type cacheEntry struct {
	key        cacheKey
	block      *cachedBlock
	next, prev *cacheEntry
}

// NewCache makes a cache for about bytesMax bytes; 0 keeps nothing.
func NewCache(bytesMax int64) *Cache {
	c := &Cache{decoder: newDecoder(0), columns: newColumnCache(bytesMax)}
	for i := range c.shards {
		s := &c.shards[i]
		s.entries, s.bytesMax = map[cacheKey]*cacheEntry{}, bytesMax/cacheShards
		s.ring.next, s.ring.prev = &s.ring, &s.ring
	}
	return c
}

// CacheStats is what a cache holds, about, and how often a block was found in it or
// not since it was made. Columns are not in it.
type CacheStats struct {
	Bytes, BytesMax int64
	Hits, Misses    uint64
}

// Stats of the cache as it is now.
func (c *Cache) Stats() (st CacheStats) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		st.Bytes += s.bytes
		st.BytesMax += s.bytesMax
		st.Hits += s.hits
		st.Misses += s.misses
		s.mu.Unlock()
	}
	return st
}

// newSpace gives an open run keys of its own, so that a run that is opened
// again is read again.
func (c *Cache) newSpace() uint64 { return c.spaces.Add(1) }

func (c *Cache) shard(k cacheKey) *cacheShard {
	h := (uint64(k.offset) ^ k.space<<40) * 0x9E3779B97F4A7C15
	return &c.shards[h>>60]
}

func (c *Cache) get(k cacheKey) *cachedBlock {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	if e == nil {
		s.misses++
		return nil
	}
	s.hits++
	e.unlink()
	e.linkAfter(&s.ring)
	return e.block
}

func (c *Cache) put(k cacheKey, b *cachedBlock) {
	s := c.shard(k)
	cost := b.cost()
	if cost > s.bytesMax/2 { // it would drive out everything else
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[k] != nil { // read twice at the same time
		return
	}
	e := &cacheEntry{key: k, block: b}
	s.entries[k] = e
	e.linkAfter(&s.ring)
	for s.bytes += cost; s.bytes > s.bytesMax; {
		s.remove(s.ring.prev)
	}
}

// drop forgets the blocks and columns of a space.
func (c *Cache) drop(space uint64) {
	c.columns.drop(space)
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for e := s.ring.next; e != &s.ring; {
			next := e.next
			if e.key.space == space {
				s.remove(e)
			}
			e = next
		}
		s.mu.Unlock()
	}
}

// remove needs mu.
func (s *cacheShard) remove(e *cacheEntry) {
	e.unlink()
	delete(s.entries, e.key)
	s.bytes -= e.block.cost()
}

func (b *cachedBlock) cost() int64 {
	return int64(cap(b.payload)) + int64(bodyEntryBytes*cap(b.entries)) + cacheEntryCost
}

func (e *cacheEntry) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
}

func (e *cacheEntry) linkAfter(at *cacheEntry) {
	e.prev, e.next = at, at.next
	at.next.prev, at.next = e, e
}
