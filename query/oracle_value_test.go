package query

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"kiln/fhir"
)

func member(value any, name string) string {
	object, _ := value.(map[string]any)
	text, _ := object[name].(string)
	return text
}

// coded is a system and a code; either may be absent.
type coded struct{ system, code string }

// oracleCodes gives the codes of an element, and the texts that :text looks at.
func oracleCodes(typ string, value any) (codes []coded, texts []string) {
	add := func(c coded, text string) {
		if c != (coded{}) {
			codes = append(codes, c)
		}
		if text != "" {
			texts = append(texts, text)
		}
	}
	switch typ {
	case "boolean":
		add(coded{"", fmt.Sprint(value)}, "")
	case "code", "string":
		add(coded{"", value.(string)}, "")
	case "Coding":
		add(coded{member(value, "system"), member(value, "code")}, member(value, "display"))
	case "CodeableConcept":
		add(coded{}, member(value, "text"))
		for _, c := range pick(value, "coding") {
			add(coded{member(c, "system"), member(c, "code")}, member(c, "display"))
		}
	case "Identifier":
		add(coded{member(value, "system"), member(value, "value")}, "")
		for _, t := range pick(value, "type") {
			add(coded{}, member(t, "text"))
		}
	case "ContactPoint":
		add(coded{member(value, "system"), member(value, "value")}, "")
	}
	return codes, texts
}

func matchesToken(typ, modifier string, value any, text string) bool {
	codes, texts := oracleCodes(typ, value)
	switch modifier {
	case "text":
		return slices.ContainsFunc(texts, func(s string) bool { return strings.HasPrefix(oracleFold(s), oracleFold(unescape(text))) })
	case "of-type":
		parts := oracleSplit(text, '|')
		for _, c := range pick(value, "type.coding") {
			if member(c, "system") == unescape(parts[0]) && member(c, "code") == unescape(parts[1]) && member(value, "value") == unescape(parts[2]) {
				return true
			}
		}
		return false
	}
	parts := oracleSplit(text, '|')
	return slices.ContainsFunc(codes, func(c coded) bool { return c.is(parts) })
}

// is tells whether c is as code, system|code, |code or system| says.
func (c coded) is(parts []string) bool {
	if len(parts) == 1 {
		return c.code == unescape(parts[0])
	}
	return c.system == unescape(parts[0]) && (parts[1] == "" || c.code == unescape(parts[1]))
}

func oracleFold(text string) string {
	var b strings.Builder
	for _, r := range norm.NFD.String(text) {
		if !unicode.Is(unicode.Mn, r) {
			b.WriteRune(r)
		}
	}
	return cases.Fold().String(b.String())
}

// stringsOf gives the strings of an element.
func stringsOf(typ string, value any) (all []string) {
	parts := map[string]string{
		"HumanName": "family given prefix suffix text", "Address": "line city district state postalCode country text",
	}[typ]
	if parts == "" {
		return []string{value.(string)}
	}
	for _, part := range strings.Fields(parts) {
		for _, s := range pick(value, part) {
			all = append(all, s.(string))
		}
	}
	return all
}

func matchesString(typ, modifier string, value any, text string) bool {
	text = unescape(text)
	return slices.ContainsFunc(stringsOf(typ, value), func(s string) bool {
		switch modifier {
		case "exact":
			return s == text
		case "contains":
			return strings.Contains(oracleFold(s), oracleFold(text))
		}
		return strings.HasPrefix(oracleFold(s), oracleFold(text))
	})
}

func matchesURI(modifier, value, text string) bool {
	switch modifier {
	case "below":
		return strings.HasPrefix(value, text)
	case "above":
		return value == text || strings.HasPrefix(text, strings.TrimSuffix(value, "/")+"/")
	}
	return value == text
}

// referenceForm is [base/]Type/id[/_history/version].
var referenceForm = regexp.MustCompile(`^(?:(.+)/)?([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/([A-Za-z0-9.-]{1,64}))?$`)

