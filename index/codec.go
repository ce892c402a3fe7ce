package index

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// newEncoder makes the encoder of body blocks. Every option that matters is
// named: level (fastest is as small as default at 64 to 256 KiB and twice as fast), one
// goroutine (the import's workers are the parallelism), no checksum of its own
// (blocks have one). The window comes before the level: in the other order the
// level lowers zstd's own block size to 64 KiB, and our blocks
// would miss the encoder's faster path for a single block.
func newEncoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil,
		zstd.WithWindowSize(1<<20),
		zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false),
		zstd.WithLowerEncoderMem(false),
		zstd.WithZeroFrames(true),
	)
	if err != nil {
		panic("BUG: zstd refuses the encoder's options: " + err.Error())
	}
	return e
}

// newDecoder makes a decoder that never gives more than the room it is given.
func newDecoder(concurrency int) *zstd.Decoder {
	d, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(concurrency),
		zstd.WithDecoderMaxMemory(blockBytesMax),
		zstd.WithDecoderMaxWindow(64<<20),
		zstd.WithDecodeAllCapLimit(true),
		zstd.IgnoreChecksum(true),
	)
	if err != nil {
		panic("BUG: zstd refuses the decoder's options: " + err.Error())
	}
	return d
}

// decodeBlock gives the raw bytes of a checked block: in room's memory, which
// is made larger when it does not suffice, or the payload itself when it is not
// compressed.
func decodeBlock(d *zstd.Decoder, room *[]byte, b checkedBlock) ([]byte, error) {
	if b.codec == codecNone {
		return b.payload, nil
	}
	if cap(*room) < b.rawBytes {
		*room = make([]byte, 0, b.rawBytes+b.rawBytes/8) // the next block is a little larger
	}
	raw, err := d.DecodeAll(b.payload, (*room)[:0:b.rawBytes])
	if err != nil {
		return nil, fmt.Errorf("cannot decompress the block: %w", err)
	}
	if len(raw) != b.rawBytes {
		return nil, fmt.Errorf("cannot decompress the block: %d bytes came out where %d went in", len(raw), b.rawBytes)
	}
	return raw, nil
}
