package wal

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// encryptedBy is a disk whose log is sealed under the first of some keys, which are told
// apart by their letters.
func encryptedBy(fsys vfs.FS, letters string) vfs.FS {
	var text strings.Builder
	for _, letter := range letters {
		text.WriteString(strings.Repeat(fmt.Sprintf("%02x", letter), sealed.KeyBytes) + "\n")
	}
	keys, err := sealed.ParseKeys(text.String())
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return sealed.New(fsys, keys, func(string) sealed.Form { return sealed.Plain })
}

func encrypted(fsys vfs.FS) vfs.FS { return encryptedBy(fsys, "a") }

// sealedLog is a log of payloads, and where they went.
func sealedLog(t *testing.T, m *vfs.Mem, letters string, payloads [][]byte) *Log {
	t.Helper()
	opts := imageOptions(m)
	if letters != "" {
		opts.FS = encryptedBy(m, letters)
	}
	opts.SegmentBytes = 1 << 20
	n := 0
	l, err := Open(context.Background(), opts, 1, func(r Record) error {
		n++
		return nil
	})
	check(t, err)
	for _, p := range payloads {
		_, err := l.Append([]Entry{{Type: TypeCommit, Payload: p}})
		check(t, err)
	}
	return l
}

func TestSealedPayloadsComeBack(t *testing.T) {
	m := vfs.NewMem(1)
	check(t, m.MkdirAll("/store"))
	var payloads [][]byte
	for i, size := range []int{0, 1, 100, sealChunkBytes - 1, sealChunkBytes, sealChunkBytes + 1, 3*sealChunkBytes + 5, 1 << 19} {
		payloads = append(payloads, bytes.Repeat([]byte{byte(i + 1), 0x5a, 0x77}, size)[:size])
	}
	check(t, sealedLog(t, m, "", payloads[:3]).Close()) // plain, before there was a key
	check(t, sealedLog(t, m, "a", payloads[3:6]).Close())
	l := sealedLog(t, m, "ba", payloads[6:])
	at := map[LSN]Position{}
	check(t, l.Tail(context.Background(), 1, func(r Record) error {
		if !bytes.Equal(r.Payload, payloads[r.LSN-1]) {
			t.Errorf("LSN %d has %d bytes, not its own %d", r.LSN, len(r.Payload), len(payloads[r.LSN-1]))
		}
		at[r.LSN] = r.Position
		return nil
	}))
	reader := NewReader(encryptedBy(m, "ba"), imageDir)
	defer reader.Close()
	rng := rand.New(rand.NewPCG(1, 1))
	for lsn, p := range payloads {
		for range 20 {
			from := rng.IntN(len(p) + 1)
			got := make([]byte, rng.IntN(len(p)-from+1))
			where := at[LSN(lsn+1)]
			where.Inner = uint32(from)
			if err := errors.Join(l.ReadAt(got, where)); err != nil || !bytes.Equal(got, p[from:from+len(got)]) {
				t.Fatalf("LSN %d from %d, %d bytes: %v", lsn+1, from, len(got), err)
			}
			if err := reader.ReadAt(got, where); err != nil || !bytes.Equal(got, p[from:from+len(got)]) {
				t.Fatalf("LSN %d from %d, %d bytes, by a reader: %v", lsn+1, from, len(got), err)
			}
		}
	}
	check(t, l.Close())
	raw, err := vfs.ReadFile(m, segmentPath(imageDir, 1), 1<<30)
	check(t, err)
	if !bytes.Contains(raw, []byte{3, 0x5a, 0x77}) || bytes.Contains(raw, []byte{5, 0x5a, 0x77, 5}) || bytes.Contains(raw, []byte{7, 0x5a, 0x77, 7}) {
		t.Error("what should be plain is not, or what should not is")
	}
}

func TestASealedLogWantsItsKey(t *testing.T) {
	im := newImageOf(t, true, true)
	for _, fsys := range []vfs.FS{im.store(), encryptedBy(im.store(), "b")} {
		if _, err := Open(context.Background(), imageOptions(fsys), 1, func(Record) error { return nil }); !errors.Is(err, sealed.ErrKey) {
			t.Errorf("opened: %v", err)
		}
		if _, err := Dump(context.Background(), fsys, imageDir, func(Record) error { return nil }); !errors.Is(err, sealed.ErrKey) {
			t.Errorf("dumped: %v", err)
		}
		err := Salvage(context.Background(), fsys, imageDir, func(Record) error { return nil }, func(Damage) error { return nil })
		if !errors.Is(err, sealed.ErrKey) {
			t.Errorf("salvaged: %v", err)
		}
	}
}

