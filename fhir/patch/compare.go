package patch

import (
	"strconv"
	"strings"
)

// equal compares JSON values as RFC 6902 section 4.6 asks: keys in any order,
// numbers by value.
func equal(a, b *node) bool {
	switch {
	case a.isObject() && b.isObject():
		return equalObjects(a.list(), b.list())
	case a.isArray() && b.isArray():
		return equalArrays(a.list(), b.list())
	case a.text[0] == b.text[0] && a.isString():
		return a.str() == b.str()
	case a.isNumber() && b.isNumber():
		return decimalOf(string(a.text)) == decimalOf(string(b.text))
	}
	return !a.isObject() && !a.isArray() && string(a.text) == string(b.text)
}

func equalArrays(a, b []member) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !equal(a[i].value, b[i].value) {
			return false
		}
	}
	return true
}

func equalObjects(a, b []member) bool {
	if len(a) != len(b) {
		return false
	}
	values := make(map[string]*node, len(b))
	for _, m := range b {
		values[m.key] = m.value
	}
	if len(values) != len(b) {
		return false // a repeated key equals nothing
	}
	for _, m := range a {
		other, ok := values[m.key]
		if !ok || !equal(m.value, other) {
			return false
		}
		delete(values, m.key)
	}
	return true
}

func (n *node) isNumber() bool {
	c := n.text[0]
	return c == '-' || '0' <= c && c <= '9'
}

// decimal is a number's value: 0.digits times ten to the exponent.
type decimal struct {
	negative bool
	digits   string // without zeros at either end
	exponent int64
}

// decimalOf reads a JSON number. An exponent that no int64 holds is kept as
// text, so that such numbers equal only themselves.
func decimalOf(text string) decimal {
	var d decimal
	text, d.negative = strings.CutPrefix(text, "-")
	mantissa, power := text, ""
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, power = text[:i], text[i+1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	trimmed := strings.TrimLeft(digits, "0")
	d.exponent = int64(len(whole) - (len(digits) - len(trimmed)))
	d.digits = strings.TrimRight(trimmed, "0")
	if d.digits == "" {
		return decimal{} // zero, of either sign
	}
	if power != "" {
		n, err := strconv.ParseInt(power, 10, 32)
		if err != nil {
			return decimal{negative: d.negative, digits: text}
		}
		d.exponent += n
	}
	return d
}
