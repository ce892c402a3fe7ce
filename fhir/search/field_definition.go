package search

import (
	"encoding/binary"
	"errors"

	"kiln/fhir"
)

// A field that was added at run time is kept as what it reads, so that no change
// of a later compiler can make it another one (little endian):
//
//	0      1      2         4                                                ...
//	+------+------+---------+------+-------+-------------------+-----------------+
//	| form | kind | type    | name | group | elements: count,  | parts: count 2, |
//	| 1    |      | u16     |      |       | then each         | then each       |
//	+------+------+---------+------+-------+-------------------+-----------------+
//	element   path · data type · among · first u8 · conditions: count 2, then path · key · value each
//	part      kind u8 · elements as above
//
// Names and paths are texts: length u16 and bytes. Counts are u16. Fields are the
// same field when these bytes are the same.
const (
	definitionForm = 1
	// DefinitionBytesMax bounds one field's definition.
	DefinitionBytesMax = 64 << 10
)

// ErrDefinition: bytes are no field's definition.
var ErrDefinition = errors.New("not the definition of a field")

// AppendDefinition appends what the field reads, all but its number. ok is
// false when it does not fit DefinitionBytesMax.
func (f *Field) AppendDefinition(dst []byte) (_ []byte, ok bool) {
	from := len(dst)
	dst = append(dst, definitionForm, byte(f.Kind))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(f.Type))
	dst = appendText(appendText(dst, f.Name), f.Group)
	dst = appendElements(dst, f.Elements)
	dst = appendCount(dst, len(f.Parts))
	for _, p := range f.Parts {
		dst = appendElements(append(dst, byte(p.Kind)), p.Elements)
	}
	return dst, len(dst)-from <= DefinitionBytesMax
}

func appendCount(dst []byte, n int) []byte { return binary.LittleEndian.AppendUint16(dst, uint16(n)) }

func appendText(dst []byte, text string) []byte { return append(appendCount(dst, len(text)), text...) }

func appendElements(dst []byte, elements []Element) []byte {
	dst = appendCount(dst, len(elements))
	for _, e := range elements {
		dst = appendText(appendText(appendText(dst, e.Path), e.Type), e.Among)
		first := byte(0)
		if e.First {
			first = 1
		}
		dst = appendCount(append(dst, first), len(e.Conditions))
		for _, c := range e.Conditions {
			dst = appendText(appendText(appendText(dst, c.Path), c.Key), c.Value)
		}
	}
	return dst
}

// ParseDefinition undoes AppendDefinition. ErrDefinition.
func ParseDefinition(number uint16, src []byte) (*Field, error) {
	r := definitionReader{src: src}
	if r.byte() != definitionForm || len(src) > DefinitionBytesMax {
		return nil, ErrDefinition
	}
	f := &Field{Number: number, Kind: Kind(r.byte()), Type: fhir.TypeCode(r.count())}
	f.Name, f.Group = r.text(), r.text()
	f.Elements = r.elements()
	for range r.count() {
		if r.bad {
			break
		}
		f.Parts = append(f.Parts, Part{Kind: Kind(r.byte()), Elements: r.elements()})
	}
	if r.bad || len(r.src) > 0 || f.Kind == 0 || f.Kind.String() == "" || f.Type > fhir.TypeMax || f.Name == "" ||
		(f.Kind == Composite) != (len(f.Parts) > 0) || (f.Kind == Composite) == (len(f.Elements) > 0) {
		return nil, ErrDefinition
	}
	return f, nil
}

// definitionReader reads from the front; bad sticks.
type definitionReader struct {
	src []byte
	bad bool
}

func (r *definitionReader) take(n int) []byte {
	if r.bad || n > len(r.src) {
		r.bad = true
		return nil
	}
	taken := r.src[:n]
	r.src = r.src[n:]
	return taken
}

func (r *definitionReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *definitionReader) flag() bool {
	b := r.byte()
	r.bad = r.bad || b > 1
	return b == 1
}

func (r *definitionReader) count() int {
	if b := r.take(2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}

func (r *definitionReader) text() string { return string(r.take(r.count())) }

func (r *definitionReader) elements() (elements []Element) {
	for range r.count() {
		if r.bad {
			return nil
		}
		e := Element{Path: r.text(), Type: r.text(), Among: r.text(), First: r.flag()}
		for range r.count() {
			if r.bad {
				return nil
			}
			e.Conditions = append(e.Conditions, Condition{Path: r.text(), Key: r.text(), Value: r.text()})
		}
		elements = append(elements, e)
	}
	return elements
}
