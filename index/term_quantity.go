package index

// The values of a number field:
//
//	+------+---------+
//	| 0x01 | decimal |               a number
//	+------+-----+---+----+
//	| 0x02 | low | high   |          an interval: a Range; either may be infinite
//	+------+-----+--------+
//
// and of a quantity field:
//
//	+------+--------+----+------+----+---------+
//	| 0x01 | system | 00 | code | 00 | decimal |      a quantity, by its coded unit
//	+------+--------+----+------+----+---------+
//	| 0x02 | unit   | 00 | decimal |                  the same by its unit's text, when that is not the code
//	+------+--------+----+------+--+-----+------+
//	| 0x03 | system | 00 | code | 00 | low | high |   an interval: a Range, or a value with a comparator
//	+------+--------+----+------+----+-----+-----+
//	| 0x04 | unit   | 00 | low | high |               the same by its unit's text
//	+------+--------+----+-----+------+
//
// decimal, low and high are AppendDecimal; texts are escaped; system and code are
// empty when there is none. Money has urn:iso:std:iso:4217 and its currency.
//
// A query's number stands for an interval (5.4 is [5.35, 5.45)), which is one
// walk over neighbouring decimals. The unit stands in front of them:
//
//	5.4|system|code   one walk below AppendQuantityUnit
//	5.4||mg           one for each system that has the code mg, and one below
//	                  AppendQuantityText
//	5.4               one for each unit of the field: seek from unit to unit
//
// Unit first, because the terms share it as a prefix and the number can be
// searched as a range. Intervals are few: a query looks at all of its unit.
const (
	numberValue    = 1
	numberInterval = 2

	quantityValue        = 1
	quantityText         = 2
	quantityInterval     = 3
	quantityTextInterval = 4
)

// currencySystem is the system of Money's currencies.
const currencySystem = "urn:iso:std:iso:4217"

// AppendNumber appends the value of a number; see AppendDecimal.
func AppendNumber(dst, text []byte) (_ []byte, ok bool) {
	n := len(dst)
	dst, ok = AppendDecimal(append(dst, numberValue), text)
	if !ok {
		dst = dst[:n]
	}
	return dst, ok
}

// AppendQuantityUnit appends what the values of all quantities of a coded unit
// begin with: what follows is AppendDecimal.
func AppendQuantityUnit(dst, system, code []byte) []byte {
	return appendUnit(append(dst, quantityValue), system, code)
}

// AppendQuantityText is AppendQuantityUnit by the unit's text.
func AppendQuantityText(dst, unit []byte) []byte {
	return append(appendText(append(dst, quantityText), unit), termSeparator)
}

// AppendQuantityIntervalUnit and AppendQuantityIntervalText are the same for
// intervals: what follows is two decimals, low and high.
func AppendQuantityIntervalUnit(dst, system, code []byte) []byte {
	return appendUnit(append(dst, quantityInterval), system, code)
}

// AppendQuantityIntervalText: see AppendQuantityIntervalUnit.
func AppendQuantityIntervalText(dst, unit []byte) []byte {
	return append(appendText(append(dst, quantityTextInterval), unit), termSeparator)
}

func appendUnit(dst, system, code []byte) []byte {
	dst = append(appendText(dst, system), termSeparator)
	return append(appendText(dst, code), termSeparator)
}
