package index

import (
	"fmt"
	"math/big"
	"strings"

	"kiln/fhir/search"
)

// describeTerm gives a value of a field back in plain words; it must use up all
// of it.
func describeTerm(kind search.Kind, value []byte) string {
	switch kind {
	case search.Token:
		return describeToken(value)
	case search.String:
		folded, original := ParseString(value)
		return string(folded) + "/" + string(original)
	case search.Reference:
		text, ok := AppendReferenceText(nil, value)
		if !ok {
			return fmt.Sprintf("bad reference %x", value)
		}
		return map[byte]string{refCanonical: "canonical ", refIdentifier: "identifier "}[value[0]] +
			map[bool]string{true: "ref "}[value[0] != refCanonical && value[0] != refIdentifier] + string(text)
	case search.Date:
		first, last, ok := ParseDate(value)
		if !ok {
			return fmt.Sprintf("bad date %x", value)
		}
		return fmt.Sprint(first, "..", last)
	case search.Number:
		return describeDecimals(value[1:], value[0] == numberInterval)
	case search.Quantity:
		return describeQuantity(value)
	case search.Special:
		low := decimalLength(value)
		return decodeDecimal(value[:low]) + " " + decodeDecimal(value[low:])
	}
	return string(value)
}

func describeToken(value []byte) string {
	switch value[0] {
	case tokenCode:
		system, code, _ := ParseToken(value)
		return "code " + string(system) + "|" + string(code)
	case tokenText:
		text, _ := cutText(nil, value[1:])
		return "text " + string(text)
	case tokenOfType:
		system, rest := cutText(nil, value[1:])
		code, rest := cutText(nil, rest)
		return "type " + string(system) + "|" + string(code) + "|" + string(cutCodeText(nil, rest))
	}
	return fmt.Sprintf("bad token %x", value)
}

func describeQuantity(value []byte) string {
	family := value[0]
	unit, rest := cutText(nil, value[1:])
	interval := family == quantityInterval || family == quantityTextInterval
	if family == quantityText || family == quantityTextInterval {
		return "unit " + string(unit) + " " + describeDecimals(rest, interval)
	}
	code, rest := cutText(nil, rest)
	return string(unit) + "|" + string(code) + " " + describeDecimals(rest, interval)
}

func describeDecimals(value []byte, interval bool) string {
	if !interval {
		return decodeDecimal(value)
	}
	low := decimalLength(value)
	if low < 0 {
		return fmt.Sprintf("bad interval %x", value)
	}
	return decodeDecimal(value[:low]) + ".." + decodeDecimal(value[low:])
}

// decodeDecimal reads AppendDecimal's bytes in its own way.
func decodeDecimal(b []byte) string {
	if len(b) == 0 || decimalLength(b) != len(b) {
		return fmt.Sprintf("bad decimal %x", b)
	}
	switch b[0] {
	case decimalLowest:
		return "-inf"
	case decimalHighest:
		return "inf"
	case decimalZero:
		return "0"
	}
	sign := ""
	plain := append([]byte(nil), b[1:]...)
	if b[0] == decimalNegative {
		sign = "-"
		for i := range plain {
			plain[i] = ^plain[i]
		}
	}
	e, digits := int64(plain[0])-0x80, plain[1:len(plain)-1]
	if plain[0] == exponentBelow || plain[0] == exponentAbove {
		e = new(big.Int).Sub(new(big.Int).SetBytes(plain[1:9]), new(big.Int).Lsh(big.NewInt(1), 63)).Int64()
		digits = plain[9 : len(plain)-1]
	}
	var text strings.Builder
	for _, d := range digits {
		fmt.Fprintf(&text, "%02d", d-1)
	}
	return ratOf(fmt.Sprintf("%s0.%se%d", sign, text.String(), e))
}

// partLength is how much of a composite's value a part takes, its separator not counted.
func partLength(kind search.Kind, value []byte) int {
	skip := func(at int) int {
		for value[at] != termSeparator {
			at++
		}
		return at + 1
	}
	code := func(at int) int {
		if value[at] == termUUID {
			return at + 1 + uuidBytes
		}
		return skip(at) - 1
	}
	switch kind {
	case search.Token:
		return code(skip(1))
	case search.Reference:
		switch value[0] {
		case refUUID:
			return 3 + uuidBytes
		case refURN:
			return 1 + uuidBytes
		case refID:
			return skip(skip(3)) - 1
		case refAbsolute:
			return skip(skip(skip(3))) - 1
		case refCanonical:
			return skip(skip(1)) - 1
		case refText:
			return skip(1) - 1
		}
		return code(skip(1))
	case search.Number:
		at := 1 + decimalLength(value[1:])
		if value[0] == numberInterval {
			at += decimalLength(value[at:])
		}
		return at
	case search.Quantity:
		at := skip(1)
		if value[0] == quantityValue || value[0] == quantityInterval {
			at = skip(at)
		}
		at += decimalLength(value[at:])
		if value[0] == quantityInterval || value[0] == quantityTextInterval {
			at += decimalLength(value[at:])
		}
		return at
	}
	panic("no composite has such a part")
}

func describePair(f *search.Field, value []byte) string {
	var parts []string
	for _, part := range f.Parts {
		n := partLength(part.Kind, value)
		parts = append(parts, describeTerm(part.Kind, value[:n]))
		value = value[n+1:]
	}
	if len(value) > 0 {
		return fmt.Sprintf("bytes behind the parts: %x", value)
	}
	return strings.Join(parts, " $ ")
}
