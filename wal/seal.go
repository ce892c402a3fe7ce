package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"kiln/internal/vfs/sealed"
)

// On a file system that seals (sealed.KeysOf) the log's files are its own affair: what
// tells a torn tail from damage, zeros and checksums, must be read without a key. So
// headers stay as they are, and payloads are sealed. Their checksum is that of the
// sealed bytes. A sealed payload, of a record with flagSealed:
//
//	0        8      24                                                   length
//	+--------+------+---------+-----+---------+-----+--- ... ---+---------+
//	| key id | salt | chunk 0 | tag | chunk 1 | tag |           | the last |
//	+--------+------+---------+-----+---------+-----+--- ... ---+---------+
//
// The key follows from the operator's key of that id and the salt, which every opening
// of the log draws anew. An opening gives an LSN to one record only, once; another that
// finds a torn tail gives its LSNs again, under another salt. So the LSN and the chunk's
// number are a nonce that is used once. The additional data are the record's type,
// flags, length and LSN. Plain and sealed records may follow each other.
const (
	flagSealed       = 1
	sealPrefixBytes  = 8 + sealed.SaltBytes
	sealChunkBytes   = 16 << 10 // a read of a body opens the chunks that it lies in
	sealPurpose      = "kiln log 1"
	sealStoredChunk  = sealChunkBytes + sealed.TagBytes
	sealAADBytes     = 14
	sealedPayloadMax = sealPrefixBytes + PayloadBytesMax + PayloadBytesMax/sealChunkBytes*sealed.TagBytes
)

var errUnauthentic = errors.New("the record's payload is not what was sealed")

// sealedLength is what a payload takes when it is sealed.
func sealedLength(n int) int {
	return sealPrefixBytes + n + max(1, (n+sealChunkBytes-1)/sealChunkBytes)*sealed.TagBytes
}

// plainLength is sealedLength's other way; false: no payload is that long.
func plainLength(stored int) (int, bool) {
	chunks := (stored - sealPrefixBytes + sealStoredChunk - 1) / sealStoredChunk
	n := stored - sealPrefixBytes - chunks*sealed.TagBytes
	return n, n >= 0 && sealedLength(n) == stored
}

func (h *recordHeader) isSealed() bool { return h.flags&flagSealed != 0 }

// lengthMax is the longest payload, as it is stored.
func (h *recordHeader) lengthMax() uint32 {
	if h.isSealed() {
		return sealedPayloadMax
	}
	return PayloadBytesMax
}

func (h *recordHeader) sealAAD() (aad [sealAADBytes]byte) {
	aad[0], aad[1] = byte(h.typ), h.flags
	binary.LittleEndian.PutUint32(aad[2:], h.length)
	binary.LittleEndian.PutUint64(aad[6:], uint64(h.lsn))
	return aad
}

func sealNonce(lsn LSN, chunk int) (nonce [12]byte) {
	binary.LittleEndian.PutUint64(nonce[:], uint64(lsn))
	binary.LittleEndian.PutUint32(nonce[8:], uint32(chunk))
	return nonce
}

// sealer seals what one opening of a log appends.
type sealer struct {
	prefix [sealPrefixBytes]byte
	key    *sealed.Derived
}

// newSealer draws a salt; nil without keys.
func newSealer(keys *sealed.Keys) (*sealer, error) {
	if keys == nil {
		return nil, nil
	}
	s := &sealer{}
	id := keys.Current()
	copy(s.prefix[:], id[:])
	sealed.Random(s.prefix[len(id):])
	var err error
	s.key, err = keys.Derive(id, sealPurpose, [sealed.SaltBytes]byte(s.prefix[len(id):]))
	return s, err
}

// stored is the length of a payload in the log.
func (s *sealer) stored(n int) int {
	if s == nil {
		return n
	}
	return sealedLength(n)
}

// seal appends the payload of a record, of which type and LSN are set, and sets its
// flags and length.
func (s *sealer) seal(dst []byte, h *recordHeader, payload []byte) []byte {
	h.flags, h.length = flagSealed, uint32(sealedLength(len(payload)))
	aad := h.sealAAD()
	dst = slices.Grow(dst, int(h.length))
	dst = append(dst, s.prefix[:]...)
	for chunk := 0; chunk == 0 || len(payload) > 0; chunk++ {
		n := min(len(payload), sealChunkBytes)
		nonce := sealNonce(h.lsn, chunk)
		dst = s.key.AEAD.Seal(dst, nonce[:], payload[:n], aad[:])
		payload = payload[n:]
	}
	return dst
}

// opener opens sealed payloads. Safe for concurrent use.
type opener struct {
	keys *sealed.Keys
	mu   sync.Mutex // guards known
	// known are the keys of the openings that were met.
	known map[[sealPrefixBytes]byte]*sealed.Derived
}

func newOpener(keys *sealed.Keys) *opener {
	return &opener{keys: keys, known: map[[sealPrefixBytes]byte]*sealed.Derived{}}
}

