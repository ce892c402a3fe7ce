package fhir

import (
	"errors"
	"strings"
	"testing"
)

func TestMinifyKeepsTheTextOfValues(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		got, err := Minify([]byte(src))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s %v", src, got, err)
		}
	}
	f(`[ {"a" : 1.00 , "b":"\u00b5 <"} ]`, `[{"a":1.00,"b":"\u00b5 <"}]`)
	f(` "a b" `, `"a b"`)
	f("\t1e-7\n", `1e-7`)
	f(`null`, `null`)
	f(`{"a":[]}`, `{"a":[]}`)
}

func TestMinifyRefusesWhatIsNotOneValue(t *testing.T) {
	for _, src := range []string{"", " ", "{", "[1,]", "1 2", "01", "{} x", `"\x"`, "\"\xff\"", strings.Repeat("[", DepthMax+1)} {
		var refused *ScanError
		if got, err := Minify([]byte(src)); !errors.As(err, &refused) {
			t.Errorf("%q: got %q, %v", src, got, err)
		}
	}
}

func TestAppendTextGivesCharacters(t *testing.T) {
	if got := string(AppendText([]byte("x"), []byte(`"a\n\u00e9\ud83d\ude00\/"`))); got != "xa\né😀/" {
		t.Errorf("got %q", got)
	}
}

func TestPartsOfAValueAreFound(t *testing.T) {
	text := []byte(`{"a":1.0,"b\u0063":["x\"]",{"y":[]},null],"d":"\\"}`)
	var got []string
	Members(text, 0, func(key []byte, at, end int) bool {
		got = append(got, string(key)+"="+string(text[at:end]))
		if text[at] == '[' {
			Elements(text, at, func(at, end int) bool {
				got = append(got, string(text[at:end]))
				return true
			})
		}
		return true
	})
	want := `a=1.0 bc=["x\"]",{"y":[]},null] "x\"]" {"y":[]} null d="\\"`
	if strings.Join(got, " ") != want {
		t.Errorf("got %s", got)
	}
}
