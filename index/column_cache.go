package index

import "sync"

// columnCache holds the columns of all runs' fields, bounded by bytes, and how
// many terms of which fields were walked. Walking a field as often as it has terms
// costs as much as making its column, so at that point one is made: columns never
// cost more than what was spent before, and nothing where nobody asks.
type columnCache struct {
	bytesMax int64
	mu       sync.Mutex // guards all below
	fields   map[columnKey]*columnEntry
	bytes    int64
	clock    uint64 // of uses
}

type columnKey struct {
	space uint64 // of one open run
	param Param
}

type columnEntry struct {
	column *FieldColumn // nil: none
	bytes  int64
	walked uint64 // terms, while there is none
	busy   bool   // one is being made
	never  bool   // it cannot be made, or is too large
	used   uint64
}

const (
	// columnShare of the cache's bytes is what columns may take beside it.
	columnShare = 4
	// columnBytesShare of that is what one column may take.
	columnBytesShare = 2
	// columnTermsPerBlock is about how many terms a block has, on the low side.
	columnTermsPerBlock = 64
	// columnTermsMin walked terms are not worth a column.
	columnTermsMin = 512
	// columnFieldsMax bounds what is remembered of fields without a column.
	columnFieldsMax = 1 << 14
)

func newColumnCache(cacheBytesMax int64) *columnCache {
	return &columnCache{bytesMax: cacheBytesMax / columnShare, fields: map[columnKey]*columnEntry{}}
}

// get gives a column; nil: there is none.
func (c *columnCache) get(k columnKey) *FieldColumn {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.fields[k]
	if e == nil || e.column == nil {
		return nil
	}
	c.clock++
	e.used = c.clock
	return e.column
}

// walked counts terms that were walked; true: the caller makes the column now,
// and then calls put. blocks is how many the field has.
func (c *columnCache) walked(k columnKey, terms, blocks uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.fields[k]
	if e == nil {
		if len(c.fields) >= columnFieldsMax {
			c.forgetWalks()
		}
		e = &columnEntry{}
		c.fields[k] = e
	}
	e.walked += terms
	if e.never || e.busy || e.column != nil || e.walked < max(columnTermsMin, blocks*columnTermsPerBlock) {
		return false
	}
	e.busy = true
	return true
}

// forgetWalks needs mu.
func (c *columnCache) forgetWalks() {
	for k, e := range c.fields {
		if e.column == nil && !e.busy {
			delete(c.fields, k)
		}
	}
}

// put ends what walked began; column is nil when there is none, for good or, with
// again, only this time. The least used columns make room.
func (c *columnCache) put(k columnKey, column *FieldColumn, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.fields[k]
	if e == nil {
		return // the run was closed meanwhile
	}
	e.busy, e.never, e.walked = false, column == nil && !again, 0
	if column == nil {
		return
	}
	c.clock++
	e.column, e.bytes, e.used = column, column.memoryBytes(), c.clock
	for c.bytes += e.bytes; c.bytes > c.bytesMax; {
		oldest := k
		for other, o := range c.fields {
			if o.column != nil && o.used < c.fields[oldest].used {
				oldest = other
			}
		}
		c.remove(oldest)
	}
}

// remove needs mu.
func (c *columnCache) remove(k columnKey) {
	e := c.fields[k]
	c.bytes -= e.bytes
	delete(c.fields, k)
}

// drop forgets a run's columns.
func (c *columnCache) drop(space uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.fields {
		if k.space == space {
			c.remove(k)
		}
	}
}

// Column gives the column of a field, when there is one.
func (r *Run) Column(p Param) *FieldColumn {
	if r.cache == nil {
		return nil
	}
	return r.cache.columns.get(columnKey{r.space, p})
}

// Walked tells that so many of a field's terms were read one by one. Now and then
// it makes the field's column. Errors are those of reading and of check.
func (r *Run) Walked(p Param, terms uint64, check func() error) error {
	if r.cache == nil || terms == 0 {
		return nil
	}
	k, columns := columnKey{r.space, p}, r.cache.columns
	if !columns.walked(k, terms, r.WalkCost(&Walk{Param: p})) {
		return nil
	}
	column, err := r.buildColumn(p, columns.bytesMax/columnBytesShare, check)
	columns.put(k, column, err != nil)
	return err
}
