package wal

import (
	"context"
	"slices"
	"strings"
	"testing"

	"kiln/internal/vfs"
)

func TestDumpShowsAllAndWritesNothing(t *testing.T) {
	im := newImage(t, true)
	im.zero(im.at[6]+100, im.end) // a torn tail
	m := im.store()
	ops := m.Ops()
	var seen []LSN
	sum, err := Dump(context.Background(), m, imageDir, func(r Record) error {
		seen = append(seen, r.LSN)
		return nil
	})
	check(t, err)
	want := Summary{Segments: 2, Bytes: 32 << 10, Records: 5, PayloadBytes: sum.PayloadBytes, FirstLSN: 1, LastLSN: 5, TornBytes: 100}
	if sum != want || !slices.Equal(seen, []LSN{1, 2, 3, 4, 5}) {
		t.Fatalf("%v: %+v", seen, sum)
	}
	if m.Ops() != ops {
		t.Fatal("dumping wrote")
	}
	_, err = Dump(context.Background(), vfs.NewMem(1), "/none", nil)
	mustContain(t, err, ErrNoLog.Error())
}

func mustContain(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("got %v, want %q", err, want)
	}
}

func TestVerifyFindsEveryDamageAndGoesOn(t *testing.T) {
	f := func(wantRecords int64, want []string, change func(im *image)) {
		t.Helper()
		im := newImage(t, true)
		change(im)
		var found []string
		sum, err := Verify(context.Background(), im.store(), imageDir, func(err error) { found = append(found, err.Error()) })
		check(t, err)
		if sum.Records != wantRecords || len(found) != len(want) || sum.Damaged != len(want) {
			t.Fatalf("%+v: %q", sum, found)
		}
		for i := range want {
			if !strings.Contains(found[i], want[i]) {
				t.Fatalf("finding %d is %q, want %q", i, found[i], want[i])
			}
		}
	}
	f(6, nil, func(*image) {})
	f(5, []string{"the record of LSN 3 is damaged, and the log goes on to at least LSN 6"}, func(im *image) {
		im.flip(im.newest, im.at[3]+100)
	})
	f(5, []string{"the record of LSN 3 is damaged"}, func(im *image) { im.flip(im.newest, im.at[3]) })
	f(4, []string{"LSN 3", "LSN 5"}, func(im *image) {
		im.flip(im.newest, im.at[3]+100)
		im.flip(im.newest, im.at[5]+100)
	})
	f(4, []string{"the records from LSN 3 to 4 are damaged"}, func(im *image) {
		im.flip(im.newest, im.at[3])
		im.flip(im.newest, im.at[4])
	})
	f(5, []string{"the record of LSN 1 is damaged"}, func(im *image) { im.flip(im.sealed, im.at[1]) })
	f(5, []string{"the record of LSN 2 is damaged"}, func(im *image) { im.flip(im.sealed, im.at[2]+40) })
	f(4, []string{"segment header"}, func(im *image) { im.flip(im.sealed, 20) })
	f(2, []string{"segment header"}, func(im *image) { im.flip(im.newest, 20) })
}
