package index

import (
	"encoding/binary"
	"math"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
)

// findLive reads which rows were dropped, and notes the rows that need what the key
// table and the terms say.
func (s *salvage) findLive() error {
	rows := s.r.footer.meta.Rows
	payload, err := s.only(blockDropped)
	if err != nil {
		return err
	}
	if payload != nil {
		if dropped, err := ParseBitmap(payload, rows); err == nil {
			s.live = roaring.New()
			s.live.AddRange(0, uint64(rows))
			s.live.AndNot(dropped)
		}
	}
	s.needs = roaring.New()
	for _, span := range s.bodies {
		if span.block.bytes == 0 {
			s.needs.AddRange(uint64(span.first), uint64(span.first)+uint64(span.rows))
		}
	}
	for i, at := range s.columns {
		if at.bytes == 0 {
			s.needs.AddRange(uint64(i)*columnBlockRows, min(uint64(rows), uint64(i+1)*columnBlockRows))
		}
	}
	return nil
}

// readKeys walks what is left of the key table. Where nobody knows which rows were
// dropped, those that have a key were not.
func (s *salvage) readKeys() error {
	if s.live != nil && s.needs.IsEmpty() {
		return nil
	}
	live, rows := roaring.New(), s.r.footer.meta.Rows
	for _, block := range s.blocks[blockKeys] {
		checked, err := s.r.readBlock(nil, blockKeys, block.offset, int(block.bytes))
		if err != nil {
			return err
		}
		var c tableCursor
		for ok := c.open(checked.payload, skipKeyPayload) && c.next(); ok; ok = c.next() {
			f, ok := parseKeyPayload(c.payload, rows)
			if !ok {
				break
			}
			live.Add(uint32(f.Ordinal))
			if s.needs.Contains(uint32(f.Ordinal)) {
				s.noteKey(f, c.key)
			}
		}
	}
	if s.live == nil {
		s.live = live
		s.doubtKeys()
	}
	return nil
}

func (s *salvage) noteKey(f Found, key []byte) {
	typ, id, _, ok := ParseKey(nil, key)
	if ok && fhir.ValidID(id) && typ.String() != "" {
		s.known[uint32(f.Ordinal)] = knownRow{typ: typ, id: id, version: f.VersionID}
	}
}

// doubtKeys tells of rows that have no key where both the keys and the list of
// dropped rows are damaged: they may be versions, or nothing.
func (s *salvage) doubtKeys() {
	if _, _, whole := s.region(blockKeys); whole || uint64(s.r.footer.meta.Live) == s.live.GetCardinality() {
		return
	}
	all := roaring.New()
	all.AddRange(0, uint64(s.r.footer.meta.Rows))
	all.AndNot(s.live)
	for it := all.Iterator(); it.HasNext(); {
		s.opts.Lost(LostVersion{Ordinal: Ordinal(it.Next())})
	}
}

// readTerms reads the dates and deletions of rows whose columns are lost.
func (s *salvage) readTerms() error {
	if !s.columnsLost() {
		return nil
	}
	if err := s.placePostings(); err != nil {
		return err
	}
	for _, block := range s.blocks[blockTerms] {
		checked, err := s.r.readBlock(nil, blockTerms, block.offset, int(block.bytes))
		if err != nil {
			return err
		}
		var c tableCursor
		for ok := c.open(checked.payload, skipPosting) && c.next(); ok && len(c.key) >= 2; ok = c.next() {
			p := Param(binary.BigEndian.Uint16(c.key))
			if p >= paramGivenMin {
				return nil // the store's own come first
			}
			s.noteTerm(p, c.key[2:], c.payload)
		}
	}
	return nil
}

func (s *salvage) columnsLost() bool {
	for _, at := range s.columns {
		if at.bytes == 0 {
			return true
		}
	}
	return false
}

