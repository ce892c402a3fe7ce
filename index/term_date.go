package index

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// The value of a date field is a span of time, first to last millisecond:
//
//	+-------+------------+----------------+
//	| class | first, 8 B | last - first   |     class c: the difference has 4c-3 to 4c bits, and
//	+-------+------------+----------------+     stands in (c+1)/2 bytes; 0: the two are the same
//	| 0x20  | first, 8 B |                      has no end
//	+-------+------------+
//	| 0x21  | last, 8 B  |                      has no beginning
//	+-------+------------+
//
// first and last are AppendMilli; the difference is big endian. A date's class is
// its precision (a second is 3, a day 7, a year 9), a period's its length.
//
// Every prefix is one walk a class (TermCursor.SeekGE of the class, then of what
// follows it; a field has two to six) over the neighbours of the query's span q,
// since no span of class c is longer than DateClassSpan(c):
//
//	eq   q holds the value:        q.first <= first, last <= q.last
//	ne   it does not:              all values but those
//	gt   last > q.last:            first > q.last - DateClassSpan(c), looking at last up to q.last
//	lt   first < q.first:          first < q.first
//	ge   gt or eq
//	le   lt or eq
//	sa   first > q.last
//	eb   last < q.first:           first < q.first, looking at last from q.first - DateClassSpan(c)
//	ap   overlaps q widened:       first from q.first - DateClassSpan(c) to q.last, looking at last
//	holds  last >= q.last:         first from q.last - DateClassSpan(c) to q.first, looking at last
//
// The two open classes are read as they stand: their other end is infinity.
// Sorting by date merges the classes' walks.
const (
	dateClassMax  = 16
	dateOpenEnd   = 0x20
	dateOpenStart = 0x21
)

// AppendDate appends the value of the span from first to last, UTC milliseconds.
// math.MinInt64 stands for no beginning, math.MaxInt64 for no end; a span
// without both, or that ends before it begins, has no value: nothing is appended.
func AppendDate(dst []byte, first, last int64) []byte {
	switch {
	case first == math.MinInt64 && last == math.MaxInt64, last < first:
		return dst
	case last == math.MaxInt64:
		return AppendMilli(append(dst, dateOpenEnd), first)
	case first == math.MinInt64:
		return AppendMilli(append(dst, dateOpenStart), last)
	}
	length := uint64(last) - uint64(first)
	class := (bits.Len64(length) + 3) / 4
	dst = AppendMilli(append(dst, byte(class)), first)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], length)
	return append(dst, b[8-(class+1)/2:]...)
}

// ParseDate undoes AppendDate.
func ParseDate(value []byte) (first, last int64, ok bool) {
	if len(value) < 9 {
		return 0, 0, false
	}
	at, ok := ParseMilli(value[1:9])
	if !ok {
		return 0, 0, false
	}
	class, rest := value[0], value[9:]
	switch {
	case class == dateOpenEnd:
		return at, math.MaxInt64, len(rest) == 0
	case class == dateOpenStart:
		return math.MinInt64, at, len(rest) == 0
	case class > dateClassMax || len(rest) != int(class+1)/2:
		return 0, 0, false
	}
	length := uint64(0)
	for _, c := range rest {
		length = length<<8 | uint64(c)
	}
	return at, int64(uint64(at) + length), true
}

// DateClassSpan is the greatest difference, in milliseconds, between last and
// first of a value of a class.
func DateClassSpan(class byte) int64 {
	if class >= dateClassMax {
		return math.MaxInt64
	}
	return 1<<(4*class) - 1
}
