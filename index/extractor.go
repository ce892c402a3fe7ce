package index

import "kiln/fhir"

// pathReference is the fhir.PathID of reference members.
const pathReference fhir.PathID = 1

// PathRules are the elements that an Extractor needs to see: compile them with
// fhir.NewPaths for the scanner that feeds it.
func PathRules() []fhir.PathRule {
	return []fhir.PathRule{{Path: "**.reference", ID: pathReference}}
}

// Extractor turns the values that a scan meets into terms of the version whose
// Append comes next. It is a fhir.Visitor. When the scan fails the caller
// discards the terms (Builder.DiscardTerms). Not safe for concurrent use.
type Extractor struct {
	b   *Builder
	buf []byte
}

var _ fhir.Visitor = (*Extractor)(nil)

// NewExtractor makes an Extractor without a Builder; see Reset.
func NewExtractor() *Extractor { return &Extractor{} }

// Reset makes the terms go to b from now on.
func (x *Extractor) Reset(b *Builder) { x.b = b }

// Value takes one value of the resource.
func (x *Extractor) Value(id fhir.PathID, kind fhir.Kind, text []byte) {
	if id == pathReference && kind == fhir.KindString {
		x.buf = AppendReference(x.buf[:0], text)
		x.b.AddTerm(ParamReference, x.buf)
	}
}

// Begin and End enclose the values of an object; references need neither.
func (x *Extractor) Begin(fhir.PathID) {}
func (x *Extractor) End(fhir.PathID)   {}
