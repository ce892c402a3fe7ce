package bulk

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// peekBytes of buffered reading in front of the decoders.
const peekBytes = 256 << 10

var errBomb = errors.New("the file expands too much to be real data")

// decoded is an input's decompressed bytes. Content decides, not the name:
// gzip and zstd by their magic numbers, anything else as it is.
type decoded struct {
	io.Reader
	stored *countingReader
	source io.Closer
	close  func() // of the decoder
	given  int64
	packed bool
}

// newPlain reads r, which begins at an offset of its input, as it is.
func newPlain(r io.ReadCloser, from int64) *decoded {
	d := &decoded{stored: &countingReader{r: r}, source: r, close: func() {}}
	d.stored.n.Store(from)
	d.Reader = d.stored
	return d
}

// newDecoded looks at the first bytes of r. Close closes r too; after an error
// that is left to the caller.
func newDecoded(r io.ReadCloser) (*decoded, error) {
	d := &decoded{stored: &countingReader{r: r}, source: r, close: func() {}}
	buffered := bufio.NewReaderSize(d.stored, peekBytes)
	magic, err := buffered.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return d, d.openGzip(buffered)
	case isZstd(magic):
		return d, d.openZstd(buffered)
	}
	d.Reader = buffered
	return d, nil
}

// isZstd knows frames and skippable frames.
func isZstd(magic []byte) bool {
	return bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}) ||
		len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18})
}

func (d *decoded) openGzip(r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("cannot read gzip header: %w", err)
	}
	d.Reader, d.packed = z, true
	return nil
}

func (d *decoded) openZstd(r io.Reader) error {
	z, err := zstd.NewReader(r,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(false),
		zstd.WithDecoderMaxWindow(decoderWindowBytesMax),
		zstd.WithDecoderMaxMemory(1<<62), // a stream of any length; the window bounds the memory
	)
	if err != nil {
		return fmt.Errorf("cannot read zstd header: %w", err)
	}
	d.Reader, d.close, d.packed = z, z.Close, true
	return nil
}

func (d *decoded) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	d.given += int64(n)
	if d.packed && d.given > expansionBytesMin && d.given/expansionMax > d.stored.count() {
		return 0, errBomb
	}
	return n, err
}

func (d *decoded) Close() error {
	d.close()
	return d.source.Close()
}

// countingReader counts stored bytes, for progress.
type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) count() int64 { return c.n.Load() }

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
