package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"kiln/fhir/search"
)

// fieldSize is what a parameter's terms take.
type fieldSize struct {
	p        Param
	terms    int
	postings uint64 // ordinals
	bytes    int64  // of entries and bitmaps
}

// fields writes what each parameter's terms take, the largest first.
func (d *dumper) fields() error {
	sizes := map[Param]*fieldSize{}
	for i := range d.r.terms.count() {
		b, err := d.r.block(blockTerms, d.r.terms, i)
		if err = errors.Join(err, d.ctx.Err()); err != nil {
			return err
		}
		var c tableCursor
		at := 0
		for ok := c.open(b.payload, skipPosting) && c.next(); ok; ok = c.next() {
			if len(c.key) < 2 {
				return d.r.impossible(blockTerms, d.r.terms, i)
			}
			p := Param(binary.BigEndian.Uint16(c.key))
			if sizes[p] == nil {
				sizes[p] = &fieldSize{p: p}
			}
			sizes[p].add(c.at-at, c.payload)
			at = c.at
		}
		if c.bad {
			return d.r.impossible(blockTerms, d.r.terms, i)
		}
	}
	return d.writeFields(sizes)
}

func (s *fieldSize) add(entry int, payload []byte) {
	s.terms++
	s.bytes += int64(entry)
	r := byteReader{b: payload}
	if n := r.uvarint(); n > 0 {
		s.postings += n
		return
	}
	s.postings += r.uvarint()
	r.uvarint()
	r.uvarint()
	s.bytes += int64(r.uvarint())
}

func (d *dumper) writeFields(sizes map[Param]*fieldSize) error {
	table, err := search.Load()
	if err != nil {
		return err
	}
	names := map[Param]string{ParamLastUpdated: "lastUpdated", ParamType: "type", ParamDeleted: "deleted", ParamContained: "type of contained"}
	for _, f := range table.Fields() {
		names[Param(f.Number)] = f.Kind.String() + " " + f.Name
	}
	var order []*fieldSize
	for _, s := range sizes {
		order = append(order, s)
	}
	slices.SortFunc(order, func(a, b *fieldSize) int {
		if a.bytes != b.bytes {
			return int(b.bytes - a.bytes)
		}
		return int(a.p) - int(b.p)
	})
	for _, s := range order {
		if names[s.p] == "" && s.p >= search.FieldCustomMin {
			names[s.p] = "added"
		}
		fmt.Fprintf(d.out, "field %d %s: %d terms, %d postings, %d bytes\n", s.p, names[s.p], s.terms, s.postings, s.bytes)
	}
	return nil
}
