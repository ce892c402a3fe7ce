package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/FastFilter/xorfilter"

	"kiln/fhir"
)

func FuzzKeysKeepOrderAndComeBack(f *testing.F) {
	f.Add(uint16(1), []byte("a"), uint16(1), []byte("b"))
	f.Add(uint16(7), []byte("0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5f"), uint16(7), []byte("0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c60"))
	f.Add(uint16(7), []byte("0B9CB3F4-6A24-4D3B-9D0C-7A4B7E7B1C5F"), uint16(7), []byte("0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5"))
	f.Add(uint16(2), []byte("a\x00"), uint16(2), []byte("a\x01"))
	f.Add(uint16(2), []byte(""), uint16(3), []byte("\x00"))
	f.Fuzz(func(t *testing.T, type1 uint16, id1 []byte, type2 uint16, id2 []byte) {
		key1 := AppendKey(nil, fhir.TypeCode(type1), id1)
		key2 := AppendKey(nil, fhir.TypeCode(type2), id2)
		code, id, rest, ok := ParseKey(nil, append(bytes.Clone(key1), "rest"...))
		if !ok || uint16(code) != type1 || !bytes.Equal(id, id1) || string(rest) != "rest" {
			t.Fatalf("key %x comes back as %d/%q, %q", key1, code, id, rest)
		}
		same := type1 == type2 && bytes.Equal(id1, id2)
		if bytes.Equal(key1, key2) != same || !same && (bytes.HasPrefix(key1, key2) || bytes.HasPrefix(key2, key1)) {
			t.Fatalf("keys %x and %x are equal or one begins the other", key1, key2)
		}
		want := bytes.Compare(id1, id2)
		if type1 != type2 {
			want = int(type1) - int(type2)
		} else if isUUID(id1) != isUUID(id2) {
			want = 1
			if isUUID(id1) {
				want = -1
			}
		}
		if got := bytes.Compare(key1, key2); got*want < 0 || got == 0 != (want == 0) {
			t.Fatalf("keys %x and %x: order %d, want %d", key1, key2, got, want)
		}
	})
}

func isUUID(id []byte) bool {
	_, ok := appendUUID(nil, id)
	return ok
}

func FuzzParseKey(f *testing.F) {
	f.Add(AppendKey(nil, 3, []byte("x")))
	f.Add([]byte{0, 1, 2, 1, 3, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		code, id, rest, ok := ParseKey(nil, b)
		if ok && !(isUUID(id) && b[2] == keyText) && !bytes.Equal(append(AppendKey(nil, code, id), rest...), b) {
			t.Fatalf("%x reads as %d/%q, which has another key", b, code, id)
		}
	})
}

func FuzzMilliKeepsOrder(f *testing.F) {
	f.Add(int64(0), int64(-1))
	f.Add(int64(1), int64(-1<<63))
	f.Fuzz(func(t *testing.T, a, b int64) {
		x, y := AppendMilli(nil, a), AppendMilli(nil, b)
		if (a < b) != (bytes.Compare(x, y) < 0) {
			t.Fatalf("%d and %d are in another order", a, b)
		}
		if back, ok := ParseMilli(x); !ok || back != a {
			t.Fatalf("%d comes back as %d", a, back)
		}
	})
}

func FuzzReferencesComeBack(f *testing.F) {
	f.Add([]byte("Patient/0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5f"))
	f.Add([]byte("urn:uuid:0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5f"))
	f.Add([]byte("Nobody/0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5f"))
	f.Add([]byte("Patient/0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5F"))
	f.Add([]byte("Patient/1/_history/2"))
	f.Add([]byte("0b9cb3f4-6a24-4d3b-9d0c-7a4b7e7b1c5f"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		value := AppendReference([]byte("before"), text)[len("before"):]
		back, ok := AppendReferenceText(nil, value)
		if !ok || !bytes.Equal(back, text) {
			t.Fatalf("reference %q comes back as %q", text, back)
		}
	})
}

func FuzzBodyEntries(f *testing.F) {
	entries := []bodyEntry{
		{off: 0, length: 40, idAt: 25, idLen: 3, splice: fhir.Splice{At: 29}},
		{off: 40, length: 7, idAt: 7, splice: fhir.Splice{At: 0, Kind: fhir.SpliceIntoMeta}},
	}
	f.Add(appendBodyEntries(make([]byte, 47), entries))
	f.Add(appendBodyEntries(nil, nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		parsed, ok := parseBodyEntries(nil, raw)
		if !ok {
			return
		}
		bodies := 0
		for i := range parsed {
			s := parsed[i].stored(raw)
			bodies += len(s.Body)
			if int(s.Splice.At) > len(s.Body) {
				t.Fatalf("splice at %d of %d", s.Splice.At, len(s.Body))
			}
		}
		again, ok := parseBodyEntries(nil, appendBodyEntries(bytes.Clone(raw[:bodies]), parsed))
		if !ok || !slices.Equal(again, parsed) {
			t.Fatalf("entries %v come back as %v", parsed, again)
		}
	})
}

