package index

import (
	"encoding/binary"
	"math/bits"

	"kiln/fhir"
)

// The payload of a column block, for up to columnBlockRows rows:
//
//	+----------+--------------------------+---------------------+---
//	| rows u32 | 6 × (min i64, width u8)  | packed column 0 ... | 8 zero bytes
//	+----------+--------------------------+---------------------+---
//
// A column holds value - min in width bits a row (0 to 56, or 64), least
// significant bit first, padded to a byte at its end. Little endian. A dropped
// row repeats the row before it in the block, the first one is all zeros.
const (
	columnHeadBytes = 4 + columnCount*9
	columnPadBytes  = 8
)

// Columns, in file order.
const (
	columnType = iota
	columnVersion
	columnMilli
	columnOffset
	columnLSN
	columnFlags
	columnCount
)

type columnFrame struct {
	min   int64
	width uint
	at    int // offset of the packed bits in the payload
}

type columnBlock struct {
	payload []byte
	rows    int
	frames  [columnCount]columnFrame
}

// appendColumnBlock appends the payload; columns have the same length.
func appendColumnBlock(dst []byte, columns *[columnCount][]int64) []byte {
	rows := len(columns[0])
	dst = binary.LittleEndian.AppendUint32(dst, uint32(rows))
	var widths [columnCount]uint
	var mins [columnCount]int64
	for i, values := range columns {
		mins[i], widths[i] = frameOf(values)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(mins[i]))
		dst = append(dst, byte(widths[i]))
	}
	for i, values := range columns {
		dst = appendPacked(dst, values, mins[i], widths[i])
	}
	return append(dst, make([]byte, columnPadBytes)...)
}

func frameOf(values []int64) (lowest int64, width uint) {
	if len(values) == 0 {
		return 0, 0
	}
	lowest, highest := values[0], values[0]
	for _, v := range values {
		lowest, highest = min(lowest, v), max(highest, v)
	}
	width = uint(bits.Len64(uint64(highest) - uint64(lowest)))
	if width > 56 {
		width = 64
	}
	return lowest, width
}

func appendPacked(dst []byte, values []int64, lowest int64, width uint) []byte {
	if width == 0 {
		return dst
	}
	if width == 64 {
		for _, v := range values {
			dst = binary.LittleEndian.AppendUint64(dst, uint64(v)-uint64(lowest))
		}
		return dst
	}
	acc, n := uint64(0), uint(0)
	for _, v := range values {
		acc |= (uint64(v) - uint64(lowest)) << n
		for n += width; n >= 8; n -= 8 {
			dst = append(dst, byte(acc))
			acc >>= 8
		}
	}
	if n > 0 {
		dst = append(dst, byte(acc))
	}
	return dst
}

// parseColumnBlock reads the head; ok is false unless the lengths fit.
func parseColumnBlock(payload []byte) (c columnBlock, ok bool) {
	r := byteReader{b: payload}
	rows := r.uint32()
	if r.bad || rows == 0 || rows > columnBlockRows {
		return c, false
	}
	c.payload, c.rows = payload, int(rows)
	at := columnHeadBytes
	for i := range c.frames {
		f := &c.frames[i]
		f.min, f.width, f.at = int64(r.uint64()), uint(r.byte()), at
		if f.width > 56 && f.width != 64 {
			return c, false
		}
		at += (c.rows*int(f.width) + 7) / 8
	}
	return c, !r.bad && at+columnPadBytes == len(payload)
}

func (c *columnBlock) value(column, row int) int64 {
	f := &c.frames[column]
	if f.width == 0 {
		return f.min
	}
	bit := uint(row) * f.width
	v := binary.LittleEndian.Uint64(c.payload[f.at+int(bit>>3):])
	if f.width < 64 {
		v = v >> (bit & 7) & (1<<f.width - 1)
	}
	return int64(uint64(f.min) + v)
}

// row gives row i of the block, 0 <= i < rows. ok is false for values that no
// row has.
func (c *columnBlock) row(i int) (row Row, ok bool) {
	t, offset, flags := c.value(columnType, i), c.value(columnOffset, i), c.value(columnFlags, i)
	row = Row{
		Type:        fhir.TypeCode(t),
		VersionID:   c.value(columnVersion, i),
		LastUpdated: fhir.Instant{Milli: c.value(columnMilli, i), OffsetMinutes: int16(offset)},
		LSN:         uint64(c.value(columnLSN, i)),
		Flags:       Flags(flags),
	}
	return row, int64(row.Type) == t && int64(row.LastUpdated.OffsetMinutes) == offset && int64(row.Flags) == flags
}
