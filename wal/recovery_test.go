package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kiln/internal/vfs"
)

const imageDir = "/store/log"

// image is the bytes of a log for tests that change them. It is built of three
// batches: LSN 1 and 2, LSN 3, and LSN 4 to 6, so that 4 to 6 were in flight
// together. Payloads hold no zeros and reach over sectors.
type image struct {
	t     *testing.T
	files map[string][]byte
	newest,
	sealed string // names
	// at is the offset of each LSN's record in its segment, end what follows them.
	at        map[LSN]int
	end       int
	encrypted bool
}

// on is a disk as the log sees it.
func (im *image) on(m vfs.FS) vfs.FS {
	if im.encrypted {
		return encrypted(m)
	}
	return m
}

// storedBytes is the length of a record's payload on the disk.
func (im *image) storedBytes(lsn LSN) int {
	if im.encrypted {
		return sealedLength(len(imagePayload(lsn)))
	}
	return len(imagePayload(lsn))
}

func imageOptions(fsys vfs.FS) Options {
	id := uint32(0)
	return Options{
		FS: fsys, Dir: imageDir, SegmentBytes: 16 << 10, PrepareInline: true,
		NewID: func() uint32 { id += 0x9e3779b9; return id },
	}
}

func imagePayload(lsn LSN) []byte {
	return bytes.Repeat([]byte{byte(lsn), 0xa5}, 600+int(lsn)*10)
}

// newImage has a sealed segment with LSN 1 and 2 before the newest when sealed.
func newImage(t *testing.T, sealed bool) *image { return newImageOf(t, sealed, false) }

// newImageOf makes one with encrypted payloads, too.
func newImageOf(t *testing.T, sealed, encrypted bool) *image {
	t.Helper()
	m := vfs.NewMem(1)
	check(t, m.MkdirAll("/store"))
	im := &image{t: t, files: map[string][]byte{}, at: map[LSN]int{}, encrypted: encrypted}
	l, err := Open(context.Background(), imageOptions(im.on(m)), 1, nil)
	check(t, err)
	for _, batch := range [][]LSN{{1, 2}, {3}, {4, 5, 6}} {
		if sealed && batch[0] == 3 {
			check(t, l.prepared.ensure([]int64{l.opts.SegmentBytes}))
			check(t, l.roll())
		}
		im.append(l, batch)
	}
	im.end = int(l.end.offset)
	check(t, l.Close())
	names, err := m.List(imageDir)
	check(t, err)
	for _, name := range names {
		im.files[name], err = vfs.ReadFile(m, imageDir+"/"+name, 1<<20)
		check(t, err)
	}
	im.newest, im.sealed = names[len(names)-1], names[0]
	return im
}

