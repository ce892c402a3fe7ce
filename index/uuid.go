package index

const (
	uuidBytes     = 16
	uuidTextBytes = 36
)

// notHex marks, in hexValue, the bytes that are no lower-case hex digit.
const notHex = 0xff

// hexValue is filled at start and never changed.
var hexValue = func() (t [256]byte) {
	for i := range t {
		t[i] = notHex
	}
	for i := byte(0); i < 10; i++ {
		t['0'+i] = i
	}
	for i := byte(0); i < 6; i++ {
		t['a'+i] = 10 + i
	}
	return t
}()

const hexDigits = "0123456789abcdef"

// appendUUID packs 36 characters (lower-case hex, hyphens at 8, 13, 18 and 23)
// into 16 bytes. Upper-case texts are refused: packing must lose nothing.
func appendUUID(dst, text []byte) ([]byte, bool) {
	if len(text) != uuidTextBytes || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return dst, false
	}
	var packed [uuidBytes]byte
	bad := byte(0)
	at := 0
	for i := range packed {
		if at == 8 || at == 13 || at == 18 || at == 23 {
			at++
		}
		hi, lo := hexValue[text[at]], hexValue[text[at+1]]
		bad |= hi | lo
		packed[i] = hi<<4 | lo&15
		at += 2
	}
	if bad == notHex {
		return dst, false
	}
	return append(dst, packed[:]...), true
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
