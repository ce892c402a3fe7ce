package sealed

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"hash/crc32"

	"kiln/internal/vfs"
)

// A sealed file begins with two equal copies of its header, each in a page of its own
// and followed by zeros: one page that a disk loses does not take the file with it.
// Little endian:
//
//	0       16       20     24       32      44               92    96        4096
//	+-------+--------+------+--------+-------+----------------+-----+---------+
//	| magic | format | form | key id | nonce | wrapped key    | crc | zeros   |
//	+-------+--------+------+--------+-------+----------------+-----+---------+
//
// form is 0 for frames, else the plain bytes of a chunk. The file's key is sealed under
// the key of that id with the nonce, which is random, bytes 0 to 32 being the
// additional data. crc is the CRC32C of bytes 0 to 92: damage is told without a key.
const (
	magic              = "\x8bSEALED\r\n\x1a\n\x00kiln"
	formatVersion      = 1
	headerPrefixBytes  = 32
	headerBytes        = 96
	headerPageBytes    = 4096
	headerRegionBytes  = 2 * headerPageBytes
	headerWrappedAt    = headerPrefixBytes + nonceBytes
	headerCRCAt        = headerBytes - 4
	chunkBytesMin      = 512
	chunkBytesMax      = 1 << 20
	formFrames         = 0
	magicMatchesNeeded = len(magic) * 3 / 4 // what begins so was sealed, and may be damaged
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is what the first bytes say.
type header struct {
	form int // bytes of a chunk, or formFrames
	id   KeyID
	raw  [headerBytes]byte
}

// newHeader makes a header with a key of its own.
func newHeader(keys *Keys, form int) (*header, cipher.AEAD) {
	master := &keys.list[0]
	h := &header{form: form, id: master.id}
	b := append(h.raw[:0], magic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(form))
	b = append(b, master.id[:]...)
	var key [KeyBytes]byte
	var nonce [nonceBytes]byte
	Random(key[:])
	Random(nonce[:])
	b = append(b, nonce[:]...)
	b = master.wrap.Seal(b, nonce[:], key[:], h.raw[:headerPrefixBytes])
	binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return h, newAEAD(key[:])
}

// region is what the file begins with.
func (h *header) region() []byte {
	b := make([]byte, headerRegionBytes)
	copy(b, h.raw[:])
	copy(b[headerPageBytes:], h.raw[:])
	return b
}

// looksSealed tells a sealed file, damaged or not, by its first bytes.
func looksSealed(b []byte) bool {
	matches := 0
	for i := range min(len(b), len(magic)) {
		if b[i] == magic[i] {
			matches++
		}
	}
	return matches >= magicMatchesNeeded
}

// parseRegion reads a file's first headerRegionBytes. lenient: one sound copy is enough.
func parseRegion(name string, b []byte, lenient bool) (*header, error) {
	damaged := func(at int64, what string) error { return &vfs.CorruptError{File: name, Offset: at, What: what} }
	if len(b) < headerRegionBytes {
		return nil, damaged(int64(len(b)), "the encrypted file ends within its header")
	}
	first, what := parseHeader(b[:headerPageBytes])
	second, what2 := parseHeader(b[headerPageBytes:headerRegionBytes])
	switch {
	case lenient && first != nil:
		return first, nil
	case lenient && second != nil:
		return second, nil
	case first == nil:
		return nil, damaged(0, what)
	case second == nil:
		return nil, damaged(headerPageBytes, what2)
	case first.raw != second.raw:
		return nil, damaged(headerPageBytes, "the two copies of the header differ")
	}
	return first, nil
}

// parseHeader reads one page of the header; nil, and why.
func parseHeader(page []byte) (*header, string) {
	h := &header{raw: [headerBytes]byte(page)}
	switch {
	case !bytes.HasPrefix(page, []byte(magic)):
		return nil, "the encrypted file does not begin as one"
	case crc32.Checksum(page[:headerCRCAt], castagnoli) != binary.LittleEndian.Uint32(page[headerCRCAt:]):
		return nil, "the header of the encrypted file has a wrong checksum"
	case len(bytes.TrimRight(page[headerBytes:], "\x00")) > 0:
		return nil, "there is something behind the header of the encrypted file"
	case binary.LittleEndian.Uint32(page[16:]) != formatVersion:
		return nil, "the encrypted file has a format that this program does not know"
	}
	h.form = int(binary.LittleEndian.Uint32(page[20:]))
	if h.form != formFrames && (h.form < chunkBytesMin || h.form > chunkBytesMax) {
		return nil, "the header of the encrypted file contradicts itself"
	}
	h.id = KeyID(page[24:])
	return h, ""
}

// open unwraps the file's key. ErrKey.
func (h *header) open(name string, keys *Keys) (cipher.AEAD, error) {
	master, err := keys.find(h.id)
	if err != nil {
		return nil, &fileKeyError{name: name, err: err}
	}
	key, err := master.wrap.Open(nil, h.raw[headerPrefixBytes:headerWrappedAt], h.raw[headerWrappedAt:headerCRCAt], h.raw[:headerPrefixBytes])
	if err != nil {
		return nil, &vfs.CorruptError{File: name, What: "the header of the encrypted file is not what was written"}
	}
	return newAEAD(key), nil
}

// fileKeyError names the file that needs another key.
type fileKeyError struct {
	name string
	err  error
}

func (e *fileKeyError) Error() string { return "cannot read \"" + e.name + "\": " + e.err.Error() }
func (e *fileKeyError) Unwrap() error { return e.err }