func FuzzTableBlock(f *testing.F) {
	var table tableBlock
	for i := range 40 {
		table.add(AppendKey(nil, 1, []byte{'a', byte('a' + i/2)}))
		table.buf = appendKeyPayload(table.buf, Found{int64(-i), Ordinal(i)})
	}
	f.Add(bytes.Clone(table.finish()), AppendKey(nil, 1, []byte("ab")))
	table.reset()
	for i := range 20 {
		table.add(bytes.Repeat([]byte{byte(i)}, 30))
		table.buf = appendInline(table.buf, []uint32{uint32(i)})
	}
	f.Add(bytes.Clone(table.finish()), []byte{3})
	f.Add([]byte{0, 0}, []byte{})
	f.Fuzz(func(t *testing.T, block, key []byte) {
		for _, skip := range []func([]byte) int{skipKeyPayload, skipPosting} {
			var c tableCursor
			if !c.open(block, skip) {
				continue
			}
			for n := 0; c.next(); n++ {
				if n > len(block) {
					t.Fatal("more entries than bytes")
				}
				_, _ = parseKeyPayload(c.payload, RowsMax)
				_, _ = parsePosting(nil, c.payload, RowsMax)
			}
			if c.open(block, skip) && c.seekGE(key) && bytes.Compare(c.key, key) < 0 {
				t.Fatalf("seek to %x ends at %x", key, c.key)
			}
		}
	})
}

func FuzzPosting(f *testing.F) {
	f.Add(appendInline(nil, []uint32{4}), uint32(5))
	f.Add(appendInline(nil, []uint32{1, 2, 3, 70000}), uint32(70001))
	f.Add(appendPlace(nil, postingPlace{17, 1, 2, 3}), uint32(17))
	f.Fuzz(func(t *testing.T, payload []byte, rows uint32) {
		n := skipPosting(payload)
		p, ok := parsePosting(nil, payload, rows)
		if !ok {
			return
		}
		if n != len(payload) {
			t.Fatalf("payload %x has length %d", payload, n)
		}
		for i, o := range p.ordinals {
			if o >= rows || i > 0 && o <= p.ordinals[i-1] {
				t.Fatalf("ordinals %v of %d rows", p.ordinals, rows)
			}
		}
	})
}

func FuzzBitmap(f *testing.F) {
	for _, ordinals := range [][]uint32{{}, {1, 5, 9}, {70000, 70001, 70002, 1 << 29}} {
		w := newTermWriter(newFileWriter(nil, "", 1, nil))
		if len(ordinals) > 0 {
			if _, err := w.addBitmap(ordinals); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(bytes.Clone(w.postings.Bytes()), uint32(1<<30))
	}
	f.Fuzz(func(t *testing.T, b []byte, rows uint32) {
		bm, err := ParseBitmap(b, rows)
		if plain, readErr := readWholeBitmap(b); readErr == nil && !plain.IsEmpty() && err == nil && plain.Validate() != nil {
			t.Fatalf("a bitmap is taken that roaring refuses: %v", plain.Validate())
		} else if readErr == nil && plain.Validate() == nil && !plain.IsEmpty() && plain.Maximum() < rows && err != nil {
			t.Fatalf("a bitmap is refused: %v", err)
		}
		if err == nil {
			var ordinals []uint32
			eachOrdinal(nil, b, func(some []uint32) { ordinals = append(ordinals, some...) })
			if !slices.Equal(ordinals, bm.ToArray()) {
				t.Fatalf("ordinals %v of a bitmap with %v", ordinals, bm.ToArray())
			}
		}
		if err == nil && !bm.IsEmpty() && bm.Maximum() >= rows {
			t.Fatalf("bitmap with row %d of %d", bm.Maximum(), rows)
		}
	})
}

func FuzzColumnBlock(f *testing.F) {
	columns := [columnCount][]int64{{1, 2}, {-1, 1 << 62}, {1600000000000, 1600000000001}, {fhir.OffsetZ, 60}, {0, 0}, {0, 1}}
	f.Add(appendColumnBlock(nil, &columns))
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, ok := parseColumnBlock(payload)
		if !ok {
			return
		}
		for i := range c.rows {
			_, _ = c.row(i)
		}
	})
}

func FuzzColumnsComeBack(f *testing.F) {
	f.Add(int64(0), int64(1), int64(-1))
	f.Add(int64(-1<<63), int64(1<<63-1), int64(7))
	f.Fuzz(func(t *testing.T, a, b, d int64) {
		var columns [columnCount][]int64
		for i := range columns {
			columns[i] = []int64{a, b, d, a ^ d, b, a + b}
		}
		c, ok := parseColumnBlock(appendColumnBlock(nil, &columns))
		if !ok {
			t.Fatal("a written column block does not read")
		}
		for i := range columns {
			for row, want := range columns[i] {
				if got := c.value(i, row); got != want {
					t.Fatalf("value %d comes back as %d", want, got)
				}
			}
		}
	})
}