// placePostings makes the run's list of posting blocks, whose numbers terms name.
func (s *salvage) placePostings() error {
	x, err := s.index(blockPostingIndex, indexPlain)
	if err != nil {
		return err
	}
	if x == nil {
		x = &blockIndex{}
		if before, _, _ := s.region(blockPostings); before > 0 {
			for _, b := range s.blocks[blockPostings][:before] {
				x.add(b.offset, int(b.bytes))
			}
		}
	}
	s.r.postings, s.r.terms = x, &blockIndex{offsets: []int64{0}}
	return nil
}

// noteTerm takes over what a term of the store's own says of rows. Postings that
// cannot be read say nothing: such a row has no date then.
func (s *salvage) noteTerm(p Param, value, payload []byte) {
	rows, err := s.r.postingBitmap(payload, 0)
	if err != nil || p != ParamLastUpdated && p != ParamDeleted {
		return
	}
	milli, ok := ParseMilli(value)
	rows.And(s.needs)
	for it := rows.Iterator(); it.HasNext(); {
		o := it.Next()
		row, have := s.known[o]
		if !have {
			continue
		}
		if p == ParamDeleted {
			row.deleted = true
		} else if ok {
			row.milli, row.dated = milli, true
		}
		s.known[o] = row
	}
}

// salvageColumns reads rows from the column blocks, one at a time.
type salvageColumns struct {
	s     *salvage
	block int // -1: none
	c     columnBlock
	ok    bool
	last  uint64 // the LSN of the last row with one
}

// row gives a row; columns is false where they are lost.
func (x *salvageColumns) row(o uint32) (row Row, columns bool, err error) {
	if i := int(o) / columnBlockRows; i != x.block {
		if x.c, x.ok, err = x.s.columnBlock(i); err != nil {
			return row, false, err
		}
		x.block = i
	}
	if x.ok {
		if row, ok := x.c.row(int(o) % columnBlockRows); ok {
			x.last = max(x.last, row.LSN)
			return row, true, nil
		}
	}
	return Row{}, false, nil
}

// columnBlock reads a block of columns; ok is false where it is lost.
func (s *salvage) columnBlock(i int) (c columnBlock, ok bool, err error) {
	at := s.columns[i]
	if at.bytes == 0 {
		return c, false, nil
	}
	checked, err := s.r.readBlock(nil, blockColumns, at.offset, int(at.bytes))
	if err != nil {
		return c, false, err
	}
	c, ok = parseColumnBlock(checked.payload)
	return c, ok && c.rows == min(columnBlockRows, int(s.r.footer.meta.Rows)-i*columnBlockRows), nil
}

// remake makes a row whose columns are lost of what else is known; ok is false
// when that is not enough.
func (x *salvageColumns) remake(o uint32) (row Row, ok bool, err error) {
	known, have := x.s.known[o]
	if !have {
		return row, false, nil
	}
	row = Row{Type: known.typ, VersionID: known.version, LastUpdated: fhir.Instant{Milli: known.milli, OffsetMinutes: fhir.OffsetZ}}
	if known.deleted {
		row.Flags |= FlagDeleted
	}
	row.LSN, err = x.lsn(int(o) / columnBlockRows)
	return row, known.dated, err
}

// lsn stands for the LSNs of a lost block's rows: the first one behind it, else the
// last one before it, so that LSNs rise with ordinals as they did.
func (x *salvageColumns) lsn(lost int) (uint64, error) {
	if !x.s.opts.OwnLSN {
		return 0, nil
	}
	for i := lost + 1; i < len(x.s.columns); i++ {
		c, ok, err := x.s.columnBlock(i)
		if err != nil {
			return 0, err
		}
		first := uint64(math.MaxUint64)
		for j := 0; ok && j < c.rows; j++ {
			if row, ok := c.row(j); ok && row.LSN > 0 {
				first = min(first, row.LSN)
			}
		}
		if first != math.MaxUint64 {
			return first, nil
		}
	}
	return max(x.last, x.s.opts.FloorLSN), nil
}
