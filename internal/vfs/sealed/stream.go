package sealed

import (
	"bufio"
	"fmt"
	"io"

	"kiln/internal/vfs"
)

// NewSealing reads from, sealed as chunks. An error of from comes before the end is
// sealed, so what was read until then is no whole file.
func NewSealing(from io.Reader, keys *Keys) io.Reader {
	return &sealing{from: from, s: newSealer(keys), buf: make([]byte, stepBytes)}
}

type sealing struct {
	from io.Reader
	s    *sealer
	buf  []byte
	read int // of s.out
	err  error
}

func (r *sealing) Read(p []byte) (int, error) {
	for r.read == len(r.s.out) {
		if r.err != nil {
			return 0, r.err
		}
		r.s.out, r.read = r.s.out[:0], 0
		n, err := r.from.Read(r.buf)
		r.s.add(r.buf[:n])
		if r.err = err; err == io.EOF {
			r.s.end()
		}
	}
	n := copy(p, r.s.out[r.read:])
	r.read += n
	return n, nil
}

// SealedBytes is how long content of so many bytes is when it is sealed as chunks.
func SealedBytes(content int64) int64 {
	chunks := max(1, (content+chunkBytes-1)/chunkBytes)
	return headerRegionBytes + content + chunks*TagBytes
}

// ContentBytes is how long the content is of so many sealed bytes; -1: no content is.
func ContentBytes(stored int64) int64 {
	l, err := newChunkLayout("", nil, chunkBytes, stored)
	if err != nil {
		return -1
	}
	return l.bytes
}

// NewOpening reads the content of a sealed stream of chunks; name is what errors call it.
func NewOpening(from io.Reader, name string, keys *Keys) io.Reader {
	return &opening{from: bufio.NewReaderSize(whole{from}, openingBytes), keys: keys, layout: chunkLayout{name: name, last: -1}}
}

// openingBytes are read ahead: looking for the end behind each chunk should not be a
// read of its own.
const openingBytes = 8 * chunkBytes

// whole tells a stream that broke off from one that ended: sources that know how much
// is to come call the former io.ErrUnexpectedEOF, as reading a chunk does the latter. It
// is to be asked for again, and is no damage.
type whole struct{ from io.Reader }

func (w whole) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("the stream broke off: %w", err)
	}
	return n, err
}

type opening struct {
	from   *bufio.Reader
	keys   *Keys
	layout chunkLayout // aead is nil until the header was read
	number int64       // of the next chunk
	plain  []byte      // content that was not taken
	room   []byte
	err    error
}

func (r *opening) Read(p []byte) (int, error) {
	for len(r.plain) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.err = r.step()
	}
	n := copy(p, r.plain)
	r.plain = r.plain[n:]
	return n, nil
}

// step opens the next chunk. Only the stream's end tells which is the last.
func (r *opening) step() error {
	if r.layout.aead == nil {
		if err := r.begin(); err != nil {
			return err
		}
	}
	if r.layout.last >= 0 {
		return io.EOF
	}
	n, err := io.ReadFull(r.from, r.room)
	if err == nil {
		_, err = r.from.Peek(1)
	}
	switch {
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		r.layout.last = r.number
	case err != nil:
		return err
	}
	if n < TagBytes {
		return &vfs.CorruptError{File: r.layout.name, What: "the encrypted file was cut off"}
	}
	r.plain, err = r.layout.open(r.room[:0], r.number, r.room[:n])
	r.number++
	return err
}

func (r *opening) begin() error {
	region := make([]byte, headerRegionBytes)
	n, err := io.ReadFull(r.from, region)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return err
	}
	h, err := parseRegion(r.layout.name, region[:n], false)
	if err != nil {
		return err
	}
	if h.form == formFrames {
		return &vfs.CorruptError{File: r.layout.name, What: "the encrypted file is not of the form that it should be"}
	}
	r.layout.chunk, r.room = h.form, make([]byte, h.form+TagBytes)
	r.layout.aead, err = h.open(r.layout.name, r.keys)
	return err
}