// What checks out by its checksums and was not sealed so is damage: a payload that
// somebody changed, or a record of another LSN.
func TestASealedPayloadCannotBeForged(t *testing.T) {
	f := func(what string, change func(im *image, raw []byte)) {
		t.Helper()
		im := newImageOf(t, true, true)
		change(im, im.files[im.newest])
		opened := im.on(im.store())
		l, err := Open(context.Background(), imageOptions(opened), 1, func(Record) error { return nil })
		var damage *vfs.CorruptError
		if err == nil {
			check(t, l.Close())
		}
		if !errors.As(err, &damage) {
			t.Errorf("%s: %v", what, err)
		}
		sum, err := Verify(context.Background(), opened, imageDir, func(error) {})
		if err != nil || sum.Damaged != 1 || sum.LastLSN != 6 {
			t.Errorf("%s: verified %+v, %v", what, sum, err)
		}
		records, lost, _ := salvaged(t, opened, what)
		if len(records) != 5 || fmt.Sprint(lost) != "[4]" {
			t.Errorf("%s: salvaged %v, lost %v", what, records, lost)
		}
	}
	payload := func(im *image, lsn LSN) []byte {
		return im.files[im.newest][im.at[lsn]+recordHeaderBytes:][:im.storedBytes(lsn)]
	}
	resum := func(im *image) {
		var seg segmentHeader
		check(im.t, seg.unmarshal(im.files[im.newest]))
		r := rechained{im: im, id: seg.id}
		r.from(4)
	}
	f("a bit", func(im *image, _ []byte) {
		payload(im, 4)[100] ^= 1
		resum(im)
	})
	f("the salt", func(im *image, _ []byte) {
		payload(im, 4)[9] ^= 1
		resum(im)
	})
	f("another record's", func(im *image, _ []byte) {
		copy(payload(im, 4), payload(im, 5))
		resum(im)
	})
}

// rechained gives records right checksums again.
type rechained struct {
	im *image
	id uint32
}

func (r rechained) from(first LSN) {
	chain := uint16(0)
	for lsn := first; lsn <= 6; lsn++ {
		r.im.rewrite(r.im.newest, lsn, func(h *recordHeader) {
			at := r.im.at[lsn] + recordHeaderBytes
			h.payloadCRC = crc32.Checksum(r.im.files[r.im.newest][at:at+int(h.length)], castagnoli)
			if lsn > first {
				h.chain = chain
			}
		})
		var h recordHeader
		check(r.im.t, h.unmarshal(r.im.files[r.im.newest][r.im.at[lsn]:], r.id))
		chain = uint16(h.crc)
	}
}

// A log that finds a torn tail gives its LSNs again: the same bytes are then sealed
// under another salt.
func TestNoLSNIsSealedTwiceUnderOneSalt(t *testing.T) {
	m := vfs.NewMem(1)
	check(t, m.MkdirAll("/store"))
	seen := map[[sealPrefixBytes]byte]bool{}
	for range 5 {
		disk := m.CrashClone(1) // each goes on from the same place, as after a torn tail
		l := sealedLog(t, disk, "a", [][]byte{[]byte("x"), []byte("y")})
		if seen[l.seal.prefix] {
			t.Fatal("a salt came back")
		}
		seen[l.seal.prefix] = true
		check(t, l.Close())
	}
}

func TestSealedLengths(t *testing.T) {
	for _, n := range []int{0, 1, sealChunkBytes - 1, sealChunkBytes, sealChunkBytes + 1, 5 * sealChunkBytes, PayloadBytesMax} {
		if got, ok := plainLength(sealedLength(n)); !ok || got != n {
			t.Errorf("%d bytes become %d, which are %d", n, sealedLength(n), got)
		}
	}
	for _, stored := range []int{0, sealPrefixBytes, sealPrefixBytes + 15, sealPrefixBytes + sealStoredChunk + 3} {
		if n, ok := plainLength(stored); ok {
			t.Errorf("%d stored bytes are %d", stored, n)
		}
	}
	if sealedLength(PayloadBytesMax) > sealedPayloadMax {
		t.Error("the largest payload does not fit when it is sealed")
	}
}

// A sealed record as it was written once.
func TestGoldenSealedRecord(t *testing.T) {
	raw, err := hex.DecodeString("4b494c4e4c4f4731010000000700000001000000000000000100000000000000000000000000000000000000000000000000000000000000000000005ebd7fa8" +
		"01015ebd360000000100000000000000400000000000000008242790928f2ca36baafd372a653a2c1d1a8488c603dbdf6f8fb2af9d6cda7ba2c64ec80171d25bec7281a81327a9974722a40fc40ae090c40fc9960f730000")
	check(t, err)
	m := vfs.NewMem(1)
	check(t, m.MkdirAll(imageDir))
	check(t, vfs.WriteFileAtomic(m, segmentPath(imageDir, 1), append(raw, make([]byte, 1<<12-len(raw))...)))
	sum, err := Dump(context.Background(), encrypted(m), imageDir, func(r Record) error {
		if string(r.Payload) != "golden payload" || r.Type != TypeCommit {
			t.Errorf("%+v", r)
		}
		return nil
	})
	if err != nil || sum.Records != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
}
