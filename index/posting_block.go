package index

import (
	"bytes"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"
)

// The payload of a posting block: portable roaring bitmaps, one behind the
// other, without anything between; terms know their places.

// parseBitmap copies a portable bitmap out of b, which it must fill. Every
// ordinal is below rows. The result shares nothing with b.
func parseBitmap(b []byte, rows uint32) (*roaring.Bitmap, error) {
	bm := roaring.New()
	r := bytes.NewReader(b)
	n, err := readBitmap(bm, r)
	if err != nil {
		return nil, fmt.Errorf("cannot read the bitmap: %w", err)
	}
	if n != int64(len(b)) {
		return nil, fmt.Errorf("cannot read the bitmap: it has %d bytes of %d", n, len(b))
	}
	if bm.IsEmpty() {
		return bm, nil
	}
	if err := bm.Validate(); err != nil {
		return nil, fmt.Errorf("cannot read the bitmap: %w", err)
	}
	if m := bm.Maximum(); m >= rows {
		return nil, fmt.Errorf("cannot read the bitmap: row %d of %d", m, rows)
	}
	return bm, nil
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
