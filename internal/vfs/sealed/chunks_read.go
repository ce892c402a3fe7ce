package sealed

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"io"
	"slices"
	"sync"

	"kiln/internal/vfs"
)

// chunkLayout is where the chunks of a whole file lie.
type chunkLayout struct {
	name   string
	aead   cipher.AEAD
	chunk  int
	bytes  int64 // of the content
	stored int64 // of the file
	last   int64 // number of the last chunk
	// lent has *[]byte for what is read before it is opened; it is not wiped, as the
	// memory of the process has the same in its caches. nil: none.
	lent *sync.Pool
	// lenient gives zeros for a chunk that is not what was sealed.
	lenient bool
}

// newChunkLayout follows from the file's length. Whether that is the length that was
// written, the last chunk tells when it is read.
func newChunkLayout(name string, aead cipher.AEAD, chunk int, stored int64) (chunkLayout, error) {
	l := chunkLayout{name: name, aead: aead, chunk: chunk, stored: stored}
	body, full := stored-headerRegionBytes, int64(chunk+TagBytes)
	l.last = (body+full-1)/full - 1
	if body < TagBytes || body-l.last*full < TagBytes {
		return l, &vfs.CorruptError{File: name, Offset: stored, What: "the encrypted file was cut off"}
	}
	l.bytes = body - (l.last+1)*TagBytes
	return l, nil
}

// at is where a chunk is stored.
func (l *chunkLayout) at(number int64) int64 {
	return headerRegionBytes + number*int64(l.chunk+TagBytes)
}

// storedBytes is the length of a chunk with its tag.
func (l *chunkLayout) storedBytes(number int64) int {
	return int(min(int64(l.chunk+TagBytes), l.stored-l.at(number)))
}

// open decrypts a chunk behind dst.
func (l *chunkLayout) open(dst []byte, number int64, stored []byte) ([]byte, error) {
	if l.lenient {
		stored = bytes.Clone(stored) // dst may be its room, which a failure clears
	}
	nonce := chunkNonce(number, number == l.last)
	plain, err := l.aead.Open(dst, nonce[:], stored, nil)
	if err == nil {
		return plain, nil
	}
	if l.lenient {
		return l.openLenient(dst, number, stored), nil
	}
	what := "this chunk of the encrypted file is not what was written"
	if number == l.last {
		what += ", or the file was cut off here"
	}
	return nil, &vfs.CorruptError{File: l.name, Offset: number * int64(l.chunk), What: what}
}

// openLenient gives what is left: where the file was cut, the last chunk is one that
// was not the last.
func (l *chunkLayout) openLenient(dst []byte, number int64, stored []byte) []byte {
	at, nonce := len(dst), chunkNonce(number, number != l.last)
	if plain, err := l.aead.Open(dst, nonce[:], stored, nil); err == nil {
		return plain
	}
	dst = append(dst, stored[:len(stored)-TagBytes]...)
	clear(dst[at:])
	return dst
}

// readBytesMax are read at once.
const readBytesMax = 1 << 20

// readAt reads from the content, all of which is sealed.
func (l *chunkLayout) readAt(inner io.ReaderAt, dst []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("cannot read at a negative offset")
	}
	if l.bytes == 0 { // nothing is to be had, but was anything there?
		if err := l.readChunks(inner, nil, 0, 0); err != nil || len(dst) == 0 {
			return 0, err
		}
		return 0, io.EOF
	}
	want := min(int64(len(dst)), l.bytes-offset)
	done := int64(0)
	for done < want {
		first := (offset + done) / int64(l.chunk)
		last := (offset + want - 1) / int64(l.chunk)
		last = min(last, first+readBytesMax/int64(l.chunk)-1)
		skip := int(offset + done - first*int64(l.chunk))
		end := min(want, (last+1)*int64(l.chunk)-offset)
		if err := l.readChunks(inner, dst[done:end], first, skip); err != nil {
			return int(done), err
		}
		done = end
	}
	if done < int64(len(dst)) {
		return int(max(done, 0)), io.EOF
	}
	return int(done), nil
}

// readChunks fills dst with what begins skip bytes into the chunk first.
func (l *chunkLayout) readChunks(inner io.ReaderAt, dst []byte, first int64, skip int) error {
	last := first + int64(max(0, skip+len(dst)-1))/int64(l.chunk)
	from := l.at(first)
	n := int(l.at(last)-from) + l.storedBytes(last)
	buf, giveBack := l.lend(n)
	defer giveBack()
	got, err := inner.ReadAt(buf, from)
	if got < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	for number := first; number <= last; number++ {
		stored := buf[:l.storedBytes(number)]
		buf = buf[len(stored):]
		if skip == 0 && len(dst) >= len(stored)-TagBytes { // all of it is wanted, where it goes
			plain, err := l.open(dst[:0:len(dst)], number, stored)
			if err != nil {
				return err
			}
			dst = dst[len(plain):]
			continue
		}
		plain, err := l.open(stored[:0], number, stored)
		if err != nil {
			return err
		}
		dst = dst[copy(dst, plain[skip:]):]
		skip = 0
	}
	return nil
}

func (l *chunkLayout) lend(n int) (buf []byte, giveBack func()) {
	if l.lent == nil {
		return make([]byte, n), func() {}
	}
	b, _ := l.lent.Get().(*[]byte)
	if b == nil {
		b = new([]byte)
	}
	*b = slices.Grow((*b)[:0], n)[:n]
	return *b, func() { l.lent.Put(b) }
}

// ReadAt reads what is sealed, and what is not yet.
func (f *chunkFile) ReadAt(dst []byte, offset int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.writing == nil {
		return f.layout.readAt(f.inner, dst, offset)
	}
	if f.err != nil {
		return 0, f.err
	}
	s := f.writing
	l := f.layout // of the whole chunks that are sealed
	l.bytes, l.stored, l.last = s.number*int64(s.chunk), f.written, -1
	n := 0
	if offset < l.bytes {
		var err error
		n, err = l.readAt(f.inner, dst[:min(int64(len(dst)), l.bytes-offset)], offset)
		if err != nil {
			return n, err
		}
	}
	if at := offset + int64(n) - l.bytes; at >= 0 && at < int64(len(s.tail)) {
		n += copy(dst[n:], s.tail[at:])
	}
	if n < len(dst) {
		return n, io.EOF
	}
	return n, nil
}
