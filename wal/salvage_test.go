package wal

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"kiln/internal/vfs"
)

// salvaged is what Salvage gives: the records, and the LSNs that it says are lost.
func salvaged(t *testing.T, m vfs.FS, what string) (records, lost []LSN, damages int) {
	t.Helper()
	err := Salvage(context.Background(), m, imageDir, func(r Record) error {
		if !bytes.Equal(r.Payload, imagePayload(r.LSN)) || r.Type != TypeCommit {
			t.Fatalf("%s: LSN %d came back wrong", what, r.LSN)
		}
		reader := NewReader(m, imageDir)
		defer reader.Close()
		again := make([]byte, len(r.Payload))
		if err := reader.ReadAt(again, r.Position); err != nil || !bytes.Equal(again, r.Payload) {
			t.Fatalf("%s: LSN %d is not where it is said to be: %v", what, r.LSN, err)
		}
		records = append(records, r.LSN)
		return nil
	}, func(d Damage) error {
		damages++
		if d.File == "" || d.What == "" {
			t.Fatalf("%s: %+v says nothing", what, d)
		}
		for lsn := d.From; lsn > 0 && lsn <= d.To; lsn++ {
			lost = append(lost, lsn)
		}
		if d.From > 0 && d.To == 0 {
			lost = append(lost, 1000+d.From)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return records, lost, damages
}

// A wrong bit in a header is turned back; one in a payload costs that record; one
// where nothing was written costs nothing.
func TestSalvageOfEveryFlippedBit(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		salvageOfEveryFlippedBit(t, newImageOf(t, true, encrypted))
	}
}

func salvageOfEveryFlippedBit(t *testing.T, im *image) {
	m := im.store()
	for name, content := range im.files {
		used := len(content)
		if name == im.newest {
			used = im.end + 600
		}
		for offset := range used {
			bit := uint(offset * 5 % 8)
			m.FlipBit(imageDir+"/"+name, int64(offset), bit)
			what := fmt.Sprintf("bit %d of offset %d of %q", bit, offset, name)
			records, lost, _ := salvaged(t, im.on(m), what)
			m.FlipBit(imageDir+"/"+name, int64(offset), bit)
			hit := im.payloadAt(name, offset)
			if hit == 0 && (len(records) != 6 || len(lost) != 0) || hit != 0 && (len(records) != 5 || fmt.Sprint(lost) != fmt.Sprintf("[%d]", hit)) {
				t.Fatalf("%s, in the payload of LSN %d: records %v, lost %v", what, hit, records, lost)
			}
		}
	}
}

// payloadAt is the LSN of the record whose payload has an offset; 0: none.
func (im *image) payloadAt(name string, offset int) LSN {
	for lsn, at := range im.at {
		if ofSealed := lsn <= 2; ofSealed != (name == im.sealed) {
			continue
		}
		if from := at + recordHeaderBytes; offset >= from && offset < from+im.storedBytes(lsn) {
			return lsn
		}
	}
	return 0
}

// Sectors of zeros cost the records that they are in, and no others, the first
// sector of a segment with its header too.
func TestSalvageAroundLostSectors(t *testing.T) {
	f := func(file func(*image) string, sector int, lost string) {
		t.Helper()
		im := newImage(t, true)
		name := file(im)
		clear(im.files[name][sector*512 : (sector+1)*512])
		records, got, damages := salvaged(t, im.store(), "zeros")
		if fmt.Sprint(got) != lost || len(records)+len(got) < 5 || damages == 0 {
			t.Errorf("sector %d of %q: records %v, lost %v, want %s", sector, name, records, got, lost)
		}
	}
	newest, sealed := func(im *image) string { return im.newest }, func(im *image) string { return im.sealed }
	f(sealed, 0, "[]") // LSN 1: who calls knows where the log began
	f(sealed, 1, "[1]")
	f(sealed, 3, "[2]")
	f(newest, 0, "[3]")
	f(newest, 2, "[3 4]")
}

func TestSalvageOfAMissingSegment(t *testing.T) {
	im := newImage(t, true)
	m := im.store()
	if err := m.Remove(imageDir + "/" + im.sealed); err != nil {
		t.Fatal(err)
	}
	records, lost, _ := salvaged(t, m, "no first segment")
	if fmt.Sprint(records, lost) != "[3 4 5 6] []" { // likewise
		t.Errorf("records %v, lost %v", records, lost)
	}
}

// A torn tail was never acknowledged: nothing of it is lost.
func TestSalvageLeavesATornTail(t *testing.T) {
	im := newImage(t, true)
	from := im.at[6] + recordHeaderBytes + 300
	im.zero(from, im.end)
	records, lost, damages := salvaged(t, im.store(), "a torn tail")
	if len(records) != 5 || len(lost) != 0 || damages != 0 {
		t.Errorf("records %v, lost %v, %d damages", records, lost, damages)
	}
}
