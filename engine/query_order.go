package engine

import (
	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/index"
)

// stream gives a source's matches in order. It is evaluated when its turn comes:
// a page that is full before does not pay for it.
type stream struct {
	src  *source
	from uint32 // the first row that is wanted
	rows roaring.IntPeekable
	// lsn is that of the next row; before rows is made, not above it.
	lsn    uint64
	done   bool
	enough uint64 // rows to find at once; 0: all
}

// streams opens all sources behind a cursor.
func (s *searching) streams(at *cursorPlace) ([]*stream, error) {
	var streams []*stream
	for _, src := range s.sources {
		from, err := src.startAfter(at)
		if err != nil {
			return nil, err
		}
		if from >= src.rows {
			continue
		}
		lsn, err := src.firstLSN()
		if err != nil {
			return nil, err
		}
		if at != nil {
			lsn = max(lsn, at.lsn)
		}
		if lsn <= s.asOf {
			streams = append(streams, &stream{src: src, from: from, lsn: lsn})
		}
	}
	return streams, nil
}

// enoughGrowth: where a page's matches were too few, since some were not current,
// so many times more are found at once.
const enoughGrowth = 8

// open evaluates the source, as far as a page needs.
func (t *stream) open(s *searching) error {
	if t.enough = 0; s.q.Limit > 0 {
		t.enough = uint64(s.q.Limit) + 1
	}
	return t.find(s)
}

// find evaluates the source from the first row that is wanted.
func (t *stream) find(s *searching) error {
	if err := s.evaluateFrom(t.src, t.from, t.enough); err != nil {
		return err
	}
	t.rows = t.src.matches.Iterator()
	t.rows.AdvanceIfNeeded(t.from)
	return t.settle(s)
}

// settle reads the next row's LSN.
func (t *stream) settle(s *searching) (err error) {
	switch {
	case t.rows.HasNext():
	case t.src.cut:
		t.from, t.enough = t.src.matches.Maximum()+1, t.enough*enoughGrowth
		return t.find(s)
	default:
		t.done = true
		return nil
	}
	t.lsn, err = t.src.lsn(t.rows.PeekNext())
	return err
}

// next is the stream whose row comes next; nil at the end.
func (s *searching) next(streams []*stream) (*stream, error) {
	for {
		var best *stream
		for _, t := range streams { // in the order of sources, which decides between equals
			if !t.done && (best == nil || t.lsn < best.lsn) {
				best = t
			}
		}
		if best == nil || best.rows != nil {
			return best, nil
		}
		if err := best.open(s); err != nil {
			return nil, err
		}
	}
}

// inStoreOrder delivers a page in the store's order.
func (s *searching) inStoreOrder(fn func(*Version) error) (page Page, err error) {
	page = Page{AsOf: s.asOf, Next: s.q.After}
	defer s.last.end(&page)
	at, err := s.findCursor()
	if err != nil {
		return page, err
	}
	streams, err := s.streams(at)
	if err != nil {
		return page, err
	}
	for delivered := 0; ; {
		if err := s.check(); err != nil {
			return page, err
		}
		t, err := s.next(streams)
		if t == nil || err != nil {
			return page, err
		}
		o := t.rows.Next()
		if err := t.settle(s); err != nil {
			return page, err
		}
		if ok, err := s.isMatch(t.src, o); err != nil {
			return page, err
		} else if !ok {
			continue
		}
		if s.q.Limit > 0 && delivered == s.q.Limit {
			page.More = true
			return page, nil
		}
		if err := s.deliver(t.src, o, fn); err != nil {
			return page, err
		}
		delivered++
	}
}

// deliver reads a version and gives it to fn.
func (s *searching) deliver(src *source, o uint32, fn func(*Version) error) error {
	v, err := src.read(s.n, o)
	if err != nil {
		return err
	}
	if err := fn(&v); err != nil {
		return err
	}
	s.last.typ, s.last.version, s.last.id = v.Type, v.VersionID, v.ID
	return nil
}

// delivered is the last version that was delivered.
type delivered struct {
	typ     fhir.TypeCode // 0: none was
	version int64
	id      []byte
}

// end makes the page's Next.
func (d *delivered) end(page *Page) {
	if d.typ != 0 {
		page.Next = Cursor{typ: d.typ, version: d.version, id: string(d.id)}
	}
}

