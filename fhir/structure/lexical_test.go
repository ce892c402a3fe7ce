package structure

import (
	"strings"
	"testing"
)

// primitives have, for each type, JSON values that are right and that are wrong.
var primitives = []struct {
	element     string // a member of Extension, which has every type but xhtml
	right, bad  string // separated by blanks
	wrongTypes  string
	rightQuoted []string // texts with blanks in them
	badQuoted   []string
}{
	{element: "valueBoolean", right: `true false`, wrongTypes: `"true" 1 null`},
	{element: "valueInteger", right: `0 1 -1 2147483647 -2147483648 10`, bad: `-0 1.0 1e3 2147483648 -2147483649 99999999999999999999`, wrongTypes: `"1" true`},
	{element: "valueUnsignedInt", right: `0 1 2147483647`, bad: `-1 -0 1.5 2147483648`, wrongTypes: `"0"`},
	{element: "valuePositiveInt", right: `1 2147483647`, bad: `0 -1 2147483648 1E1`, wrongTypes: `"1"`},
	{element: "valueDecimal", right: `0 -0 1.50 -0.000 1e5 1.0E-7 123456789012345678901234567890.123456789`, wrongTypes: `"1.0" true`},
	{element: "valueString", right: `"x" "é" "\u00e9" "\t\r\n"`, bad: `"" "\u0000" "a\u000bb" "\b" "\f" "é\u001f"`, wrongTypes: `1 true`, rightQuoted: []string{" ", " a  b "}},
	{element: "valueMarkdown", right: `"x" "a\nb"`, bad: `"" "\u0001"`, wrongTypes: `1`, rightQuoted: []string{" # x"}},
	{element: "valueCode", right: `"x" "é"`, bad: `"" "a\tb" "a\n"`, rightQuoted: []string{"a b c"}, badQuoted: []string{" a", "a ", "a  b", " "}, wrongTypes: `1`},
	{element: "valueId", right: `"a" "A.b-9" "1234567890123456789012345678901234567890123456789012345678901234"`, bad: `"" "a_b" "é" "12345678901234567890123456789012345678901234567890123456789012345"`, badQuoted: []string{"a b"}, wrongTypes: `1`},
	{element: "valueUri", right: `"x" "http://a/b?c=d" "urn:oid:9" "é"`, bad: `"" "a\tb"`, badQuoted: []string{" a", "a b"}, wrongTypes: `1`},
	{element: "valueUrl", right: `"http://a"`, bad: `""`, badQuoted: []string{"http://a b"}, wrongTypes: `{}`},
	{element: "valueCanonical", right: `"http://a|1.0#x"`, bad: `""`, badQuoted: []string{"a |1"}, wrongTypes: `[]`},
	{element: "valueOid", right: `"urn:oid:1.2.3" "urn:oid:0.0" "urn:oid:2.999"`, bad: `"" "1.2.3" "urn:oid:1" "urn:oid:3.1" "urn:oid:1." "urn:oid:1.02" "urn:oid:1..2" "urn:oid:1.2x" "urn:oid:12.3"`, wrongTypes: `1.2`},
	{element: "valueUuid", right: `"urn:uuid:c757873d-ec9a-4326-a141-556f43239520"`, bad: `"" "c757873d-ec9a-4326-a141-556f43239520" "urn:uuid:C757873D-ec9a-4326-a141-556f43239520" "urn:uuid:c757873d-ec9a-4326-a141-556f4323952" "urn:uuid:c757873dxec9a-4326-a141-556f43239520"`, wrongTypes: `1`},
	{element: "valueDate", right: `"2024" "2024-02" "2024-02-29" "0001-12-31" "1900-02-28" "2000-02-29"`, bad: `"" "0000" "24" "2024-" "2024-1" "2024-13" "2024-00" "2024-02-30" "2023-02-29" "1900-02-29" "2024-01-00" "2024-01-1" "2024-01-011" "2024-01-01T10:00:00Z" "2024/01/01" "x024"`, wrongTypes: `2024`},
	{element: "valueDateTime", right: `"2024" "2024-02" "2024-02-29" "2024-02-29T23:59:60Z" "2024-01-01T00:00:00.123456789+14:00" "2024-01-01T00:00:00-00:00"`, bad: `"" "2024-01-01T" "2024-01-01T10:00Z" "2024-01-01T10:00:00" "2024-01-01T24:00:00Z" "2024-01-01T10:60:00Z" "2024-01-01T10:00:61Z" "2024-01-01T10:00:00.Z" "2024-01-01T10:00:00z" "2024-01-01T10:00:00+14:01" "2024-01-01T10:00:00+15:00" "2024-01-01T10:00:00+1:00" "2024-01T10:00:00Z" "2024-01-01t10:00:00Z" "2024-01-01T10:00:00ZZ" "2024-01-01T10:00:00+10:0x"`, badQuoted: []string{"2024-01-01 10:00:00Z"}, wrongTypes: `2024`},
	{element: "valueInstant", right: `"2024-01-01T00:00:00Z" "2024-01-01T00:00:00.000+01:30"`, bad: `"" "2024" "2024-01-01" "2024-01-01T00:00:00" "2024-02-30T00:00:00Z"`, wrongTypes: `1`},
	{element: "valueTime", right: `"00:00:00" "23:59:60.5"`, bad: `"" "24:00:00" "10:00" "10:00:00Z" "10:00:00." "1:00:00" "10-00-00"`, wrongTypes: `1`},
	{element: "valueBase64Binary", right: `"YQ==" "YWI=" "YWJj" "YWJj\nYWJj"`, bad: `"" "YQ" "YQ=" "YQ===" "====" "YWJ" "Y=Jj" "YW-_" "YQ==YQ==" "é"`, rightQuoted: []string{" YW Jj YQ = = "}, badQuoted: []string{" "}, wrongTypes: `1`},
}

