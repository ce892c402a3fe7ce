package index

import (
	"bytes"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
)

// The payload of a posting block: portable roaring bitmaps, one behind the
// other, without anything between; terms know their places.

// ParseBitmap copies a portable bitmap out of b, which it must fill. Every
// ordinal is below rows. The result shares nothing with b.
func ParseBitmap(b []byte, rows uint32) (*roaring.Bitmap, error) {
	if err := checkBitmap(b); err != nil {
		return nil, fmt.Errorf("cannot read the bitmap: %w", err)
	}
	return parseTrustedBitmap(b, rows)
}

// parseTrustedBitmap is ParseBitmap for bytes whose checksum says that they are
// what a Builder wrote: it does not look inside the containers. On nonsense it,
// and whoever uses the result, may panic.
func parseTrustedBitmap(b []byte, rows uint32) (*roaring.Bitmap, error) {
	bm, err := readWholeBitmap(b)
	if err == nil {
		err = checkOrdinals(bm, rows)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the bitmap: %w", err)
	}
	return bm, nil
}

func readWholeBitmap(b []byte) (*roaring.Bitmap, error) {
	bm := roaring.New()
	n, err := readBitmap(bm, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if n != int64(len(b)) {
		return nil, fmt.Errorf("it has %d bytes of %d", n, len(b))
	}
	return bm, nil
}

func checkOrdinals(bm *roaring.Bitmap, rows uint32) error {
	if bm.IsEmpty() {
		return nil
	}
	if m := bm.Maximum(); m >= rows {
		return fmt.Errorf("row %d of %d", m, rows)
	}
	return nil
}

// readBitmap turns the decoder's panics on nonsense into errors: its bytes
// passed a checksum, but a decoder here must never bring the process down.
func readBitmap(bm *roaring.Bitmap, r *bytes.Reader) (n int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("not a bitmap: %v", p)
		}
	}()
	return bm.ReadFrom(r)
}