func (im *image) append(l *Log, lsns []LSN) {
	var batch []Entry
	for _, lsn := range lsns {
		batch = append(batch, Entry{Type: TypeCommit, Payload: imagePayload(lsn)})
	}
	placed, err := l.Append(batch)
	check(im.t, err)
	for _, p := range placed {
		im.at[p.LSN] = int(p.Position.Offset) - recordHeaderBytes
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (im *image) flip(file string, offset int) { im.files[file][offset] ^= 0x10 }

func (im *image) zero(from, to int) { clear(im.files[im.newest][from:to]) }

// zeroSectorsFrom clears the whole sectors that begin at or after from, up to the
// one that holds to-1: as if they had never been written.
func (im *image) zeroSectorsFrom(from, to int) {
	im.zero((from+sectorBytes-1)/sectorBytes*sectorBytes, (to+sectorBytes-1)/sectorBytes*sectorBytes)
}

// rewrite changes the header of a record and gives it a right checksum.
func (im *image) rewrite(file string, lsn LSN, change func(h *recordHeader)) {
	var seg segmentHeader
	check(im.t, seg.unmarshal(im.files[file]))
	var h recordHeader
	raw := im.files[file][im.at[lsn]:][:recordHeaderBytes]
	check(im.t, h.unmarshal(raw, seg.id))
	change(&h)
	copy(raw, h.marshal(nil, seg.id))
}

// store puts the files on a disk of their own.
func (im *image) store() *vfs.Mem {
	m := vfs.NewMem(1)
	check(im.t, m.MkdirAll(imageDir))
	for name, content := range im.files {
		f, err := m.Create(imageDir + "/" + name)
		check(im.t, err)
		_, err = f.WriteAt(content, 0)
		check(im.t, err)
		check(im.t, errors.Join(f.Sync(), f.Close()))
	}
	check(im.t, m.SyncDir(imageDir))
	return m
}

// verdict opens the image and says what came of it in a word: "ends at N",
// "damaged at OFFSET", "newer format", or the error.
func (im *image) verdict(from LSN) string {
	im.t.Helper()
	m := im.store()
	var seen []LSN
	l, err := Open(context.Background(), imageOptions(m), from, func(r Record) error {
		if !bytes.Equal(r.Payload, imagePayload(r.LSN)) {
			im.t.Errorf("the record of LSN %d came back wrong", r.LSN)
		}
		seen = append(seen, r.LSN)
		return nil
	})
	var corrupt *vfs.CorruptError
	switch {
	case errors.As(err, &corrupt):
		im.mustBeUntouched(m)
		if !strings.Contains(corrupt.What, "kiln repair") {
			im.t.Errorf("no advice in %v", err)
		}
		return fmt.Sprintf("damaged at %d", corrupt.Offset)
	case errors.Is(err, ErrNewerFormat):
		im.mustBeUntouched(m)
		return "newer format"
	case err != nil:
		return err.Error()
	}
	check(im.t, l.Close())
	im.mustGoOn(m, l.LastLSN())
	return fmt.Sprintf("ends at %d", l.LastLSN())
}

func (im *image) mustBeUntouched(m *vfs.Mem) {
	im.t.Helper()
	for name, content := range im.files {
		got, err := vfs.ReadFile(m, imageDir+"/"+name, 1<<20)
		check(im.t, err)
		if !bytes.Equal(got, content) {
			im.t.Errorf("a refused log was written to: %q", name)
		}
	}
}

// mustGoOn appends one record behind what recovery left and reads all back.
func (im *image) mustGoOn(m *vfs.Mem, last LSN) {
	im.t.Helper()
	l, err := Open(context.Background(), imageOptions(m), 1, func(Record) error { return nil })
	check(im.t, err)
	_, err = l.Append([]Entry{{Type: TypeCommit, Payload: imagePayload(last + 1)}})
	check(im.t, err)
	check(im.t, l.Close())
	var seen []LSN
	sum, err := Dump(context.Background(), m, imageDir, func(r Record) error {
		seen = append(seen, r.LSN)
		return nil
	})
	check(im.t, err)
	want := []LSN{}
	for lsn := LSN(1); lsn <= last+1; lsn++ {
		want = append(want, lsn)
	}
	if !slices.Equal(seen, want) || sum.TornBytes != 0 {
		im.t.Errorf("after going on the log holds %v, %d torn bytes", seen, sum.TornBytes)
	}
}

// row runs one case of the decision table. change gets a fresh image of a log
// with one segment and returns the verdict it wants.
func row(t *testing.T, sealed bool, change func(im *image) (want string)) {
	t.Helper()
	im := newImage(t, sealed)
	want := change(im)
	if got := im.verdict(1); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func damagedAt(offset int) string { return fmt.Sprintf("damaged at %d", offset) }

func TestRow1ZerosInTheNewestSegmentAreTheEnd(t *testing.T) {
	row(t, false, func(*image) string { return "ends at 6" })
	row(t, true, func(*image) string { return "ends at 6" })
	row(t, false, func(im *image) string {
		im.zero(im.at[4], im.end)
		return "ends at 3"
	})
	row(t, true, func(im *image) string {
		im.zero(im.at[3], im.end)
		return "ends at 2"
	})
	row(t, false, func(im *image) string { // no room for a header
		im.files[im.newest] = im.files[im.newest][:im.end+16]
		return "ends at 6"
	})
}

func TestRow2ZerosWhereTheNextSegmentCarriesOn(t *testing.T) {
	row(t, true, func(im *image) string { // sealed segments may have no slack
		im.files[im.sealed] = im.files[im.sealed][:im.at[2]+int(recordBytes(len(imagePayload(2))))]
		return "ends at 6"
	})
}

func TestRow3UnknownFlagsAreANewerFormat(t *testing.T) {
	for _, lsn := range []LSN{3, 6} {
		row(t, false, func(im *image) string {
			im.rewrite(im.newest, lsn, func(h *recordHeader) { h.flags |= 2 })
			return "newer format"
		})
	}
}

func TestRow4ASealedSegmentHasNoTornTail(t *testing.T) {
	row(t, true, func(im *image) string {
		at := im.at[2]
		clear(im.files[im.sealed][at:])
		return damagedAt(at)
	})
	row(t, true, func(im *image) string {
		im.flip(im.sealed, im.at[2]+recordHeaderBytes+100)
		return damagedAt(im.at[2])
	})
	row(t, true, func(im *image) string { // bytes behind the last record
		im.flip(im.sealed, len(im.files[im.sealed])-5)
		return damagedAt(im.at[2] + int(recordBytes(len(imagePayload(2)))))
	})
	row(t, true, func(im *image) string { // an older copy of the segment: whole in itself
		im.rewrite(im.sealed, 2, func(h *recordHeader) { h.syncedUpto = 0 })
		return damagedAt(im.at[2] + int(recordBytes(len(imagePayload(2)))))
	})
}

func TestRow5AWholeHeaderInTheWrongPlace(t *testing.T) {
	f := func(change func(h *recordHeader)) {
		t.Helper()
		for _, lsn := range []LSN{2, 6} {
			row(t, false, func(im *image) string {
				im.rewrite(im.newest, lsn, change)
				return damagedAt(im.at[lsn])
			})
		}
	}
	f(func(h *recordHeader) { h.lsn++ })
	f(func(h *recordHeader) { h.lsn = 0 })
	f(func(h *recordHeader) { h.chain++ })
	f(func(h *recordHeader) { h.length = PayloadBytesMax + 1 })
	f(func(h *recordHeader) { h.length = 16 << 10 })
	f(func(h *recordHeader) { h.syncedUpto = 15 << 10 })
	row(t, false, func(im *image) string { // padding: the payload of LSN 3 needs 4 bytes of it
		at := im.at[3] + recordHeaderBytes + len(imagePayload(3))
		if at%recordAlign == 0 {
			t.Fatal("the payload needs no padding")
		}
		im.flip(im.newest, at)
		return damagedAt(im.at[3])
	})
}

func TestRow6DamageBelowAPromise(t *testing.T) {
	for _, lsn := range []LSN{1, 2, 3} {
		row(t, false, func(im *image) string { // zeros, as a lost write leaves
			im.zero(im.at[lsn], im.at[lsn+1])
			return damagedAt(im.at[lsn])
		})
		row(t, false, func(im *image) string {
			im.flip(im.newest, im.at[lsn]+4)
			return damagedAt(im.at[lsn])
		})
		row(t, false, func(im *image) string {
			im.zeroSectorsFrom(im.at[lsn]+recordHeaderBytes, im.at[lsn+1]-sectorBytes)
			return damagedAt(im.at[lsn])
		})
	}
}

func TestRow7AWriteCutShort(t *testing.T) {
	f := func(lsn LSN, written int) {
		t.Helper()
		row(t, false, func(im *image) string {
			im.zero(im.at[lsn]+written, im.end)
			return fmt.Sprintf("ends at %d", lsn-1)
		})
	}
	for _, written := range []int{1, 8, 20, 24, 32, 33, 200, 1200} {
		f(4, written)
		f(6, written)
	}
}

func TestRow8SectorsThatWereNeverWritten(t *testing.T) {
	row(t, false, func(im *image) string { // the first record of the batch lost sectors, the rest is there
		im.zeroSectorsFrom(im.at[4]+recordHeaderBytes, im.at[5]-sectorBytes)
		return "ends at 3"
	})
	row(t, false, func(im *image) string { // its header's sector too
		im.zero(im.at[4], (im.at[4]/sectorBytes+1)*sectorBytes)
		return "ends at 3"
	})
	row(t, false, func(im *image) string { // one in the middle of the batch
		im.zeroSectorsFrom(im.at[5]+recordHeaderBytes, im.at[6]-sectorBytes)
		return "ends at 4"
	})
}

func TestRow9ChangedBytesAreNotATornWrite(t *testing.T) {
	for _, lsn := range []LSN{4, 5, 6} {
		for _, offset := range []int{0, 2, 5, 9, 17, 25, 31, 32, 700} {
			row(t, false, func(im *image) string {
				im.flip(im.newest, im.at[lsn]+offset)
				return damagedAt(im.at[lsn])
			})
		}
		row(t, false, func(im *image) string { // a header of zeros in a sector with other bytes
			im.zero(im.at[lsn], im.at[lsn]+recordHeaderBytes)
			return damagedAt(im.at[lsn])
		})
	}
}

func TestALogThatEndsBelowTheCheckpointIsDamaged(t *testing.T) {
	im := newImage(t, false)
	im.zero(im.at[4], im.end)
	if got := im.verdict(4); got != "ends at 3" {
		t.Errorf("got %q", got)
	}
	if got := im.verdict(5); got != damagedAt(im.at[4]) {
		t.Errorf("got %q", got)
	}
}

func TestSegmentsThatDoNotFollowEachOtherAreRefused(t *testing.T) {
	f := func(want string, change func(im *image)) {
		t.Helper()
		im := newImage(t, true)
		change(im)
		if got := im.verdict(1); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f("damaged at 0", func(im *image) { // the oldest is gone
		delete(im.files, im.sealed)
	})
	f("damaged at 0", func(im *image) { // a hole
		im.files[segmentName(3)] = im.files[im.newest]
		delete(im.files, im.newest)
	})
	f("damaged at 0", func(im *image) { // a copy under another name
		im.files[segmentName(3)] = im.files[im.newest]
	})
	f("damaged at 10", func(im *image) { im.files[im.newest] = im.files[im.newest][:10] })
	f("newer format", func(im *image) { im.files[im.newest][8] = FormatVersion + 1 })
	f("not a file of the log", func(im *image) { im.files["notes.txt"] = []byte("x") })
	f("not a file of the log", func(im *image) { im.files["1.log"] = []byte("x") })
	f("not a file of the log", func(im *image) { im.files["0000000000000000.log"] = []byte("x") })
	for offset := range segmentHeaderBytes {
		want := "damaged at 0"
		if offset >= 8 && offset < 12 {
			want = "newer format" // a flipped bit in the version looks like one
		}
		f(want, func(im *image) { im.flip(im.newest, offset) })
		f(want, func(im *image) { im.flip(im.sealed, offset) })
	}
}

// TestEveryFlippedBitIsFoundOrHarmless: whatever bit of the log changes, opening
// it is refused or every record is there.
func TestEveryFlippedBitIsFoundOrHarmless(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		everyFlippedBit(t, newImageOf(t, true, encrypted))
	}
}

func everyFlippedBit(t *testing.T, im *image) {
	m := im.store()
	refused := 0
	for name, content := range im.files {
		used := len(content)
		if name == im.newest {
			used = im.end + 600 // and some of the zeros behind
		}
		for offset := 0; offset < used; offset++ {
			bit := uint(offset % 8)
			m.FlipBit(imageDir+"/"+name, int64(offset), bit)
			clone := m.CrashClone(0)
			m.FlipBit(imageDir+"/"+name, int64(offset), bit)
			count := LSN(0)
			l, err := Open(context.Background(), imageOptions(im.on(clone)), 1, func(r Record) error {
				if count++; !bytes.Equal(r.Payload, imagePayload(r.LSN)) {
					t.Fatalf("bit %d of offset %d of %q: LSN %d came back wrong", bit, offset, name, r.LSN)
				}
				return nil
			})
			if err != nil {
				refused++
				continue
			}
			if check(t, l.Close()); count != 6 {
				t.Fatalf("bit %d of offset %d of %q: %d records are left", bit, offset, name, count)
			}
		}
	}
	if refused < im.end {
		t.Fatalf("only %d flips were refused", refused)
	}
}
