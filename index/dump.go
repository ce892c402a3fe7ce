package index

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"kiln/fhir"
	"kiln/internal/vfs"
)

// Dump writes what a run holds as text: footer, sections, one line a row, one
// line a term. Bodies come as their length.
func Dump(ctx context.Context, fs vfs.FS, dir string, id RunID, w io.Writer) error {
	r, err := openRun(fs, dir, id, nil, NewCache(verifyCacheBytes))
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	d := dumper{ctx: ctx, r: r, out: out}
	d.summary()
	if err = d.fields(); err == nil {
		err = d.rows()
	}
	if err == nil {
		err = d.terms()
	}
	return errors.Join(err, out.Flush(), r.Close())
}

type dumper struct {
	ctx context.Context
	r   *Run
	out *bufio.Writer
}

func (d *dumper) summary() {
	f := &d.r.footer
	fmt.Fprintf(d.out, "run %016x: format %d, %d bytes, xxh64 %016x\n", uint64(f.meta.ID), FormatVersion, f.meta.Bytes, f.meta.Hash)
	fmt.Fprintf(d.out, "terms by extraction %d and %d added fields\n", f.extraction, f.custom)
	fmt.Fprintf(d.out, "rows %d, live %d, keys %d, terms %d, raw body bytes %d\n", f.meta.Rows, f.meta.Live, f.keys, f.terms, f.meta.BodyBytesRaw)
	fmt.Fprintf(d.out, "lastUpdated %s to %s\n", d.instant(fhir.Instant{Milli: f.meta.MilliMin, OffsetMinutes: fhir.OffsetZ}),
		d.instant(fhir.Instant{Milli: f.meta.MilliMax, OffsetMinutes: fhir.OffsetZ}))
	for i, x := range []*blockIndex{d.r.bodies, d.r.keys, d.r.columns, d.r.terms, d.r.postings} {
		kind := [...]blockKind{blockBodies, blockKeys, blockColumns, blockTerms, blockPostings}[i]
		total := int64(0)
		for _, n := range x.lengths {
			total += int64(n)
		}
		fmt.Fprintf(d.out, "%s: %d blocks, %d bytes\n", kind, x.count(), total)
	}
	for i, s := range f.sections {
		kind := [...]blockKind{blockBodyIndex, blockKeyIndex, blockFilter, blockColumnIndex, blockDropped, blockTermIndex, blockPostingIndex}[i]
		fmt.Fprintf(d.out, "%s: offset %d, %d bytes\n", kind, s.offset, s.bytes)
	}
}

func (d *dumper) instant(t fhir.Instant) string { return string(t.Append(nil)) }

func (d *dumper) rows() error {
	return d.r.Scan(d.ctx, d.r.live, func(o Ordinal, row Row, s Stored) error {
		_, err := fmt.Fprintf(d.out, "row %d: %s/%s version %d, %s, lsn %d, flags %d, body of %d bytes\n",
			o, row.Type, s.ID, row.VersionID, d.instant(row.LastUpdated), row.LSN, row.Flags, len(s.Body))
		return err
	})
}

func (d *dumper) terms() error {
	r := d.r
	for i := range r.terms.count() {
		b, err := r.block(blockTerms, r.terms, i)
		if err = errors.Join(err, d.ctx.Err()); err != nil {
			return err
		}
		var c tableCursor
		for ok := c.open(b.payload, skipPosting) && c.next(); ok; ok = c.next() {
			bm, err := r.postingBitmap(c.payload, i)
			if err != nil {
				return err
			}
			fmt.Fprintf(d.out, "term %s: %d rows %s\n", d.term(c.key), bm.GetCardinality(), bm)
		}
		if c.bad {
			return r.impossible(blockTerms, r.terms, i)
		}
	}
	return nil
}

// term shows a term's key.
func (d *dumper) term(key []byte) string {
	if len(key) < 2 {
		return fmt.Sprintf("%x", key)
	}
	p, value := Param(binary.BigEndian.Uint16(key)), key[2:]
	switch p {
	case ParamLastUpdated:
		if milli, ok := ParseMilli(value); ok {
			return "lastUpdated " + d.instant(fhir.Instant{Milli: milli, OffsetMinutes: fhir.OffsetZ})
		}
	case ParamType:
		if len(value) == 2 {
			return "type " + fhir.TypeCode(binary.BigEndian.Uint16(value)).String()
		}
	case ParamDeleted:
		return "deleted"
	}
	if utf8.Valid(value) {
		return fmt.Sprintf("%d %q", p, value)
	}
	return fmt.Sprintf("%d %x", p, value)
}