var idForm = regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`)

// oracleReference is a reference's text in parts.
type oracleReference struct{ base, typ, id, version string }

func parseOracleReference(text string) (r oracleReference, ok bool) {
	m := referenceForm.FindStringSubmatch(text)
	if m == nil || fhir.TypeByName([]byte(m[2])) == 0 || m[1] != "" && !strings.Contains(m[1], "://") {
		return r, false
	}
	return oracleReference{m[1], m[2], m[3], m[4]}, true
}

func referenceType(value any) string {
	r, _ := parseOracleReference(member(value, "reference"))
	return r.typ
}

// isReferenceTo tells whether a Reference is to a resource of this server, in
// any version.
func (o *oracle) isReferenceTo(value any, typ, id string) bool {
	r, ok := parseOracleReference(member(value, "reference"))
	return ok && (r.base == "" || r.base == o.base) && r.typ == typ && r.id == id
}

func (o *oracle) matchesReference(d *oracleDef, modifier string, value any, text string) bool {
	if modifier == "identifier" {
		for _, i := range pick(value, "identifier") {
			if codes, _ := oracleCodes("Identifier", i); len(codes) > 0 && codes[0].is(oracleSplit(text, '|')) {
				return true
			}
		}
		return false
	}
	text = unescape(text)
	if canonical, ok := value.(string); ok {
		url, version, _ := strings.Cut(text, "|")
		of, ofVersion, _ := strings.Cut(canonical, "|")
		return of == url && (version == "" || version == ofVersion)
	}
	if modifier != "" {
		return o.isReferenceTo(value, modifier, strings.TrimPrefix(text, modifier+"/"))
	}
	if idForm.MatchString(text) {
		typ := referenceType(value)
		return typ != "" && (len(d.targets) == 0 || slices.Contains(d.targets, typ)) && o.isReferenceTo(value, typ, text)
	}
	want, ok := parseOracleReference(text)
	got, parsed := parseOracleReference(member(value, "reference"))
	if !ok || !parsed {
		return member(value, "reference") == text
	}
	own := func(base string) string {
		if base == o.base {
			return ""
		}
		return base
	}
	return want.typ == got.typ && want.id == got.id && own(want.base) == own(got.base) && (want.version == "" || want.version == got.version)
}

// span is a stretch of milliseconds, both ends in it.
type span struct{ first, last int64 }

// oracleSpan gives the stretch that a date stands for. Without a zone it is UTC.
func oracleSpan(text string) (span, bool) {
	forms := []struct {
		layout string
		next   func(time.Time) time.Time
	}{
		{"2006", func(t time.Time) time.Time { return t.AddDate(1, 0, 0) }},
		{"2006-01", func(t time.Time) time.Time { return t.AddDate(0, 1, 0) }},
		{"2006-01-02", func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }},
		{"2006-01-02T15:04", func(t time.Time) time.Time { return t.Add(time.Minute) }},
		{"2006-01-02T15:04Z07:00", func(t time.Time) time.Time { return t.Add(time.Minute) }},
		{"2006-01-02T15:04:05", func(t time.Time) time.Time { return t.Add(time.Second) }},
		{"2006-01-02T15:04:05Z07:00", func(t time.Time) time.Time { return t.Add(time.Second) }},
	}
	for _, f := range forms {
		t, err := time.Parse(f.layout, text)
		if err != nil {
			continue
		}
		next := f.next(t)
		if _, fraction, ok := strings.Cut(text, "."); ok {
			digits := len(fraction) - len(strings.TrimLeft(fraction, "0123456789"))
			next = t.Add(time.Second / time.Duration(math.Pow10(digits)))
		}
		return span{t.UnixMilli(), next.UnixMilli() - 1}, true
	}
	return span{}, false
}

// spanOf gives the stretch of a date, Period or Timing, of which the outer
// limits count.
func spanOf(typ string, value any) (s span, ok bool) {
	switch typ {
	case "Period":
		s = span{math.MinInt64, math.MaxInt64}
		start, hasStart := oracleSpan(member(value, "start"))
		end, hasEnd := oracleSpan(member(value, "end"))
		if hasStart {
			s.first = start.first
		}
		if hasEnd {
			s.last = end.last
		}
		return s, hasStart || hasEnd
	case "Timing":
		parts := pick(value, "event")
		parts = append(parts, pick(value, "repeat.boundsPeriod")...)
		s = span{math.MaxInt64, math.MinInt64}
		for _, part := range parts {
			typ := "dateTime"
			if _, isText := part.(string); !isText {
				typ = "Period"
			}
			if one, has := spanOf(typ, part); has {
				s, ok = span{min(s.first, one.first), max(s.last, one.last)}, true
			}
		}
		return s, ok
	}
	return oracleSpan(value.(string))
}

// cutPrefix takes the prefix of a number or date; without one it is eq.
func cutPrefix(text string) (prefix, rest string) {
	for _, p := range strings.Fields("eq ne gt lt ge le sa eb ap") {
		if strings.HasPrefix(text, p) {
			return p, text[2:]
		}
	}
	return "eq", text
}

// matchesSpan is R4's table of prefixes: s is the resource's, the range of the
// search value q.
func (o *oracle) matchesSpan(s span, text string) bool {
	prefix, rest := cutPrefix(text)
	q, ok := oracleSpan(rest)
	if !ok {
		panic("no date: " + text)
	}
	contains := q.first <= s.first && s.last <= q.last
	above, below := s.last > q.last, s.first < q.first
	switch prefix {
	case "eq":
		return contains
	case "ne":
		return !contains
	case "gt":
		return above
	case "lt":
		return below
	case "ge":
		return above || contains
	case "le":
		return below || contains
	case "sa":
		return s.first > q.last
	case "eb":
		return s.last < q.first
	}
	// A tenth of the time between now and the date, either way.
	now := o.now.UnixMilli()
	wider := max(now-q.last, q.first-now, 0) / 10
	return s.first <= q.last+wider && s.last >= q.first-wider
}

// amount is a number or a stretch of them, with its units.
type amount struct {
	low, high  *big.Rat // nil: open
	system     string
	code, unit string
}

func ratOf(value any) *big.Rat {
	number, ok := value.(json.Number)
	if !ok {
		return nil
	}
	r, _ := new(big.Rat).SetString(string(number))
	return r
}

// amountOf reads numbers, quantities, money and ranges.
func amountOf(typ string, value any) (a amount, ok bool) {
	object, _ := value.(map[string]any)
	switch typ {
	case "decimal":
		a.low = ratOf(value)
		a.high = a.low
	case "Range":
		for _, end := range []string{"high", "low"} {
			for _, q := range pick(value, end) {
				a.system, a.code, a.unit = member(q, "system"), member(q, "code"), member(q, "unit")
			}
		}
		for _, q := range pick(value, "low.value") {
			a.low = ratOf(q)
		}
		for _, q := range pick(value, "high.value") {
			a.high = ratOf(q)
		}
	case "Money":
		a.low = ratOf(object["value"])
		a.high, a.system, a.code = a.low, "urn:iso:std:iso:4217", member(value, "currency")
	default:
		a.low = ratOf(object["value"])
		a.high, a.system, a.code, a.unit = a.low, member(value, "system"), member(value, "code"), member(value, "unit")
		if a.low != nil && strings.HasPrefix(member(value, "comparator"), "<") {
			return amount{high: a.high, system: a.system, code: a.code, unit: a.unit}, true
		}
		if a.low != nil && strings.HasPrefix(member(value, "comparator"), ">") {
			a.high = nil
			return a, true
		}
	}
	return a, a.low != nil || a.high != nil
}

func matchesNumber(typ string, value any, text string) bool {
	a, ok := amountOf(typ, value)
	return ok && a.compares(text)
}

func matchesQuantity(typ string, value any, text string) bool {
	a, ok := amountOf(typ, value)
	parts := oracleSplit(text, '|')
	if !ok || !a.compares(parts[0]) {
		return false
	}
	if len(parts) == 1 || parts[1] == "" && parts[2] == "" {
		return true
	}
	system, code := unescape(parts[1]), unescape(parts[2])
	if system == "" {
		return a.code == code || a.unit == code
	}
	return a.system == system && (code == "" || a.code == code)
}

// precision is half of what a number's last digit stands for: of 100, 0.5; of
// 1e2, which has one digit, 5 as R4's example says; of 5.40, 0.005.
func precision(text string) *big.Rat {
	mantissa, exponent, scientific := strings.Cut(strings.ToLower(text), "e")
	_, fraction, _ := strings.Cut(mantissa, ".")
	power := -len(fraction)
	if scientific {
		n := 0
		fmt.Sscan(exponent, &n)
		power += n - 1
	}
	half, _ := new(big.Rat).SetString(fmt.Sprintf("0.5e%d", power))
	return half
}

// compares is R4's table of prefixes for numbers. What the number rounds to
// counts for eq and ne only; ap is a tenth.
func (a amount) compares(text string) bool {
	prefix, rest := cutPrefix(text)
	q, ok := new(big.Rat).SetString(rest)
	if !ok {
		panic("no number: " + text)
	}
	half := precision(rest)
	from, to := new(big.Rat).Sub(q, half), new(big.Rat).Add(q, half)
	inside := a.low != nil && a.high != nil && a.low.Cmp(from) >= 0 && a.high.Cmp(to) < 0
	switch prefix {
	case "eq":
		return inside
	case "ne":
		return !inside
	case "gt":
		return a.high == nil || a.high.Cmp(q) > 0
	case "lt":
		return a.low == nil || a.low.Cmp(q) < 0
	case "ge":
		return a.high == nil || a.high.Cmp(q) >= 0
	case "le":
		return a.low == nil || a.low.Cmp(q) <= 0
	case "sa":
		return a.low != nil && a.low.Cmp(q) > 0
	case "eb":
		return a.high != nil && a.high.Cmp(q) < 0
	}
	tenth := new(big.Rat).Abs(new(big.Rat).Mul(q, big.NewRat(1, 10)))
	from, to = new(big.Rat).Sub(q, tenth), new(big.Rat).Add(q, tenth)
	return (a.low == nil || a.low.Cmp(to) <= 0) && (a.high == nil || a.high.Cmp(from) >= 0)
}
