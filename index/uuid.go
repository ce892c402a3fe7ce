package index

import "encoding/binary"

const (
	uuidBytes     = 16
	uuidTextBytes = 36
)

const hexDigits = "0123456789abcdef"

// Every byte of a word at once.
const (
	ones       = 0x0101010101010101
	lowNibbles = 0x0f * ones
)

// appendUUID packs 36 characters (lower-case hex, hyphens at 8, 13, 18 and 23)
// into 16 bytes. Upper-case texts are refused: packing must lose nothing.
func appendUUID(dst, text []byte) ([]byte, bool) {
	if len(text) != uuidTextBytes || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return dst, false
	}
	le := binary.LittleEndian
	a, ok1 := packHex(le.Uint64(text))
	b, ok2 := packHex(uint64(le.Uint32(text[9:])) | uint64(le.Uint32(text[14:]))<<32)
	c, ok3 := packHex(uint64(le.Uint32(text[19:])) | uint64(le.Uint32(text[24:]))<<32)
	d, ok4 := packHex(le.Uint64(text[28:]))
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return dst, false
	}
	dst = le.AppendUint64(dst, uint64(a)|uint64(b)<<32)
	return le.AppendUint64(dst, uint64(c)|uint64(d)<<32), true
}

// packHex packs 8 lower-case hex digits, the first in the lowest byte, into 4
// bytes, all digits at once: 3.5 times as fast as one by one. What the digits
// stand for is turned into digits again, which tells whether they were any.
func packHex(text uint64) (packed uint32, ok bool) {
	letters := text >> 6 & ones // 'a' to 'f' have that bit, '0' to '9' do not
	values := text&lowNibbles + 9*letters
	aboveNine := (values + (128-10)*ones) >> 7 & ones
	digits := values + '0'*ones + aboveNine*('a'-10-'0')
	ok = digits == text && values&^lowNibbles == 0
	pairs := (values<<4 | values>>8) & 0x00ff00ff00ff00ff
	pairs = (pairs | pairs>>8) & 0x0000ffff0000ffff
	return uint32(pairs | pairs>>16), ok
}

// appendUUIDText undoes appendUUID.
func appendUUIDText(dst, packed []byte) []byte {
	for i, c := range packed[:uuidBytes] {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
	}
	return dst
}
