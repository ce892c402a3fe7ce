package fhir

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	eachByte     = 0x0101010101010101
	eachHighBit  = 0x80 * eachByte
	eachQuote    = '"' * eachByte
	eachEscape   = '\\' * eachByte
	eachBlank    = ' ' * eachByte
	bytesPerWord = 8
)

// PlainEnd returns the offset of the first byte at or after i that is not plain
// text of a string: a quote, a backslash, a control character or a byte of a
// character outside ASCII; len(src) when there is none.
//
// Eight bytes are looked at together. A subtraction sets the high bit of a byte
// that was zero (or below a blank); borrows spoil only the bytes after a true
// hit, and only the first hit is used.
func PlainEnd(src []byte, i int) int {
	for i+bytesPerWord <= len(src) {
		word := binary.LittleEndian.Uint64(src[i:])
		hits := (word | (word ^ eachQuote - eachByte) | (word ^ eachEscape - eachByte) | (word - eachBlank)) & eachHighBit
		if hits != 0 {
			return i + bits.TrailingZeros64(hits)/8
		}
		i += bytesPerWord
	}
	for i < len(src) && src[i] >= ' ' && src[i] < utf8.RuneSelf && src[i] != '"' && src[i] != '\\' {
		i++
	}
	return i
}

// stringTail checks the rest of a string from i and returns the offset just past
// its closing quote, or -1. It sets s.escaped when it meets an escape.
func (s *Scanner) stringTail(i int) int {
	src := s.src
	for i < len(src) {
		switch c := src[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i = s.escape(i); i < 0 {
				return -1
			}
		case c < ' ':
			return s.fail(i, ErrSyntax, "control character in a string")
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(src[i:])
			if r == utf8.RuneError && n <= 1 {
				return s.fail(i, ErrSyntax, "string is not valid UTF-8")
			}
			i += n
		default:
			i = PlainEnd(src, i)
		}
	}
	return s.failEnd()
}

// escape checks the escape at i and returns the offset just past it, or -1.
func (s *Scanner) escape(i int) int {
	s.escaped = true
	if i+1 >= len(s.src) {
		return s.failEnd()
	}
	switch s.src[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
		unit, ok := hexUnit(s.src, i)
		if !ok {
			return s.fail(i, ErrSyntax, "\\u is not followed by four hexadecimal digits")
		}
		if !utf16.IsSurrogate(unit) {
			return i + 6
		}
		low, ok := hexUnit(s.src, i+6)
		if !ok || utf16.DecodeRune(unit, low) == utf8.RuneError {
			return s.fail(i, ErrSyntax, "half of a surrogate pair in a string")
		}
		return i + 12
	}
	return s.fail(i, ErrSyntax, "unknown escape in a string")
}

// hexUnit reads the UTF-16 code unit of an escape like \u00e9 at i.
func hexUnit(src []byte, i int) (unit rune, ok bool) {
	if len(src)-i < 6 || src[i] != '\\' || src[i+1] != 'u' {
		return 0, false
	}
	for _, c := range src[i+2 : i+6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		unit = unit<<4 | rune(c)
	}
	return unit, true
}

// AppendUnescaped appends the characters that a checked string's text stands for.
func AppendUnescaped(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			start := i
			for i < len(text) && text[i] != '\\' {
				i++
			}
			dst = append(dst, text[start:i]...)
			continue
		}
		var n int
		dst, n = appendEscape(dst, text[i:])
		i += n
	}
	return dst
}

// appendEscape appends the character of the escape that text begins with, and
// returns the escape's length.
func appendEscape(dst, text []byte) ([]byte, int) {
	switch c := text[1]; c {
	case 'b':
		return append(dst, '\b'), 2
	case 'f':
		return append(dst, '\f'), 2
	case 'n':
		return append(dst, '\n'), 2
	case 'r':
		return append(dst, '\r'), 2
	case 't':
		return append(dst, '\t'), 2
	case 'u':
		unit, _ := hexUnit(text, 0)
		if !utf16.IsSurrogate(unit) {
			return utf8.AppendRune(dst, unit), 6
		}
		low, _ := hexUnit(text, 6)
		return utf8.AppendRune(dst, utf16.DecodeRune(unit, low)), 12
	default:
		return append(dst, c), 2
	}
}
