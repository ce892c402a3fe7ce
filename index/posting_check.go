package index

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// A portable bitmap (the specification of Roaring's formats):
//
//	+------------+-------------+------------------+----------------+-----------
//	| cookie u32 | which are   | n times key u16, | n offsets u32  | containers
//	| and n      | of runs     | values - 1 u16   | or none        |
//	+------------+-------------+------------------+----------------+-----------
//
// A container is up to 4096 values u16, 1024 words of bits, or a count u16 and so
// many runs (start u16, length - 1 u16). With runs, and below four containers,
// there are no offsets.
const (
	bitmapCookieRuns  = 12347 // lower half; the upper one is n - 1
	bitmapCookiePlain = 12346 // n u32 follows
	bitmapOffsetsMin  = 4
	containerListMax  = 4096
	containerWords    = containerBits / 64
)

var errBitmap = errors.New("it is not a bitmap")

// checkBitmap tells whether b is a bitmap that everything can be done with: keys
// and values ascend, runs lie apart, counts are true. roaring's own Validate
// takes the square of the runs' number, which made a search as slow as that.
func checkBitmap(b []byte) error {
	r := byteReader{b: b}
	n, runs := bitmapHead(&r)
	heads := r.take(4 * n)
	if runs == nil || n >= bitmapOffsetsMin {
		r.take(4 * n)
	}
	last := -1
	for i := uint64(0); i < n && !r.bad; i++ {
		head := binary.LittleEndian.Uint32(heads[4*i:])
		key, count := int(head&0xFFFF), int(head>>16)+1
		if key <= last || !checkContainer(&r, runs != nil && runs[i/8]>>(i%8)&1 != 0, count) {
			return errBitmap
		}
		last = key
	}
	if r.bad || len(r.b) > 0 {
		return errBitmap
	}
	return nil
}

// bitmapHead reads how many containers there are and which of them hold runs.
func bitmapHead(r *byteReader) (n uint64, runs []byte) {
	cookie := r.take(4)
	if r.bad {
		return 0, nil
	}
	if binary.LittleEndian.Uint16(cookie) == bitmapCookieRuns {
		n = uint64(binary.LittleEndian.Uint16(cookie[2:])) + 1
		return n, r.take((n + 7) / 8)
	}
	count := r.take(4)
	if r.bad || binary.LittleEndian.Uint32(cookie) != bitmapCookiePlain {
		r.bad = true
		return 0, nil
	}
	if n = uint64(binary.LittleEndian.Uint32(count)); n > containerBits {
		r.bad = true
	}
	return n, nil
}

func checkContainer(r *byteReader, ofRuns bool, count int) bool {
	switch {
	case ofRuns:
		return checkRuns(r)
	case count > containerListMax:
		words := r.take(8 * containerWords)
		for i := 0; i < len(words); i += 8 {
			count -= bits.OnesCount64(binary.LittleEndian.Uint64(words[i:]))
		}
		return !r.bad && count == 0
	}
	values := r.take(2 * uint64(count))
	last := -1
	for i := 0; i < len(values); i += 2 {
		value := int(binary.LittleEndian.Uint16(values[i:]))
		if value <= last {
			return false
		}
		last = value
	}
	return !r.bad
}

func checkRuns(r *byteReader) bool {
	count := r.take(2)
	if r.bad {
		return false
	}
	runs := r.take(4 * uint64(binary.LittleEndian.Uint16(count)))
	last := -2
	for i := 0; i < len(runs); i += 4 {
		start := int(binary.LittleEndian.Uint16(runs[i:]))
		end := start + int(binary.LittleEndian.Uint16(runs[i+2:]))
		if start <= last+1 || end >= containerBits {
			return false
		}
		last = end
	}
	return len(runs) > 0
}

// eachOrdinal calls fn with the ordinals of a bitmap that checkBitmap has passed,
// ascending, a container's at a time. ordinals is memory for them, and given back.
func eachOrdinal(ordinals []uint32, b []byte, fn func(ordinals []uint32)) []uint32 {
	c := openContainers(b)
	for c.left > 0 {
		ordinals = c.append(ordinals[:0])
		fn(ordinals)
	}
	return ordinals
}

// appendOrdinals appends all of them.
func appendOrdinals(dst []uint32, b []byte) []uint32 {
	c := openContainers(b)
	for c.left > 0 {
		dst = c.append(dst)
	}
	return dst
}

// containers are those of a bitmap that checkBitmap has passed, one after the other.
type containers struct {
	r           byteReader
	heads, runs []byte
	i, left     uint64
}

func openContainers(b []byte) containers {
	c := containers{r: byteReader{b: b}}
	c.left, c.runs = bitmapHead(&c.r)
	c.heads = c.r.take(4 * c.left)
	if c.runs == nil || c.left >= bitmapOffsetsMin {
		c.r.take(4 * c.left)
	}
	return c
}

// append appends the ordinals of the next container.
func (c *containers) append(dst []uint32) []uint32 {
	head := binary.LittleEndian.Uint32(c.heads[4*c.i:])
	base, count := head<<16, int(head>>16)+1
	isOfRuns := c.runs != nil && c.runs[c.i/8]>>(c.i%8)&1 != 0
	c.i, c.left = c.i+1, c.left-1
	switch {
	case isOfRuns:
		return appendRuns(dst, &c.r, base)
	case count > containerListMax:
		return appendWords(dst, c.r.take(8*containerWords), base)
	}
	values := c.r.take(2 * uint64(count))
	for j := 0; j < len(values); j += 2 {
		dst = append(dst, base|uint32(binary.LittleEndian.Uint16(values[j:])))
	}
	return dst
}

func appendRuns(dst []uint32, r *byteReader, base uint32) []uint32 {
	runs := r.take(4 * uint64(binary.LittleEndian.Uint16(r.take(2))))
	for i := 0; i < len(runs); i += 4 {
		start := base | uint32(binary.LittleEndian.Uint16(runs[i:]))
		for o := range uint32(binary.LittleEndian.Uint16(runs[i+2:])) + 1 {
			dst = append(dst, start+o)
		}
	}
	return dst
}

func appendWords(dst []uint32, words []byte, base uint32) []uint32 {
	for i := 0; i < len(words); i += 8 {
		for w := binary.LittleEndian.Uint64(words[i:]); w != 0; w &= w - 1 {
			dst = append(dst, base|uint32(8*i+bits.TrailingZeros64(w)))
		}
	}
	return dst
}