// openerKeysMax bounds what is remembered; a damaged log may name any number.
const openerKeysMax = 64

func (o *opener) key(prefix [sealPrefixBytes]byte) (*sealed.Derived, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if key := o.known[prefix]; key != nil {
		return key, nil
	}
	key, err := o.keys.Derive(sealed.KeyID(prefix[:8]), sealPurpose, [sealed.SaltBytes]byte(prefix[8:]))
	if err != nil {
		return nil, fmt.Errorf("cannot read the log: %w", err)
	}
	if len(o.known) >= openerKeysMax {
		maps.DeleteFunc(o.known, func([sealPrefixBytes]byte, *sealed.Derived) bool { return true })
	}
	o.known[prefix] = key
	return key, nil
}

// open appends a record's payload as it was before it was sealed. errUnauthentic, or
// sealed.ErrKey.
func (o *opener) open(dst []byte, h *recordHeader, stored []byte) ([]byte, error) {
	return o.openWith(dst, h, stored, false)
}

// salvaged is open, but a chunk that is not what was sealed is given as it reads.
func (o *opener) salvaged(h *recordHeader, stored []byte) ([]byte, error) {
	return o.openWith(nil, h, stored, true)
}

func (o *opener) openWith(dst []byte, h *recordHeader, stored []byte, unchecked bool) ([]byte, error) {
	if _, ok := plainLength(len(stored)); !ok {
		return nil, errUnauthentic
	}
	key, err := o.key([sealPrefixBytes]byte(stored))
	if err != nil {
		return nil, err
	}
	aad := h.sealAAD()
	stored = stored[sealPrefixBytes:]
	for chunk := 0; len(stored) > 0; chunk++ {
		part := stored[:min(len(stored), sealStoredChunk)]
		stored = stored[len(part):]
		nonce := sealNonce(h.lsn, chunk)
		plain, err := key.AEAD.Open(dst, nonce[:], part, aad[:])
		switch {
		case err == nil:
			dst = plain
		case unchecked:
			dst = key.Unchecked(dst, nonce, part[:len(part)-sealed.TagBytes])
		default:
			return nil, errUnauthentic
		}
	}
	return dst, nil
}

// readAt fills dst from a position in a segment, where a sealed record may be.
func (o *opener) readAt(s *segment, dst []byte, at Position) error {
	if o.keys == nil {
		return readFull(s, dst, int64(at.Offset)+int64(at.Inner))
	}
	var raw [recordHeaderBytes + sealPrefixBytes]byte
	if err := readFull(s, raw[:recordHeaderBytes], int64(at.Offset)-recordHeaderBytes); err != nil {
		return err
	}
	var h recordHeader
	if h.unmarshal(raw[:], s.header.id) != nil && !eachBit(raw[:recordHeaderBytes], func() bool { return h.unmarshal(raw[:], s.header.id) == nil }) {
		return s.corrupt(int64(at.Offset)-recordHeaderBytes, errHeaderCRC.Error())
	}
	if !h.isSealed() {
		return readFull(s, dst, int64(at.Offset)+int64(at.Inner))
	}
	n, ok := plainLength(int(h.length))
	if !ok || int64(at.Inner)+int64(len(dst)) > int64(n) {
		return s.corrupt(int64(at.Offset), "the record is shorter than what is asked for")
	}
	prefix := raw[recordHeaderBytes:]
	if err := readFull(s, prefix, int64(at.Offset)); err != nil {
		return err
	}
	key, err := o.key([sealPrefixBytes]byte(prefix))
	if err != nil {
		return err
	}
	return readChunks(s, &h, key, dst, at)
}

// readChunks opens the chunks that dst lies in.
func readChunks(s *segment, h *recordHeader, key *sealed.Derived, dst []byte, at Position) error {
	if len(dst) == 0 {
		return nil
	}
	first, last := int(at.Inner)/sealChunkBytes, (int(at.Inner)+len(dst)-1)/sealChunkBytes
	begin := sealPrefixBytes + first*sealStoredChunk
	end := min(sealPrefixBytes+(last+1)*sealStoredChunk, int(h.length))
	buf := make([]byte, end-begin)
	if err := readFull(s, buf, int64(at.Offset)+int64(begin)); err != nil {
		return err
	}
	aad, skip := h.sealAAD(), int(at.Inner)-first*sealChunkBytes
	for chunk := first; chunk <= last; chunk++ {
		part := buf[:min(len(buf), sealStoredChunk)]
		buf = buf[len(part):]
		nonce := sealNonce(h.lsn, chunk)
		plain, err := key.AEAD.Open(part[:0], nonce[:], part, aad[:])
		if err != nil {
			return s.corrupt(int64(at.Offset), errUnauthentic.Error())
		}
		dst = dst[copy(dst, plain[skip:]):]
		skip = 0
	}
	return nil
}

func readFull(s *segment, dst []byte, offset int64) error {
	n, err := s.file.ReadAt(dst, offset)
	if n == len(dst) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("cannot read segment %q at offset %d: %w", s.name, offset, err)
}
