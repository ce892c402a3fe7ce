package index

import (
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"

	"kiln/internal/vfs"
)

// fileWriter writes blocks one behind the other, in large calls, and hashes
// what it writes. An error sticks.
type fileWriter struct {
	file vfs.File
	name string
	id   RunID
	buf  []byte // not yet written
	base int64  // file offset of buf[0]
	hash *xxhash.Digest
	err  error
	// flushBytes are collected for one write call: writeBufferBytes, or less.
	flushBytes int
}

// newFileWriter writes through buf's room, if it has any.
func newFileWriter(file vfs.File, name string, id RunID, buf []byte) *fileWriter {
	w := &fileWriter{file: file, name: name, id: id, hash: xxhash.New(), buf: buf, flushBytes: writeBufferBytes}
	w.empty()
	return w
}

// empty keeps room for what fills the buffer and the block that overflows it,
// so that blocks of the usual size do not make it grow, and no more.
func (w *fileWriter) empty() {
	const room = writeBufferBytes + 2*bodyBlockBytes
	if cap(w.buf) < room || cap(w.buf) > 2*room {
		w.buf = make([]byte, 0, room)
	}
	w.buf = w.buf[:0]
}

// offset is where the next byte goes.
func (w *fileWriter) offset() int64 { return w.base + int64(len(w.buf)) }

// block writes one block without compression and returns its place.
func (w *fileWriter) block(kind blockKind, payload []byte) (offset int64, length int, err error) {
	start := w.begin()
	w.buf = append(w.buf, payload...)
	return w.end(start, kind, codecNone, len(payload))
}

// section is block for one of the footer's sections.
func (w *fileWriter) section(kind blockKind, payload []byte) (section, error) {
	offset, length, err := w.block(kind, payload)
	return section{offset: offset, bytes: int64(length)}, err
}

// copied writes a block of another run as it was compressed there.
func (w *fileWriter) copied(kind blockKind, b checkedBlock) (offset int64, length int, err error) {
	start := w.begin()
	w.buf = append(w.buf, b.payload...)
	return w.end(start, kind, b.codec, b.rawBytes)
}

// footer ends the file: its length and hash go into f.
func (w *fileWriter) footer(f *footer) error {
	if err := w.flush(); err != nil {
		return err
	}
	f.meta.Bytes = w.offset() + footerBytes
	unhashed := f.appendUnhashed(nil)
	_, _ = w.hash.Write(unhashed)
	f.meta.Hash = w.hash.Sum64()
	w.buf = append(w.buf, f.appendRest(unhashed)...)
	return w.flush()
}

// compressed writes one block with zstd, or plain when that is no smaller.
func (w *fileWriter) compressed(kind blockKind, enc *zstd.Encoder, raw []byte) (offset int64, length int, err error) {
	start := w.begin()
	w.buf = enc.EncodeAll(raw, w.buf)
	codec := byte(codecZstd)
	if len(w.buf)-start-blockHeaderBytes >= len(raw) {
		codec = codecNone
		w.buf = append(w.buf[:start+blockHeaderBytes], raw...)
	}
	return w.end(start, kind, codec, len(raw))
}

func (w *fileWriter) begin() (start int) {
	start = len(w.buf)
	w.buf = append(w.buf, make([]byte, blockHeaderBytes)...)
	return start
}

func (w *fileWriter) end(start int, kind blockKind, codec byte, rawBytes int) (offset int64, length int, err error) {
	offset, length = w.base+int64(start), len(w.buf)-start
	if length > blockBytesMax || rawBytes > blockBytesMax {
		w.err = fmt.Errorf("cannot write a %s block of %d bytes: at most %d", kind, rawBytes, blockBytesMax)
		return 0, 0, w.err
	}
	putBlockHeader(w.buf[start:], w.id, offset, kind, codec, rawBytes)
	if len(w.buf) >= w.flushBytes {
		return offset, length, w.flush()
	}
	return offset, length, w.err
}

func (w *fileWriter) flush() error {
	if w.err != nil || len(w.buf) == 0 {
		return w.err
	}
	if _, err := w.file.WriteAt(w.buf, w.base); err != nil {
		w.err = fmt.Errorf("cannot write run %q: %w", w.name, err)
		return w.err
	}
	_, _ = w.hash.Write(w.buf)
	w.base += int64(len(w.buf))
	w.empty()
	return nil
}

// read gives length bytes at offset, written or still buffered; they hold until
// the next write, or are in dst's room.
func (w *fileWriter) read(dst []byte, offset int64, length int) ([]byte, error) {
	if offset >= w.base {
		at := int(offset - w.base)
		return w.buf[at : at+length], nil
	}
	if cap(dst) < length {
		dst = make([]byte, length)
	}
	dst = dst[:length]
	if _, err := w.file.ReadAt(dst, offset); err != nil {
		return nil, fmt.Errorf("cannot read back run %q: %w", w.name, err)
	}
	return dst, nil
}
