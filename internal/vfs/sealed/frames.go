package sealed

import (
	"cmp"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"

	"kiln/internal/vfs"
)

// A frame, little endian. Each WriteAt makes frames of its own, behind all others; a
// frame that was written is never changed, so what was synced stays as it was whatever
// becomes of a later write.
//
//	0        8        12      24    28
//	+--------+--------+-------+-----+------------------+
//	| offset | length | nonce | crc | content, and tag |
//	+--------+--------+-------+-----+------------------+
//
// offset and length are the content's. The nonce is random, so that a frame behind one
// that was cut off never has the nonce of that one; bytes 0 to 24 are the additional
// data. crc is the CRC32C of bytes 0 to 24: where it is wrong the file ends, for a
// write that was cut short leaves anything there. How long the file should be is what
// its owner knows.
const (
	frameHeaderBytes = 28
	frameCRCAt       = frameHeaderBytes - 4
	frameNonceAt     = 12
	// frameBytes is the most that is sealed together: reading a little of a frame
	// opens all of it.
	frameBytes = 64 << 10
)

// frame is where a piece of the content is.
type frame struct {
	offset, at int64 // of the content, and of the frame in the file
	length     int
}

func (f frame) end() int64 { return f.offset + int64(f.length) }

func (f frame) stored() int64 { return frameHeaderBytes + int64(f.length) + TagBytes }

// frameFile is a file of frames. It may be written in any order, but nothing twice.
type frameFile struct {
	inner    vfs.File
	name     string
	writable bool

	mu     sync.RWMutex // guards what follows
	aead   cipher.AEAD  // nil: the file is empty and has no header
	keys   *Keys
	frames []frame // by offset
	end    int64   // where the next frame goes
	err    error   // of a write; it sticks, as there may be anything behind the last frame
}

func createFrames(inner vfs.File, name string, keys *Keys) *frameFile {
	return &frameFile{inner: inner, name: name, keys: keys, writable: true}
}

// openFrames finds the frames of a file of stored bytes.
func openFrames(inner vfs.File, name string, aead cipher.AEAD, stored int64, writable bool) (*frameFile, error) {
	f := &frameFile{inner: inner, name: name, aead: aead, end: headerRegionBytes, writable: writable}
	var head [frameHeaderBytes]byte
	for offset := int64(0); f.end+frameHeaderBytes <= stored; {
		if n, err := inner.ReadAt(head[:], f.end); n < len(head) {
			return nil, fmt.Errorf("cannot read %q: %w", name, errors.Join(err, io.ErrUnexpectedEOF))
		}
		next, ok := parseFrame(head, f.end)
		if !ok || next.offset != offset || f.end+next.stored() > stored {
			break
		}
		f.frames = append(f.frames, next)
		offset, f.end = next.end(), f.end+next.stored()
	}
	return f, nil
}

func parseFrame(head [frameHeaderBytes]byte, at int64) (frame, bool) {
	offset, length := binary.LittleEndian.Uint64(head[:]), binary.LittleEndian.Uint32(head[8:])
	f := frame{offset: int64(offset), at: at, length: int(length)}
	ok := crc32.Checksum(head[:frameCRCAt], castagnoli) == binary.LittleEndian.Uint32(head[frameCRCAt:])
	return f, ok && f.offset >= 0 && length > 0 && length <= frameBytes
}

// begin writes the header with the first frame. f.mu is held.
func (f *frameFile) begin() []byte {
	if f.aead != nil {
		return nil
	}
	h, aead := newHeader(f.keys, formFrames)
	f.aead = aead
	return h.region()
}

