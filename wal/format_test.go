package wal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"strings"
	"testing"
)

// TestGoldenFormat holds format 1: these bytes must be read for ever, and a
// change of what is written needs a new FormatVersion.
func TestGoldenFormat(t *testing.T) {
	f := func(got []byte, want string) {
		t.Helper()
		if g, w := hex.EncodeToString(got), strings.ReplaceAll(want, " ", ""); g != w {
			t.Fatalf("got\n%s\nwant\n%s", g, w)
		}
	}
	seg := segmentHeader{id: 0x11223344, number: 7, firstLSN: 1000, chain: 0xaabbccdd}
	raw := seg.marshal(nil)
	f(raw, "4b494c4e4c4f4731 01000000 44332211 0700000000000000 e803000000000000 ddccbbaa"+
		strings.Repeat("00", 24)+"c537d97f")
	var back segmentHeader
	check(t, back.unmarshal(raw))
	if back != seg {
		t.Fatalf("%+v came back as %+v", seg, back)
	}
	rec := recordHeader{typ: TypeIngest, chain: 0xbeef, length: 11, lsn: 1001, syncedUpto: 64, payloadCRC: 0x01020304}
	raw = rec.marshal(nil, seg.id)
	f(raw, "02 00 efbe 0b000000 e903000000000000 4000000000000000 04030201 60c2f866")
	var h recordHeader
	check(t, h.unmarshal(raw, seg.id))
	if h != rec || h.bytes() != 48 {
		t.Fatalf("%+v came back as %+v", rec, h)
	}
	if h.unmarshal(raw, seg.id+1) == nil {
		t.Fatal("a record of another segment was taken")
	}
}

func TestSegmentNames(t *testing.T) {
	f := func(name string, want uint64, wantOK bool) {
		t.Helper()
		if n, ok := parseSegmentName(name); n != want && wantOK || ok != wantOK {
			t.Fatalf("%q is segment %d, %v", name, n, ok)
		}
	}
	f(segmentName(1), 1, true)
	f(segmentName(1<<40), 1<<40, true)
	f("0000000000000000.log", 0, false)
	f("1.log", 0, false)
	f("+000000000000001.log", 0, false)
	f("0000000000000001.logx", 0, false)
	f("prepared-1.tmp", 0, false)
}

// FuzzRecordHeader and FuzzSegmentHeader give any fields the right checksum: what
// is then read must be what is written again.
func FuzzRecordHeader(f *testing.F) {
	rec := recordHeader{typ: TypeCommit, length: 11, lsn: 3, syncedUpto: 64}
	f.Add(rec.marshal(nil, 5), uint32(5))
	f.Add(make([]byte, recordHeaderBytes), uint32(0))
	f.Fuzz(func(t *testing.T, raw []byte, id uint32) {
		if len(raw) != recordHeaderBytes {
			return
		}
		binary.LittleEndian.PutUint32(raw[recordCRCAt:], crc32.Update(id, castagnoli, raw[:recordCRCAt]))
		var h recordHeader
		if err := h.unmarshal(raw, id); (err == nil) != (raw[0] != 0) {
			t.Fatalf("%x: %v", raw, err)
		}
		if again := h.marshal(nil, id); !bytes.Equal(again, raw) {
			t.Fatalf("%x became %x", raw, again)
		}
		at := place{offset: 1024, lsn: 3, crc: 9}
		if h.validate(at, 1<<20) == nil && (h.lsn != 3 || h.chain != 9 || h.after(at).offset > 1<<20 || h.syncedUpto > 1024) {
			t.Fatalf("%+v may stand at %+v", h, at)
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	seg := segmentHeader{id: 1, number: 2, firstLSN: 3, chain: 4}
	f.Add(seg.marshal(nil))
	f.Add([]byte(segmentMagic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) >= segmentHeaderBytes {
			binary.LittleEndian.PutUint32(raw[segmentCRCAt:], crc32.Checksum(raw[:segmentCRCAt], castagnoli))
		}
		var h segmentHeader
		if h.unmarshal(raw) != nil {
			return
		}
		again := h
		again.marshal(nil) // sets the checksum: the reserved bytes may differ
		again.crc = h.crc
		var back segmentHeader
		check(t, back.unmarshal(h.marshal(nil)))
		if back.crc = again.crc; back != again {
			t.Fatalf("%+v became %+v", again, back)
		}
	})
}
