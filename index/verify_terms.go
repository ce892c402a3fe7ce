package index

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cespare/xxhash/v2"

	"kiln/fhir/search"
	"kiln/internal/vfs"
)

// VerifyTerms makes the terms of a run's bodies again and compares them with its term
// table, both ways; fields are all that were added, in the order of their numbers. It
// is for a run that Verify finds nothing in, which holds the store's own terms against
// the columns. Terms that other rules made are passed over: searches do not read them.
// Report and error are as with Verify. It holds 64 MiB at most beside what Verify does.
func VerifyTerms(ctx context.Context, fs vfs.FS, dir string, id RunID, fields []*search.Field, report func(*vfs.CorruptError)) error {
	r, err := openRun(fs, dir, id, nil, NewCache(verifyCacheBytes))
	if err != nil {
		return reportOr(report, err)
	}
	v := &termVerifier{verifier: verifier{ctx: ctx, r: r, report: report}, set: newTermSet()}
	return errors.Join(reportOr(report, v.verify(fields)), r.Close())
}

// termVerifier is one VerifyTerms.
type termVerifier struct {
	verifier
	sums      *rowSums
	set       *termSet // the terms of one row
	hashes    []uint64
	extractor *Extractor
}

func (v *termVerifier) verify(fields []*search.Field) error {
	r := v.r
	if !r.HasFieldTerms() {
		return nil
	}
	if r.Custom() > len(fields) {
		v.wrong(r.footer.meta.Bytes-footerBytes, "it has terms of %d added fields, the store has %d", r.Custom(), len(fields))
		return nil
	}
	table, err := search.Load()
	if err != nil {
		return err
	}
	rules, err := newExtraction(slices.Concat(table.Fields(), fields[:r.Custom()]), r.HasContainedTerms())
	if err != nil {
		return err
	}
	v.extractor, v.sums = rules.NewExtractor(setSink{v.set}), newRowSums(r.footer.meta.Rows)
	err = r.Scan(v.ctx, r.live, func(o Ordinal, row Row, stored Stored) error {
		if row.Flags&FlagDeleted == 0 { // a deletion is found by its key and date only
			v.row(uint32(o), stored.Body)
		}
		return nil
	})
	if err == nil {
		err = v.table()
	}
	if err != nil {
		return err
	}
	v.sums.each(func(from, to uint32) {
		v.wrong(r.footer.sections[sectionTerms].offset, "the search terms of rows %d to %d are not those of their bodies", from, to)
	})
	return nil
}

// row adds the terms of a body, each once.
func (v *termVerifier) row(o uint32, body []byte) {
	if _, err := v.extractor.Scan(body); err != nil && !errors.Is(err, ErrTerms) {
		v.set.discard() // such a body is kept without terms
	}
	v.hashes = v.hashes[:0]
	start := uint32(0)
	for i := range v.set.pending {
		end := v.set.pending[i].end
		v.hashes = append(v.hashes, xxhash.Sum64(v.set.given[start:end]))
		start = end
	}
	v.set.discard()
	slices.Sort(v.hashes)
	for _, hash := range slices.Compact(v.hashes) {
		v.sums.add(o, hash)
	}
}

// table takes the terms of the term table.
func (v *termVerifier) table() error {
	r := v.r
	for i := range r.terms.count() {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		b, err := r.block(blockTerms, r.terms, i)
		if err != nil {
			return err
		}
		var c tableCursor
		for ok := c.open(b.payload, skipPosting) && c.next(); ok; ok = c.next() {
			p := Param(binary.BigEndian.Uint16(c.key))
			if p < paramGivenMin || p == ParamContained && !r.HasContainedTerms() {
				continue
			}
			if err := v.takeRows(i, c.payload, xxhash.Sum64(c.key)); err != nil {
				return err
			}
		}
		if c.bad {
			return r.impossible(blockTerms, r.terms, i)
		}
	}
	return nil
}

// takeRows takes a term of its rows.
func (v *termVerifier) takeRows(block int, payload []byte, hash uint64) error {
	var inline [postingInlineMax]uint32
	p, ok := parsePosting(inline[:0], payload, v.r.footer.meta.Rows)
	if !ok {
		return v.r.impossible(blockTerms, v.r.terms, block)
	}
	for _, o := range p.ordinals {
		v.sums.take(o, hash)
	}
	if p.ordinals != nil {
		return nil
	}
	rows, err := v.r.placedBitmap(p.place, block)
	if err != nil {
		return err
	}
	if rows.Maximum() >= v.r.footer.meta.Rows {
		return v.r.impossible(blockTerms, v.r.terms, block)
	}
	for it := rows.Iterator(); it.HasNext(); {
		v.sums.take(it.Next(), hash)
	}
	return nil
}
