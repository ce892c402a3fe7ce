package index

import (
	"encoding/binary"
	"math"
)

// A decimal inside of a term, from its text and exactly: 1.0 and 1.00 are the
// same value, and byte order is the order of values. With the value written as
// 0.d1d2d3... times 10 to the e, d1 not 0:
//
//	+------+---+-------------------+------+
//	| 0xC0 | e | digits, two a byte| 0x00 |     above 0; a byte is the two digits plus 1
//	+------+---+-------------------+------+
//	| 0x80 |                                    0
//	+------+---+-------------------+------+
//	| 0x40 | ~e| ~digits           | 0xFF |     below 0: all bits the other way round
//	+------+---+-------------------+------+
//	  0x00   minus infinity, 0xFF infinity: open ends of intervals
//
//	e:  1 byte, e + 0x80, for -112 <= e <= 112, else
//	    0x01 or 0xFE and 8 bytes, e + 2^63 big endian, below and above
//
// The digits' end makes it delimit itself. No floats are involved.
const (
	decimalNegative = 0x40
	decimalZero     = 0x80
	decimalPositive = 0xC0
	decimalLowest   = 0x00
	decimalHighest  = 0xFF

	exponentSmall = 112
	exponentBelow = 0x01
	exponentAbove = 0xFE
	// exponentMax bounds exponents, so that adding the digits' count cannot
	// overflow.
	exponentMax = math.MaxInt64 / 4
)

// AppendDecimal appends a number of JSON. ok is false, and nothing is appended,
// when the text is none or its exponent is beyond 2^61.
func AppendDecimal(dst, text []byte) (_ []byte, ok bool) {
	d, ok := parseDecimal(text)
	if !ok {
		return dst, false
	}
	if d.count == 0 {
		return append(dst, decimalZero), true
	}
	n := len(dst)
	dst = appendExponent(append(dst, decimalPositive), d.exponent)
	half := -1
	for _, c := range text[d.start:d.end] {
		switch {
		case c == '.':
		case half < 0:
			half = int(c - '0')
		default:
			dst = append(dst, byte(half*10+int(c-'0')+1))
			half = -1
		}
	}
	if half >= 0 {
		dst = append(dst, byte(half*10+1))
	}
	dst = append(dst, 0)
	if d.negative {
		for i := n + 1; i < len(dst); i++ {
			dst[i] = ^dst[i]
		}
		dst[n] = decimalNegative
	}
	return dst, true
}

func appendExponent(dst []byte, e int64) []byte {
	switch {
	case e < -exponentSmall:
		dst = append(dst, exponentBelow)
	case e > exponentSmall:
		dst = append(dst, exponentAbove)
	default:
		return append(dst, byte(e+0x80))
	}
	return binary.BigEndian.AppendUint64(dst, uint64(e)^(1<<63))
}

// decimalParts says where the digits that count are in a text: from the first
// that is not 0 to the last, count of them.
type decimalParts struct {
	negative   bool
	start, end int
	count      int
	exponent   int64
}

func parseDecimal(text []byte) (d decimalParts, ok bool) {
	i := 0
	if i < len(text) && text[i] == '-' {
		d.negative = true
		i++
	}
	d.start = -1
	point, digits, seen := -1, 0, 0 // digits: from the first that counts on
	for ; i < len(text); i++ {
		c := text[i]
		if c == '.' && point < 0 {
			point = digits
			if d.start < 0 {
				point = 0
			}
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		seen++
		switch {
		case d.start >= 0:
			digits++
		case c != '0':
			d.start, digits = i, 1
		case point >= 0:
			d.exponent-- // a zero behind the point
		}
		if c != '0' {
			d.end, d.count = i+1, digits
		}
	}
	if point < 0 {
		point = digits
	}
	d.exponent += int64(point)
	if seen == 0 || text[i-1] == '.' {
		return d, false
	}
	if i == len(text) {
		return d, true
	}
	e, ok := parseExponent(text[i:])
	d.exponent += e
	return d, ok
}

// parseExponent reads "e+5".
func parseExponent(text []byte) (int64, bool) {
	if len(text) < 2 || text[0]|0x20 != 'e' {
		return 0, false
	}
	text = text[1:]
	negative := text[0] == '-'
	if negative || text[0] == '+' {
		text = text[1:]
	}
	e := int64(0)
	for _, c := range text {
		if c < '0' || c > '9' || e > exponentMax/10 {
			return 0, false
		}
		e = e*10 + int64(c-'0')
	}
	if negative {
		e = -e
	}
	return e, len(text) > 0
}

// decimalLength is the length of the decimal that value begins with, or -1.
func decimalLength(value []byte) int {
	if len(value) == 0 {
		return -1
	}
	end := byte(0)
	switch value[0] {
	case decimalLowest, decimalZero, decimalHighest:
		return 1
	case decimalPositive:
	case decimalNegative:
		end = 0xFF
	default:
		return -1
	}
	at := 2
	if len(value) > 1 && (value[1]^end == exponentBelow || value[1]^end == exponentAbove) {
		at += 8
	}
	for ; at < len(value); at++ {
		if value[at] == end {
			return at + 1
		}
	}
	return -1
}