func FuzzBlockIndex(f *testing.F) {
	var x blockIndex
	x.addRows(32, 100, 7)
	x.addRows(132, 50, 1)
	f.Add(x.append(nil, indexBodies), uint8(indexBodies))
	var s blockIndex
	s.addSeparated(32, 100, nil)
	s.addSeparated(200, 50, []byte("key"))
	f.Add(s.append(nil, indexTable), uint8(indexTable))
	f.Fuzz(func(t *testing.T, payload []byte, shape uint8) {
		x, ok := parseBlockIndex(&byteReader{b: payload}, indexShape(shape%3), 1<<40)
		if !ok {
			return
		}
		again, ok := parseBlockIndex(&byteReader{b: x.append(nil, indexShape(shape%3))}, indexShape(shape%3), 1<<40)
		if !ok || !slices.Equal(again.offsets, x.offsets) || !bytes.Equal(again.separators, x.separators) || !slices.Equal(again.first, x.first) {
			t.Fatal("a block index does not come back")
		}
		if indexShape(shape%3) == indexTable && x.count() > 0 {
			_ = x.seek(payload)
		}
	})
}

func FuzzFilter(f *testing.F) {
	f.Add(appendFilter(nil, &xorfilter.BinaryFuseBuilder{}, []uint64{1, 2, 3}), uint64(2))
	f.Add(appendFilter(nil, nil, nil), uint64(2))
	f.Fuzz(func(t *testing.T, payload []byte, hash uint64) {
		if x, ok := parseFilter(payload); ok {
			_ = x.mayContain(hash)
		}
	})
}

// FuzzPatchedRun changes bytes of a run behind right checksums: answers may be
// wrong then, but nothing may panic, hang or eat memory.
func FuzzPatchedRun(f *testing.F) {
	fs := newTestFS(f)
	m := smallModel()
	meta := m.build(f, fs, 5)
	whole := readAll(f, fs, runPath(testDir, 5))
	spans := blockSpans(f, fs, meta)
	f.Add(uint16(40), []byte{1})
	f.Add(uint16(len(whole)-200), []byte{0xff, 0xff})
	f.Add(uint16(len(whole)-600), []byte{0x80, 1, 7})
	f.Fuzz(func(t *testing.T, at uint16, patch []byte) {
		damaged := bytes.Clone(whole)
		for i, c := range patch {
			damaged[(int(at)+i)%len(damaged)] ^= c
		}
		resum(damaged, spans)
		fs := newTestFS(t)
		file, err := fs.Create(runPath(testDir, 5))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(damaged, 0); err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		exercise(t, fs, m)
	})
}

// blockSpans lists the places of a good run's blocks.
func blockSpans(tb testing.TB, fs testFS, meta RunMeta) (spans []section) {
	r, err := OpenRun(fs, testDir, meta, 0, nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	for _, x := range []*blockIndex{r.bodies, r.keys, r.columns, r.terms, r.postings} {
		for i, offset := range x.offsets {
			spans = append(spans, section{offset, int64(x.lengths[i])})
		}
	}
	return append(spans, r.footer.sections[:]...)
}

// resum makes every checksum right again.
func resum(b []byte, spans []section) {
	le := binary.LittleEndian
	le.PutUint32(b[28:], placedCRC(5, 0, b[:28]))
	for _, s := range spans {
		block := b[s.offset : s.offset+s.bytes]
		le.PutUint32(block[4:], uint32(len(block)-blockHeaderBytes))
		le.PutUint32(block[8:], min(le.Uint32(block[8:]), 1<<16))
		le.PutUint32(block, placedCRC(5, s.offset, block[4:]))
	}
	foot := int64(len(b) - footerBytes)
	le.PutUint32(b[foot+footerCRCAt:], placedCRC(5, foot, b[foot:foot+footerCRCAt]))
}

// exercise asks everything of a run without looking at the answers.
func exercise(tb testing.TB, fs testFS, m *model) {
	ctx := context.Background()
	_ = Verify(ctx, fs, testDir, 5, ignore)
	_ = Dump(ctx, fs, testDir, 5, &bytes.Buffer{})
	r, err := openRun(fs, testDir, 5, nil, NewCache(1<<20))
	if err != nil {
		return
	}
	defer r.Close()
	c := r.LookupCursor()
	for i := range m.rows {
		_, _ = c.Lookup(nil, []byte(m.key(i)))
		_ = r.MayContain(KeyHash([]byte(m.key(i))))
	}
	for it := r.Live().Iterator(); it.HasNext(); {
		o := Ordinal(it.Next())
		_, _ = r.Row(o)
		_, _ = r.Body(o)
	}
	_ = r.Scan(ctx, r.Live(), func(Ordinal, Row, Stored) error { return nil })
	for key := range m.terms() {
		p := Param(key[0])<<8 | Param(key[1])
		_, _ = r.Postings(p, []byte(key[2:]))
		found, _ := r.TermRows(p, []byte(key[2:]))
		_, _ = found.Keep([]uint32{0, 1, 5, 1 << 17})
		_, _ = found.AppendTo(nil)
		_, _ = r.Range(p, nil, []byte(key[2:]))
		terms := r.Terms(p)
		for ok := terms.Last(); ok; ok = terms.Prev() {
			_ = terms.Count()
		}
	}
}
