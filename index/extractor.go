package index

import (
	"errors"
	"fmt"
	"math"

	"kiln/fhir"
)

// ErrTerms: a resource has a value that cannot be a search term.
var ErrTerms = errors.New("a value cannot be indexed")

// TermSink takes the terms of a resource. value holds until AddTerm returns.
type TermSink interface {
	AddTerm(p Param, value []byte)
}

// Extractor scans resources and gives the terms of each to its sink. It
// allocates nothing in steady state. Not safe for concurrent use.
type Extractor struct {
	rules   *Extraction
	scanner *fhir.Scanner
	sink    TermSink
	folder  *Folder
	buf     []byte // the value that is being made
	second  []byte // a value's other form

	frames    []frame
	arena     []byte // texts of the open frames
	pairs     pairing
	held      holding     // values that conditions are to decide on
	types     []arenaSpan // type codings of the open identifier, as of-type values without the value
	typeArena []byte
	first     bool // the Bundle's first entry was met
	dead      deadState
	cost      int64 // of the resource's terms
	err       error
}

// deadState is what was met of Patient.deceased.
type deadState uint8

const (
	deadUnknown deadState = iota // which makes the parameter false
	deadFalse
	deadTrue
)

// arenaBytesKept bounds what an Extractor keeps from one resource to the next.
const arenaBytesKept = 1 << 20

// NewExtractor makes an Extractor whose terms go to sink; nil: see Reset.
func (e *Extraction) NewExtractor(sink TermSink) *Extractor {
	x := &Extractor{rules: e, sink: sink, folder: NewFolder()}
	x.scanner = fhir.NewScanner(fhir.ScannerOptions{Paths: e.paths})
	return x
}

// Extraction is what the terms are made by.
func (x *Extractor) Extraction() *Extraction { return x.rules }

// Reset makes the terms go to sink from now on.
func (x *Extractor) Reset(sink TermSink) { x.sink = sink }

// Scan reads src as fhir.Scanner.Scan does and gives its terms to the sink.
// After an error the caller discards what the sink got. Errors are those of
// Scanner.Scan, and ErrTerms.
func (x *Extractor) Scan(src []byte) (*fhir.Resource, error) {
	x.frames, x.arena, x.first, x.dead, x.cost, x.err = x.frames[:0], x.arena[:0], false, deadUnknown, 0, nil
	if cap(x.arena) > arenaBytesKept {
		x.arena = nil
	}
	x.pairs.reset()
	x.held.reset()
	x.types, x.typeArena = x.types[:0], x.typeArena[:0]
	r, err := x.scanner.Scan(src, x)
	if err != nil {
		return nil, err
	}
	if r.Type == typePatient && x.rules.dead != 0 {
		x.buf = AppendToken(x.buf[:0], nil, deadTexts[x.dead])
		x.term(x.rules.dead, x.buf)
	}
	if x.err != nil {
		return nil, x.err
	}
	return r, nil
}

// Cost is at most what the terms of the resource scanned last take in a
// MemoryTerms, up to a half for room to grow.
func (x *Extractor) Cost() int64 { return x.cost }

// term gives a term to the sink.
func (x *Extractor) term(p Param, value []byte) {
	if x.cost += TermCost + int64(min(len(value), TermBytesMax)); x.cost > TermsCostMax {
		x.fail("its search terms need more than %d bytes", TermsCostMax)
		return
	}
	x.sink.AddTerm(p, value)
}

// typePatient is the type that the parameter "deceased" is for.
var typePatient = fhir.TypeByName([]byte("Patient"))

var deadTexts = [...][]byte{deadUnknown: []byte("false"), deadFalse: []byte("false"), deadTrue: []byte("true")}

// fail notes the first value that cannot be indexed.
func (x *Extractor) fail(format string, args ...any) {
	if x.err == nil {
		x.err = fmt.Errorf("%w: "+format, append([]any{ErrTerms}, args...)...)
	}
}

// visitor is the Extractor as the scanner sees it.
var _ fhir.Visitor = (*Extractor)(nil)

// Value takes one value of the resource; for the scanner only.
func (x *Extractor) Value(id fhir.PathID, kind fhir.Kind, text []byte) {
	s := &x.rules.sites[id>>roleBits]
	if s.reader >= frameReaders {
		if id&roleMask != roleSelf {
			x.note(s, uint32(id>>roleBits), int(id&roleMask), kind, text)
		}
		return
	}
	if s.reader == readNumber {
		if kind == fhir.KindNumber {
			x.number(s, text)
		}
		return
	}
	if kind == fhir.KindBool && s.reader == readCode {
		x.emit(s, AppendToken(x.buf[:0], nil, text))
		return
	}
	if s.reader == readDead {
		x.deceased(kind, text)
		return
	}
	if kind == fhir.KindString && len(text) > 0 {
		x.scalar(s, text)
	}
}

// scalar takes the text of a site that needs nothing else.
func (x *Extractor) scalar(s *site, text []byte) {
	switch s.reader {
	case readCode:
		x.emit(s, AppendToken(x.buf[:0], nil, text))
	case readText:
		x.emit(s, AppendTokenText(x.buf[:0], text, x.folder))
	case readString:
		x.emit(s, AppendString(x.buf[:0], text, x.folder))
	case readURI:
		x.emit(s, append(x.buf[:0], text...))
	case readReference:
		x.emit(s, AppendReference(x.buf[:0], text))
	case readCanonical:
		x.emit(s, AppendCanonical(x.buf[:0], text))
	case readContained:
		if t := fhir.TypeByName(text); t != 0 {
			x.emit(s, AppendType(x.buf[:0], t))
		}
	case readDate:
		if first, last, ok := fhir.ParseDate(text); ok {
			x.emit(s, AppendDate(x.buf[:0], first, last))
		}
	default:
		panic("BUG: a reader without a way to read")
	}
}

func (x *Extractor) number(s *site, text []byte) {
	value, ok := AppendNumber(x.buf[:0], text)
	if !ok {
		x.failNumber(text)
		return
	}
	x.emit(s, value)
}

func (x *Extractor) deceased(kind fhir.Kind, text []byte) {
	switch {
	case kind == fhir.KindString, kind == fhir.KindBool && string(text) == "true":
		x.dead = deadTrue
	case kind == fhir.KindBool && x.dead == deadUnknown:
		x.dead = deadFalse
	}
}

// emit gives a value to all uses of a site. value is what x.buf has become; an
// empty one is none.
func (x *Extractor) emit(s *site, value []byte) {
	x.buf = value
	if len(value) == 0 {
		return
	}
	for i := range s.uses {
		u := &s.uses[i]
		if u.group < 0 {
			x.give(u, value)
		} else {
			x.pairs.add(u, value)
		}
	}
}

// emitTerm is emit without the groups.
func (x *Extractor) emitTerm(s *site, value []byte) {
	x.buf = value
	for i := range s.uses {
		if u := &s.uses[i]; u.group < 0 {
			x.give(u, value)
		}
	}
}

// emitSpan gives a span of time; see AppendDate.
func (x *Extractor) emitSpan(s *site, first, last int64) {
	x.emit(s, AppendDate(x.buf[:0], first, last))
}

// bounds gives the first and last millisecond of two texts; an empty one, or
// one that is no date, is open.
func bounds(start, end []byte) (first, last int64) {
	first, last = math.MinInt64, math.MaxInt64
	if low, _, ok := fhir.ParseDate(start); ok {
		first = low
	}
	if _, high, ok := fhir.ParseDate(end); ok {
		last = high
	}
	return first, last
}
