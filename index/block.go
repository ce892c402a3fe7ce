package index

import (
	"encoding/binary"
	"hash/crc32"

	"kiln/internal/vfs"
)

// A block on disk:
//
//	0       4       8       12     13      14         16
//	+-------+-------+-------+------+-------+----------+-----------
//	| crc   | bytes | raw   | kind | codec | reserved | payload
//	+-------+-------+-------+------+-------+----------+-----------
//	crc       CRC32C of run id u64, file offset u64, and all that follows crc
//	bytes     length of the payload
//	raw       length of the decoded payload; equal to bytes when codec is 0
//	reserved  0
//
// Little endian. Blocks follow each other without gaps.
const blockHeaderBytes = 16

type blockKind uint8

const (
	blockBodies       blockKind = 1
	blockBodyIndex    blockKind = 2
	blockKeys         blockKind = 3
	blockKeyIndex     blockKind = 4
	blockFilter       blockKind = 5
	blockColumns      blockKind = 6
	blockColumnIndex  blockKind = 7
	blockDropped      blockKind = 8
	blockTerms        blockKind = 9
	blockTermIndex    blockKind = 10
	blockPostings     blockKind = 11
	blockPostingIndex blockKind = 12
)

func (k blockKind) String() string {
	names := [...]string{"", "bodies", "body index", "keys", "key index", "filter", "columns", "column index",
		"dropped rows", "terms", "term index", "postings", "posting index"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

const (
	codecNone = 0
	codecZstd = 1
)

// castagnoli is a constant table.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// putBlockHeader fills the header at the front of block, whose payload is in
// place behind it.
func putBlockHeader(block []byte, id RunID, offset int64, kind blockKind, codec byte, rawBytes int) {
	binary.LittleEndian.PutUint32(block[4:], uint32(len(block)-blockHeaderBytes))
	binary.LittleEndian.PutUint32(block[8:], uint32(rawBytes))
	block[12], block[13], block[14], block[15] = byte(kind), codec, 0, 0
	binary.LittleEndian.PutUint32(block, placedCRC(id, offset, block[4:]))
}

// placedCRC is the CRC32C of data at its place, so that bytes that went to a
// wrong file or offset do not pass.
func placedCRC(id RunID, offset int64, data []byte) uint32 {
	var place [16]byte
	binary.LittleEndian.PutUint64(place[:], uint64(id))
	binary.LittleEndian.PutUint64(place[8:], uint64(offset))
	return crc32.Update(crc32.Checksum(place[:], castagnoli), castagnoli, data)
}

// checkedBlock is a block whose checksum was right.
type checkedBlock struct {
	payload  []byte
	rawBytes int
	codec    byte
}

// checkBlock verifies the bytes of one whole block. what is empty when they
// are what was written there.
func checkBlock(block []byte, id RunID, offset int64, kind blockKind) (b checkedBlock, what string) {
	if len(block) < blockHeaderBytes {
		return b, "block is cut short"
	}
	if binary.LittleEndian.Uint32(block) != placedCRC(id, offset, block[4:]) {
		return b, kind.String() + " block fails its checksum"
	}
	b.payload = block[blockHeaderBytes:]
	b.rawBytes = int(binary.LittleEndian.Uint32(block[8:]))
	b.codec = block[13]
	switch {
	case int(binary.LittleEndian.Uint32(block[4:])) != len(b.payload):
		return b, kind.String() + " block has another length than its index says"
	case blockKind(block[12]) != kind:
		return b, kind.String() + " block expected, found " + blockKind(block[12]).String()
	case b.rawBytes > blockBytesMax:
		return b, kind.String() + " block is larger than allowed"
	case b.codec == codecNone && b.rawBytes != len(b.payload), b.codec > codecZstd:
		return b, kind.String() + " block has an unknown coding"
	}
	return b, ""
}

func corrupt(file string, offset int64, what string) error {
	return &vfs.CorruptError{File: file, Offset: offset, What: what}
}
