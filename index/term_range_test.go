package index

import (
	"bytes"
	"math/big"
	"slices"
	"testing"
)

func TestPrefixEnds(t *testing.T) {
	f := func(prefix, want string, bounded bool) {
		t.Helper()
		end, ok := AppendPrefixEnd(nil, []byte(prefix))
		if string(end) != want || ok != bounded {
			t.Errorf("%q ends at %q, %t", prefix, end, ok)
		}
	}
	f("a", "b", true)
	f("a\x00", "a\x01", true)
	f("a\xff\xff", "b", true)
	f("\xff", "", false)
	f("", "", false)
}

func TestDecimalSpans(t *testing.T) {
	f := func(text, low, high string) {
		t.Helper()
		gotLow, gotHigh, err := DecimalSpan(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, pair := range [][2]string{{gotLow, low}, {gotHigh, high}} {
			got, _ := new(big.Rat).SetString(pair[0])
			if want, _ := new(big.Rat).SetString(pair[1]); got == nil || got.Cmp(want) != 0 {
				t.Errorf("%s spans %s to %s, want %s to %s", text, gotLow, gotHigh, low, high)
			}
		}
	}
	f("5.4", "5.35", "5.45")
	f("5.40", "5.395", "5.405")
	f("100", "99.5", "100.5")
	f("1e2", "50", "150")
	f("1.00E-2", "0.00995", "0.01005")
	f("0", "-0.5", "0.5")
	f("-5.4", "-5.45", "-5.35")
	for _, text := range []string{"", "x", "1.", "+1", "--1", "1e99999999999", "1e9223372036854775807", "0x10", " 1"} {
		if low, high, err := DecimalSpan(text); err == nil {
			t.Errorf("%q spans %s to %s", text, low, high)
		}
	}
}

// A walk from system to system, and from unit to unit, meets every value.
func TestWalksFromPartToPart(t *testing.T) {
	m := NewMemoryTerms()
	for i, system := range []string{"", "a", "a\x00", "ab", "http://x"} {
		m.AddTerm(20, AppendToken(nil, []byte(system), []byte("code")))
		m.AddTerm(20, AppendToken(nil, []byte(system), []byte("other")))
		m.AddTerm(20, AppendTokenText(nil, []byte("code"), NewFolder()))
		number, _ := AppendDecimal(AppendQuantityUnit(nil, []byte(system), []byte("mg")), []byte("5.4"))
		m.AddTerm(21, number)
		m.Commit(Ordinal(i))
	}
	var systems []string
	c := m.Terms(20, 10)
	for ok := c.First(); ok; {
		prefix, isCode := TokenSystem(c.Value())
		if !isCode {
			break
		}
		system, code, _ := ParseToken(append(bytes.Clone(prefix), "code"...))
		if rows := m.Postings(20, AppendToken(nil, system, code), 10); !rows.IsEmpty() {
			systems = append(systems, string(system))
		}
		next, _ := AppendPrefixEnd(nil, prefix)
		ok = c.SeekGE(next)
	}
	if want := []string{"", "a", "a\x00", "ab", "http://x"}; !slices.Equal(systems, want) {
		t.Errorf("the walk meets systems %q, want %q", systems, want)
	}
	units := 0
	c = m.Terms(21, 10)
	for ok := c.First(); ok; units++ {
		prefix, interval, isQuantity := QuantityUnit(c.Value())
		decimal, rest, isDecimal := CutDecimal(c.Value()[len(prefix):])
		if interval || !isQuantity || !isDecimal || decodeDecimal(decimal) != "27/5" || len(rest) > 0 {
			t.Fatalf("value %x is not a quantity", c.Value())
		}
		next, _ := AppendPrefixEnd(nil, prefix)
		ok = c.SeekGE(next)
	}
	if units != 5 {
		t.Errorf("the walk meets %d units, want 5", units)
	}
}
