package index

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"kiln/fhir/search"
)

// expected describes the terms that a value must give, in the words of describeTerm.
func expected(kind search.Kind, n node) []string {
	switch kind {
	case search.Token:
		return expectedToken(n)
	case search.String:
		return expectedString(n)
	case search.Reference:
		return expectedReference(n)
	case search.Date:
		return expectedDate(n)
	case search.Number:
		return expectedNumber(n)
	case search.Quantity:
		return expectedQuantity(n)
	case search.URI:
		if s, ok := n.value.(string); ok {
			return []string{s}
		}
	case search.Special:
		low, high := rational(n, "latitude"), rational(n, "longitude")
		if low != "" && high != "" {
			return []string{low + " " + high}
		}
	}
	return nil
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

func expectedToken(n node) (all []string) {
	code := func(system, code string) {
		if system != "" || code != "" {
			all = append(all, "code "+system+"|"+code)
		}
	}
	text := func(s string) {
		if s != "" {
			all = append(all, "text "+oracleFold(s))
		}
	}
	switch v := n.value.(type) {
	case string:
		code("", v)
	case bool:
		code("", fmt.Sprint(v))
	case map[string]any:
		_, value := v["value"]
		if _, coding := v["coding"]; coding || (!value && v["code"] == nil && v["system"] == nil && v["display"] == nil) {
			text(n.text("text"))
			for _, c := range n.members("coding") {
				all = append(all, expectedToken(c)...)
			}
			return all
		}
		if value || v["type"] != nil {
			code(n.text("system"), n.text("value"))
			for _, t := range n.members("type") {
				text(t.text("text"))
				for _, c := range t.members("coding") {
					if n.text("value") != "" && c.text("system")+c.text("code") != "" {
						all = append(all, "type "+c.text("system")+"|"+c.text("code")+"|"+n.text("value"))
					}
				}
			}
			return all
		}
		code(n.text("system"), n.text("code"))
		text(n.text("display"))
	}
	return all
}

func expectedString(n node) (all []string) {
	if s, ok := n.value.(string); ok {
		return []string{oracleFold(s) + "/" + s}
	}
	for _, part := range []string{"family", "given", "prefix", "suffix", "text", "line", "city", "district", "state", "postalCode", "country"} {
		for _, m := range n.members(part) {
			all = append(all, expectedString(m)...)
		}
	}
	return all
}

func expectedReference(n node) (all []string) {
	if s, ok := n.value.(string); ok {
		return []string{"canonical " + s}
	}
	if name := n.text("resourceType"); name != "" {
		if n.text("id") == "" {
			return nil
		}
		return []string{"ref " + name + "/" + n.text("id")}
	}
	if s := n.text("reference"); s != "" {
		all = append(all, "ref "+s)
	}
	for _, i := range n.members("identifier") {
		if s := i.text("system") + "|" + i.text("value"); s != "|" {
			all = append(all, "identifier "+s)
		}
	}
	return all
}

// oracleDate gives both ends of a date, by the layouts of package time.
func oracleDate(text string) (first, last int64, ok bool) {
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
	width := time.Second
	if at := strings.IndexByte(text, '.'); at >= 0 {
		digits := len(text[at+1:]) - len(strings.TrimLeft(text[at+1:], "0123456789"))
		for range min(digits, 3) {
			width /= 10
		}
	}
	for _, f := range forms {
		if t, err := time.Parse(f.layout, text); err == nil {
			next := f.next(t)
			if width < time.Second {
				next = t.Truncate(time.Millisecond).Add(width)
			}
			return t.UnixMilli(), next.UnixMilli() - 1, true
		}
	}
	return 0, 0, false
}

func expectedDate(n node) []string {
	if s, ok := n.value.(string); ok {
		if first, last, ok := oracleDate(s); ok && n.typ != "String" {
			return []string{fmt.Sprint(first, "..", last)}
		}
		return nil
	}
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for _, e := range n.members("event") {
		if s, ok := e.value.(string); ok {
			if low, high, ok := oracleDate(s); ok {
				first, last = min(first, low), max(last, high)
			}
		}
	}
	periods := []node{n}
	for _, r := range n.members("repeat") {
		if object, ok := r.value.(map[string]any); ok {
			periods = append(periods, flat(object["boundsPeriod"], "")...)
		}
	}
	for _, p := range periods {
		if p.text("start") == "" && p.text("end") == "" {
			continue
		}
		low, high := int64(math.MinInt64), int64(math.MaxInt64)
		if f, _, ok := oracleDate(p.text("start")); ok {
			low = f
		}
		if _, l, ok := oracleDate(p.text("end")); ok {
			high = l
		}
		first, last = min(first, low), max(last, high)
	}
	if first > last || first == math.MinInt64 && last == math.MaxInt64 {
		return nil
	}
	return []string{fmt.Sprint(first, "..", last)}
}

// rational is a number's value in lowest terms; "" without a number.
func rational(n node, name string) string {
	if object, ok := n.value.(map[string]any); ok {
		if number, ok := object[name].(json.Number); ok {
			return ratOf(string(number))
		}
	}
	return ""
}

func ratOf(text string) string {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return "?" + text
	}
	return r.RatString()
}

func expectedNumber(n node) []string {
	if number, ok := n.value.(json.Number); ok {
		return []string{ratOf(string(number))}
	}
	if ends := rangeEnds(n); ends != "" {
		return []string{ends}
	}
	return nil
}

// rangeEnds gives "low..high", with infinities; "" when there is neither.
func rangeEnds(n node) string {
	low, high := "-inf", "inf"
	for _, e := range n.members("low") {
		if v := rational(e, "value"); v != "" {
			low = v
		}
	}
	for _, e := range n.members("high") {
		if v := rational(e, "value"); v != "" {
			high = v
		}
	}
	if low == "-inf" && high == "inf" {
		return ""
	}
	return low + ".." + high
}

func expectedQuantity(n node) (all []string) {
	object, ok := n.value.(map[string]any)
	if !ok || n.typ == "SampledData" {
		return nil
	}
	value, unit := rational(n, "value"), n
	if value == "" {
		if value = rangeEnds(n); value == "" {
			return nil
		}
		for _, end := range []string{"high", "low"} {
			for _, e := range n.members(end) {
				if e.text("system")+e.text("code")+e.text("unit") != "" || end == "high" {
					unit = e
				}
			}
		}
	} else if currency, ok := object["currency"].(string); ok {
		return []string{"urn:iso:std:iso:4217|" + currency + " " + value}
	} else if strings.HasPrefix(n.text("comparator"), "<") {
		value = "-inf.." + value
	} else if strings.HasPrefix(n.text("comparator"), ">") {
		value += "..inf"
	}
	all = append(all, unit.text("system")+"|"+unit.text("code")+" "+value)
	if text := unit.text("unit"); text != "" && text != unit.text("code") {
		all = append(all, "unit "+text+" "+value)
	}
	return all
}
