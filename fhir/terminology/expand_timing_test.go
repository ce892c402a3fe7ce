package terminology

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"kiln/fhir"
)

// BenchmarkExpansion reads an expansion of 100,000 codes: what a search by it costs
// before it looks anything up.
func BenchmarkExpansion(b *testing.B) {
	var text strings.Builder
	text.WriteString(`{"resourceType":"ValueSet","id":"v","expansion":{"contains":[{"system":"urn:a","code":"0"}`)
	for i := range 99_999 {
		fmt.Fprintf(&text, `,{"system":"urn:a","code":"%d","display":"a text beside it"}`, i+1)
	}
	text.WriteString("]}}")
	askOften(b, valueSetType(), text.String(), func(x *Expander) (*Set, error) { return x.ValueSetByID("v") })
}

// BenchmarkSubsumption finds what one of 100,000 concepts subsumes.
func BenchmarkSubsumption(b *testing.B) {
	var text strings.Builder
	text.WriteString(`{"resourceType":"CodeSystem","id":"v","url":"urn:a","content":"complete","hierarchyMeaning":"is-a","concept":[{"code":"0"}`)
	for i := range 1000 {
		fmt.Fprintf(&text, `,{"code":"%d","concept":[{"code":"%d-0"}`, i+1, i+1)
		for j := range 99 {
			fmt.Fprintf(&text, `,{"code":"%d-%d","display":"a text beside it"}`, i+1, j+1)
		}
		text.WriteString("]}")
	}
	text.WriteString("]}")
	askOften(b, codeSystemType(), text.String(), func(x *Expander) (*Set, error) { return x.Below("urn:a", "7") })
}

func askOften(b *testing.B, t fhir.TypeCode, text string, question func(*Expander) (*Set, error)) {
	r := Resource{ID: "v", Body: []byte(text)}
	l := &library{map[fhir.TypeCode]map[string][]Resource{t: {"urn:a": {r}}}, map[fhir.TypeCode]map[string]Resource{t: {"v": r}}}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		set, err := question(NewExpander(context.Background(), l))
		if err != nil || !set.Has(Code{"urn:a", "7"}) {
			b.Fatal(err)
		}
	}
}