// count counts the matches.
func (s *searching) count() (uint64, error) {
	total := uint64(0)
	for _, src := range s.sources {
		n, err := s.countSource(src)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (s *searching) countSource(src *source) (uint64, error) {
	if n, ok, err := s.countTerm(src); ok || err != nil {
		s.forget(src)
		return n, err
	}
	if err := s.prepare(src); err != nil {
		return 0, err
	}
	s.counting = src.doubtful.IsEmpty()
	if err := s.evaluate(src); err != nil {
		return 0, err
	}
	if s.counting {
		defer s.forget(src)
		return src.matches.GetCardinality() + src.counted, nil
	}
	asked := roaring.And(src.matches, src.doubtful)
	total := src.matches.GetCardinality() - asked.GetCardinality()
	for it := asked.Iterator(); it.HasNext(); {
		if err := s.check(); err != nil {
			return 0, err
		}
		ok, err := s.isMatch(src, it.Next())
		if err != nil {
			return 0, err
		}
		if ok {
			total++
		}
	}
	s.forget(src)
	return total, nil
}

// forget lets go of a source's bitmaps.
func (s *searching) forget(src *source) {
	src.live, src.doubtful, src.gone, src.matches, s.bytes = nil, nil, nil, nil, 0
}

// settled gives the matches of a source without those that were not current.
func (s *searching) settled(src *source) (*roaring.Bitmap, error) {
	if err := s.evaluate(src); err != nil {
		return nil, err
	}
	asked := roaring.And(src.matches, src.doubtful)
	if asked.IsEmpty() {
		return src.matches, nil
	}
	rows := src.matches.Clone()
	for it := asked.Iterator(); it.HasNext(); {
		if err := s.check(); err != nil {
			return nil, err
		}
		o := it.Next()
		if ok, err := s.isMatch(src, o); err != nil {
			return nil, err
		} else if !ok {
			rows.Remove(o)
		}
	}
	return rows, nil
}

// keyScanShare: when more than one row in so many is wanted, the keys are read
// from the key table instead of the bodies.
const keyScanShare = 64

// keys gives the keys of all matches.
func (s *searching) keys(fn func(t fhir.TypeCode, id []byte) error) error {
	for _, src := range s.sources {
		rows, err := s.settled(src)
		if err != nil {
			return err
		}
		err = s.eachKey(src, rows, func(_ uint32, t fhir.TypeCode, id []byte) error { return fn(t, id) })
		if err != nil {
			return err
		}
		s.forget(src)
	}
	return nil
}

// eachKey calls fn with the key of each row, in no order; id holds until it returns.
func (s *searching) eachKey(src *source, rows *roaring.Bitmap, fn func(row uint32, t fhir.TypeCode, id []byte) error) error {
	switch n := rows.GetCardinality(); {
	case n == 0:
		return nil
	case src.run == nil:
		return s.headKeys(src, rows, fn)
	case n > uint64(src.rows)/keyScanShare:
		return s.scanKeys(src, rows, fn)
	}
	return s.bodyKeys(src, rows, fn)
}

func (s *searching) headKeys(src *source, rows *roaring.Bitmap, fn func(uint32, fhir.TypeCode, []byte) error) error {
	var id []byte
	for it := rows.Iterator(); it.HasNext(); {
		row := it.Next()
		t, found, _, ok := index.ParseKey(id[:0], []byte(src.gen.entry(int(row)).key))
		if !ok {
			panic("BUG: the head has a key that is none")
		}
		id = found
		if err := fn(row, t, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *searching) scanKeys(src *source, rows *roaring.Bitmap, fn func(uint32, fhir.TypeCode, []byte) error) error {
	c, n := src.run.run.KeyCursor(), 0
	var id []byte
	for c.Next() {
		if n++; n%walksPerCheck == 0 && s.check() != nil {
			return s.check()
		}
		row := uint32(c.Found().Ordinal)
		if !rows.Contains(row) {
			continue
		}
		t, found, _, ok := index.ParseKey(id[:0], c.Key())
		if !ok {
			return errBadVersion
		}
		id = found
		if err := fn(row, t, id); err != nil {
			return err
		}
	}
	return c.Err()
}

func (s *searching) bodyKeys(src *source, rows *roaring.Bitmap, fn func(uint32, fhir.TypeCode, []byte) error) error {
	for it := rows.Iterator(); it.HasNext(); {
		if err := s.check(); err != nil {
			return err
		}
		o := it.Next()
		row, err := src.rowReader().Row(index.Ordinal(o))
		if err != nil {
			return err
		}
		stored, err := src.rowReader().Body(index.Ordinal(o))
		if err != nil {
			return err
		}
		if err := fn(o, row.Type, stored.ID); err != nil {
			return err
		}
	}
	return nil
}
