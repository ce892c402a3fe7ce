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
	ended  bool // read to its end
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
func newDecoded(r io.ReadCloser, spare spareDecoders) (*decoded, error) {
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
		return d, d.openZstd(buffered, spare)
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

func (d *decoded) openZstd(r io.Reader, spare spareDecoders) error {
	z, err := spare.take(r)
	if err != nil {
		return fmt.Errorf("cannot read zstd header: %w", err)
	}
	d.Reader, d.close, d.packed = z, func() { spare.give(z, d.ended) }, true
	return nil
}

// spareDecoders keeps the zstd decoders of ended inputs for those that follow: each
// has megabytes of memory, and of many small inputs each would make its own. It has
// no more than were open together. What it holds in the end is garbage.
type spareDecoders chan *zstd.Decoder

func (s spareDecoders) take(r io.Reader) (*zstd.Decoder, error) {
	select {
	case z := <-s:
		return z, z.Reset(r)
	default:
	}
	return zstd.NewReader(r,
		zstd.WithDecoderConcurrency(1), // no goroutines of its own
		zstd.WithDecoderLowmem(false),
		zstd.WithDecoderMaxWindow(decoderWindowBytesMax),
		zstd.WithDecoderMaxMemory(1<<62), // a stream of any length; the window bounds the memory
	)
}

// give keeps a decoder that nobody reads from any more, unless its input was not read
// to the end: what it was in the middle of is not looked at again.
func (s spareDecoders) give(z *zstd.Decoder, ended bool) {
	if ended && z.Reset(nil) == nil { // it forgets its input
		select {
		case s <- z:
			return
		default:
		}
	}
	z.Close()
}

func (d *decoded) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	d.given += int64(n)
	d.ended = err == io.EOF
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
