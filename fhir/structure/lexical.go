package structure

import (
	"unicode/utf8"

	"kiln/fhir"
)

// How primitives are written is in datatypes.html#primitive of R4.

// stringCharactersMax: "strings SHALL NOT exceed 1MB (1024*1024 characters)".
const stringCharactersMax = 1 << 20

// validString tells whether text, which holds no control characters but tab, line
// feed and carriage return, is a value of k.
func validString(k kind, text []byte) bool {
	if len(text) == 0 {
		return false // "primitive values can never be empty"
	}
	switch k {
	case kindString:
		return len(text) <= stringCharactersMax || utf8.RuneCount(text) <= stringCharactersMax
	case kindMarkdown:
		return true
	case kindURI, kindURL, kindCanonical:
		return !hasBlank(text)
	case kindCode:
		return validCode(text)
	case kindID:
		return fhir.ValidID(text)
	case kindDate, kindDateTime, kindInstant, kindTime:
		return validTime(k, text)
	case kindBase64Binary:
		return validBase64(text)
	case kindOID:
		return validOID(text)
	case kindUUID:
		return validUUID(text)
	case kindXHTML:
		return validXHTML(text)
	}
	panic("BUG: a string of a kind that is none")
}

func isBlank(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// hasControl finds what strings must not have: characters below U+0020 other than
// tab, line feed and carriage return.
func hasControl(text []byte) bool {
	for _, c := range text {
		if c < ' ' && !isBlank(c) {
			return true
		}
	}
	return false
}

func hasBlank(text []byte) bool {
	for _, c := range text {
		if isBlank(c) {
			return true
		}
	}
	return false
}

// validCode: no white space but single spaces inside.
func validCode(text []byte) bool {
	after := true // a blank, or the beginning
	for _, c := range text {
		blank := isBlank(c)
		if blank && (after || c != ' ') {
			return false
		}
		after = blank
	}
	return !after
}

// base64Digits has 1 for digits, 2 for padding, 3 for white space.
var base64Digits = makeBase64Digits()

func makeBase64Digits() (kinds [256]uint8) {
	for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" {
		kinds[c] = 1
	}
	kinds['='] = 2
	for _, c := range " \t\r\n" {
		kinds[c] = 3
	}
	return kinds
}

// validBase64: groups of four with white space anywhere, padding only at the end.
func validBase64(text []byte) bool {
	i := 0
	for i < len(text) && base64Digits[text[i]] == 1 {
		i++
	}
	digits, padding := i, 0
	for _, c := range text[i:] {
		switch base64Digits[c] {
		case 1:
			if padding > 0 {
				return false
			}
			digits++
		case 2:
			padding++
		case 3:
		default:
			return false
		}
	}
	return padding <= 2 && digits > 0 && (digits+padding)%4 == 0
}

// validOID is urn:oid:[0-2](\.(0|[1-9][0-9]*))+
func validOID(text []byte) bool {
	const prefix = "urn:oid:"
	if len(text) < len(prefix)+3 || string(text[:len(prefix)]) != prefix {
		return false
	}
	if text = text[len(prefix):]; text[0] < '0' || text[0] > '2' {
		return false
	}
	for i := 1; i < len(text); {
		if text[i] != '.' {
			return false
		}
		start := i + 1
		for i = start; i < len(text) && isDigit(text[i]); i++ {
		}
		if i == start || text[start] == '0' && i > start+1 {
			return false
		}
	}
	return true
}

// validUUID is urn:uuid: and a UUID in lower case.
func validUUID(text []byte) bool {
	const prefix = "urn:uuid:"
	if len(text) != len(prefix)+36 || string(text[:len(prefix)]) != prefix {
		return false
	}
	for i, c := range text[len(prefix):] {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// validXHTML looks at the beginning only: a div element.
func validXHTML(text []byte) bool {
	for len(text) > 0 && isBlank(text[0]) {
		text = text[1:]
	}
	const tag = "<div"
	if len(text) <= len(tag) || string(text[:len(tag)]) != tag {
		return false
	}
	c := text[len(tag)]
	return isBlank(c) || c == '>' || c == '/'
}

// integerDigitsMax is the length of 2147483647, the greatest integer of R4.
const integerDigitsMax = len(integerMax)

const (
	integerMax = "2147483647"
	integerMin = "2147483648" // without its sign
)

// validNumber judges the text of a JSON number. Every one is a decimal.
func validNumber(k kind, text []byte) bool {
	if k == kindDecimal {
		return true
	}
	limit := integerMax
	if text[0] == '-' {
		if k != kindInteger || text[1] == '0' {
			return false
		}
		text, limit = text[1:], integerMin
	}
	if len(text) > integerDigitsMax || len(text) == integerDigitsMax && string(text) > limit {
		return false
	}
	for _, c := range text {
		if !isDigit(c) {
			return false
		}
	}
	return k != kindPositiveInt || text[0] != '0'
}