func TestPrimitivesAreWrittenAsTheirTypesAre(t *testing.T) {
	check := func(element, value, want string) {
		t.Helper()
		src := `{"resourceType":"Basic","code":{"text":"x"},"extension":[{"url":"a","` + element + `":` + value + `}]}`
		if got := brief(NewChecker().Check(scanned(t, src))); got != want {
			t.Errorf("%s %s: got %q, want %q", element, value, got, want)
		}
	}
	for _, p := range primitives {
		for _, value := range strings.Fields(p.right) {
			check(p.element, value, "")
		}
		for _, value := range p.rightQuoted {
			check(p.element, `"`+value+`"`, "")
		}
		for _, value := range strings.Fields(p.bad) {
			check(p.element, value, "value Basic.extension[0].value")
		}
		for _, value := range p.badQuoted {
			check(p.element, `"`+value+`"`, "value Basic.extension[0].value")
		}
		for _, value := range strings.Fields(p.wrongTypes) {
			check(p.element, value, "structure Basic.extension[0].value")
		}
	}
}

func TestStringsHaveALargestLength(t *testing.T) {
	f := func(character string, count int, want string) {
		t.Helper()
		src := `{"resourceType":"Patient","name":[{"family":"` + strings.Repeat(character, count) + `"}]}`
		if got := brief(NewChecker().Check(scanned(t, src))); got != want {
			t.Errorf("%d %q: got %q, want %q", count, character, got, want)
		}
	}
	f("x", stringCharactersMax, "")
	f("é", stringCharactersMax, "")
	f("x", stringCharactersMax+1, "value Patient.name[0].family")
	f("é", stringCharactersMax+1, "value Patient.name[0].family")
}

func TestNarrativeBeginsWithADiv(t *testing.T) {
	f := func(div, want string) {
		t.Helper()
		src := `{"resourceType":"Basic","code":{"text":"x"},"text":{"status":"generated","div":` + div + `}}`
		if got := brief(NewChecker().Check(scanned(t, src))); got != want {
			t.Errorf("%s: got %q, want %q", div, got, want)
		}
	}
	f(`"<div>x</div>"`, "")
	f(`"\n <div xmlns=\"x\">\u00e9</div>"`, "")
	f(`"\u003cdiv/>"`, "")
	f(`""`, "value Basic.text.div")
	f(`"x"`, "value Basic.text.div")
	f(`"<div"`, "value Basic.text.div")
	f(`"<divine>x</divine>"`, "value Basic.text.div")
	f(`"<p>x</p>"`, "value Basic.text.div")
	f(`{"div":"x"}`, "structure Basic.text.div")
}

func TestResourceIDsAreIDs(t *testing.T) {
	expectIssues(t, `{"resourceType":"Patient","id":"a_b"}`, "value Patient.id", `"a_b" is not an id`)
	expectIssues(t, `{"resourceType":"Patient","name":[{"id":"a_b","text":"x"}]}`, "", "")
}