// WriteAt adds frames. The bytes must not have been written before.
func (f *frameFile) WriteAt(p []byte, offset int64) (int, error) {
	if !f.writable {
		return 0, fmt.Errorf("cannot write %q: it was opened for reading", f.name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if f.covers(offset, int64(len(p))) {
		return 0, fmt.Errorf("cannot write %q at offset %d: %w", f.name, offset, errOrder)
	}
	out, at := f.begin(), f.end
	f.end += int64(len(out))
	var added []frame
	for from := 0; from < len(p); from += frameBytes {
		part := p[from:min(len(p), from+frameBytes)]
		next := frame{offset: offset + int64(from), at: f.end, length: len(part)}
		out = f.appendFrame(out, next, part)
		added, f.end = append(added, next), f.end+next.stored()
	}
	if _, f.err = f.inner.WriteAt(out, at); f.err != nil {
		return 0, f.err
	}
	f.enter(added)
	return len(p), nil
}

func (f *frameFile) appendFrame(out []byte, next frame, part []byte) []byte {
	start := len(out)
	out = slices.Grow(out, int(next.stored()))
	out = binary.LittleEndian.AppendUint64(out, uint64(next.offset))
	out = binary.LittleEndian.AppendUint32(out, uint32(next.length))
	var nonce [nonceBytes]byte
	Random(nonce[:])
	out = append(out, nonce[:]...)
	head := out[start:]
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(head, castagnoli))
	return f.aead.Seal(out, nonce[:], part, head)
}

// enter takes up frames that lie one behind the other.
func (f *frameFile) enter(added []frame) {
	at := f.search(added[0].offset)
	f.frames = slices.Insert(f.frames, at, added...)
}

// search is the first frame that ends behind an offset.
func (f *frameFile) search(offset int64) int {
	at, _ := slices.BinarySearchFunc(f.frames, offset, func(x frame, offset int64) int { return cmp.Compare(x.end(), offset+1) })
	return at
}

// covers tells whether any of the bytes are there.
func (f *frameFile) covers(offset, bytes int64) bool {
	at := f.search(offset)
	return offset < 0 || at < len(f.frames) && f.frames[at].offset < offset+bytes
}

// ReadAt reads what was written; what lies between is an error, not zeros.
func (f *frameFile) ReadAt(dst []byte, offset int64) (int, error) {
	n := 0
	var buf []byte
	for n < len(dst) {
		f.mu.RLock()
		at := f.search(offset + int64(n))
		var x frame
		if at < len(f.frames) {
			x = f.frames[at]
		}
		err := f.err
		f.mu.RUnlock()
		switch {
		case err != nil:
			return n, err
		case x.length == 0:
			return n, io.EOF
		case x.offset > offset+int64(n):
			return n, &vfs.CorruptError{File: f.name, Offset: offset + int64(n), What: "these bytes of the encrypted file were not written"}
		}
		if buf, err = f.open(buf, x); err != nil {
			return n, err
		}
		n += copy(dst[n:], buf[offset+int64(n)-x.offset:])
	}
	return n, nil
}

// open reads a frame into buf's room.
func (f *frameFile) open(buf []byte, x frame) ([]byte, error) {
	buf = slices.Grow(buf[:0], int(x.stored()))[:x.stored()]
	if n, err := f.inner.ReadAt(buf, x.at); n < len(buf) {
		return nil, fmt.Errorf("cannot read %q: %w", f.name, errors.Join(err, io.ErrUnexpectedEOF))
	}
	again, ok := parseFrame([frameHeaderBytes]byte(buf), x.at)
	sealed := buf[frameHeaderBytes:]
	plain, err := f.aead.Open(sealed[:0], buf[frameNonceAt:frameCRCAt], sealed, buf[:frameCRCAt])
	if err != nil || !ok || again != x {
		return nil, &vfs.CorruptError{File: f.name, Offset: x.offset, What: "this part of the encrypted file is not what was written"}
	}
	return plain, nil
}

// Truncate cuts the file at the end of a WriteAt, where its owner knows it to be whole.
func (f *frameFile) Truncate(bytes int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	at := f.search(bytes)
	switch {
	case bytes < 0 || at < len(f.frames) && f.frames[at].offset < bytes || bytes > f.length():
		return &vfs.CorruptError{File: f.name, Offset: bytes, What: "the encrypted file has no end of a write here"}
	case f.aead == nil:
		return nil
	}
	end := int64(headerRegionBytes)
	for _, x := range f.frames[:at] {
		end = max(end, x.at+x.stored())
	}
	if f.err = f.inner.Truncate(end); f.err != nil {
		return f.err
	}
	f.frames, f.end = f.frames[:at], end
	return nil
}

func (f *frameFile) length() int64 {
	if len(f.frames) == 0 {
		return 0
	}
	return f.frames[len(f.frames)-1].end()
}

// Bytes is where the last frame's content ends.
func (f *frameFile) Bytes() (int64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.length(), f.err
}

// EndsWhole tells whether a file of frames ends with its last frame. Behind it may be a
// write that a crash cut short, or frames behind one that is damaged. Other files have
// their end in their content.
func EndsWhole(file vfs.File) (bool, error) {
	f, ok := file.(*frameFile)
	if !ok {
		return true, nil
	}
	stored, err := f.inner.Bytes()
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.end == max(stored, headerRegionBytes), err
}

// Sync makes the frames durable.
func (f *frameFile) Sync() error { return f.inner.Sync() }

// SyncData makes the frames durable.
func (f *frameFile) SyncData() error { return f.inner.SyncData() }

// Close closes the file.
func (f *frameFile) Close() error { return f.inner.Close() }

// WriteBack does nothing: such files are small, or are not kept.
func (f *frameFile) WriteBack(int64, int64) {}

// Preallocate is not for files whose length tells where they end.
func (f *frameFile) Preallocate(int64) error {
	return fmt.Errorf("cannot reserve space in %q: %w", f.name, errors.ErrUnsupported)
}
