package index

import (
	"bytes"
	"encoding/binary"
)

// Texts inside of terms stand escaped, so that a separator ends them:
//
//	byte 0, 1, 2   ->  0x01 and the byte plus 1
//	other bytes    ->  themselves
//
// Order is kept, and no escaped text has a 0x00 (the separator, lower than
// anything) or a 0x02 (which begins a packed UUID, see appendCodeText).
const (
	termSeparator = 0x00
	termEscape    = 0x01
	termUUID      = 0x02
)

// appendText appends text escaped, without a separator.
func appendText(dst, text []byte) []byte {
	rest := text
	for ; len(rest) >= 8; rest = rest[8:] {
		word := binary.LittleEndian.Uint64(rest)
		if (word-(termUUID+1)*eachByte)&^word&eachHighBit != 0 { // some byte is below 3
			return appendEscapedText(dst, text)
		}
	}
	for _, c := range rest {
		if c <= termUUID {
			return appendEscapedText(dst, text)
		}
	}
	return append(dst, text...)
}

// appendEscapedText is appendText for a text with a byte that needs it, which
// no FHIR string may have.
func appendEscapedText(dst, text []byte) []byte {
	for _, c := range text {
		if c <= termUUID {
			dst = append(dst, termEscape)
			c++
		}
		dst = append(dst, c)
	}
	return dst
}

// cutText undoes appendText up to the separator or the end of value, and gives
// what stands behind the separator.
func cutText(dst, value []byte) (text, rest []byte) {
	end := bytes.IndexByte(value, termSeparator)
	if end < 0 {
		end = len(value)
	} else {
		rest = value[end+1:]
	}
	for i := 0; i < end; i++ {
		c := value[i]
		if c == termEscape && i+1 < end {
			i++
			c = value[i] - 1
		}
		dst = append(dst, c)
	}
	return dst, rest
}

// appendCodeText appends a code, an identifier's value or an id: a lower-case
// UUID packed, anything else escaped.
//
//	0x02 | 16 bytes     a UUID
//	text, escaped       anything else
//
// The identifiers of generated data are UUIDs: 20 bytes less for each.
func appendCodeText(dst, text []byte) []byte {
	if len(text) == uuidTextBytes {
		n := len(dst)
		if packed, ok := appendUUID(append(dst, termUUID), text); ok {
			return packed
		}
		dst = dst[:n]
	}
	return appendText(dst, text)
}

// cutCodeText undoes appendCodeText.
func cutCodeText(dst, value []byte) []byte {
	if len(value) >= 1+uuidBytes && value[0] == termUUID {
		return appendUUIDText(dst, value[1:])
	}
	text, _ := cutText(dst, value)
	return text
}
