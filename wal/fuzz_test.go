package wal

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"kiln/internal/vfs"
)

// FuzzDamagedLog writes over a log at places of the fuzzer's choice, opens,
// dumps and verifies it. Nothing may panic, and a record that comes back is one
// that was appended.
func FuzzDamagedLog(f *testing.F) {
	f.Add(uint16(100), []byte{1, 2, 3}, uint16(4000), []byte{0, 0, 0, 0}, uint16(16<<10-1))
	f.Add(uint16(64), bytes.Repeat([]byte{0}, 600), uint16(3), []byte{}, uint16(9000))
	f.Add(uint16(0), []byte("KILNLOG2"), uint16(5000), []byte("x"), uint16(0))
	f.Fuzz(func(t *testing.T, at1 uint16, bytes1 []byte, at2 uint16, bytes2 []byte, length uint16) {
		im := newImage(t, at1%2 == 0)
		raw := im.files[im.newest]
		copy(raw[int(at1)%len(raw):], bytes1)
		copy(raw[int(at2)%len(raw):], bytes2)
		im.files[im.newest] = raw[:int(length)%(len(raw)+1)]
		m := im.store()
		next := LSN(1)
		fn := func(r Record) error {
			if r.LSN != next || !bytes.Equal(r.Payload, imagePayload(r.LSN)) {
				t.Fatalf("LSN %d came back wrong or out of order", r.LSN)
			}
			next++
			return nil
		}
		dumped, dumpErr := Dump(context.Background(), m, imageDir, fn)
		next = 1
		l, openErr := Open(context.Background(), imageOptions(m), 1, fn)
		if (dumpErr == nil) != (openErr == nil) {
			t.Fatalf("Dump says %v, Open says %v", dumpErr, openErr)
		}
		sum, err := Verify(context.Background(), im.store(), imageDir, func(error) {})
		check(t, err)
		if (sum.Damaged == 0) != (openErr == nil) {
			t.Fatalf("Verify finds %d damaged places, Open says %v", sum.Damaged, openErr)
		}
		if openErr != nil {
			var corrupt *vfs.CorruptError
			if !errors.As(openErr, &corrupt) && !errors.Is(openErr, ErrNewerFormat) {
				t.Fatalf("an error of another kind: %v", openErr)
			}
			return
		}
		if l.LastLSN() != dumped.LastLSN {
			t.Fatalf("Dump ends at %d, Open at %d", dumped.LastLSN, l.LastLSN())
		}
		check(t, l.Close())
	})
}
