package index

import (
	"bytes"
	"fmt"
	"math/big"
	"strconv"
)

// AppendPrefixEnd appends the lowest value that is greater than every value
// that begins with prefix: the end of a Range over them. ok is false, and the
// range has no end, when prefix has nothing but 0xff.
func AppendPrefixEnd(dst, prefix []byte) (_ []byte, ok bool) {
	for end := len(prefix); end > 0; end-- {
		if prefix[end-1] != 0xff {
			dst = append(dst, prefix[:end]...)
			dst[len(dst)-1]++
			return dst, true
		}
	}
	return dst, false
}

// TokenSystem is the part of a token's value in front of its code: family,
// system and separator. A walk for a code of any system looks it up behind this
// part, and goes on at AppendPrefixEnd of it, where the next system begins. ok is
// false for values of :text, and for what no token has.
func TokenSystem(value []byte) (prefix []byte, ok bool) {
	if len(value) == 0 || value[0] != tokenCode {
		return nil, false
	}
	at := bytes.IndexByte(value, termSeparator)
	return value[:at+1], at >= 0
}

// QuantityUnit is the part of a quantity's value in front of its number: family
// and unit. interval tells whether two numbers follow, the ends of an interval. A
// walk for a number of any unit goes from unit to unit, as for TokenSystem.
func QuantityUnit(value []byte) (prefix []byte, interval, ok bool) {
	if len(value) == 0 {
		return nil, false, false
	}
	separators := 0
	switch value[0] {
	case quantityValue, quantityInterval:
		separators = 2
	case quantityText, quantityTextInterval:
		separators = 1
	}
	at := 0
	for i := 0; i < separators; i++ {
		next := bytes.IndexByte(value[at:], termSeparator)
		if next < 0 {
			return nil, false, false
		}
		at += next + 1
	}
	return value[:at], value[0] == quantityInterval || value[0] == quantityTextInterval, separators > 0
}

// CutDecimal takes the decimal that value begins with from the rest of it; ok is
// false when there is none.
func CutDecimal(value []byte) (decimal, rest []byte, ok bool) {
	n := decimalLength(value)
	if n < 0 {
		return nil, nil, false
	}
	return value[:n], value[n:], true
}

// DecimalSpan gives the ends of what a query's number stands for, half a unit of
// its last digit to either side: 5.4 is from 5.35 to below 5.45, 5.40 from 5.395,
// 1e2 from 50 to 150. Both are texts for AppendDecimal. A text that is no number
// of JSON is an error, and so is an exponent beyond 2^31.
func DecimalSpan(text string) (low, high string, err error) {
	if _, ok := AppendDecimal(nil, []byte(text)); !ok {
		return "", "", fmt.Errorf("cannot read number %.40q", text)
	}
	mantissa, exponent := text, 0
	if at := indexExponent(text); at >= 0 {
		mantissa = text[:at]
		if exponent, err = strconv.Atoi(text[at+1:]); err != nil || exponent != int(int32(exponent)) {
			return "", "", fmt.Errorf("cannot read number %.40q: its exponent is too large", text)
		}
	}
	if at := bytes.IndexByte([]byte(mantissa), '.'); at >= 0 {
		exponent -= len(mantissa) - at - 1
		mantissa = mantissa[:at] + mantissa[at+1:]
	}
	tenfold, ok := new(big.Int).SetString(mantissa+"0", 10)
	if !ok {
		return "", "", fmt.Errorf("cannot read number %.40q", text)
	}
	half := big.NewInt(5)
	end := "e" + strconv.Itoa(exponent-1)
	return new(big.Int).Sub(tenfold, half).String() + end, new(big.Int).Add(tenfold, half).String() + end, nil
}

// indexExponent is where the e of a number stands, or -1.
func indexExponent(text string) int {
	for i := range len(text) {
		if text[i]|0x20 == 'e' {
			return i
		}
	}
	return -1
}
