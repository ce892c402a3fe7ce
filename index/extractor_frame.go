package index

import (
	"math"

	"kiln/fhir"
)

// frame holds what was met of one open object.
type frame struct {
	site        uint32
	start       uint32 // of its texts in the arena
	texts       [rolesMax]arenaSpan
	first, last int64 // of a Timing's events
	held        int   // of a condition: values that were held before
}

type arenaSpan struct{ from, to uint32 }

// Begin opens a frame; for the scanner only.
func (x *Extractor) Begin(id fhir.PathID) {
	if id&roleMask != roleSelf {
		return
	}
	switch s := &x.rules.sites[id>>roleBits]; {
	case s.reader < frameReaders, s.reader == readGroup:
		return
	case s.reader == readEntry:
		if x.first {
			return
		}
		x.first = true
	}
	x.frames = append(x.frames, frame{
		site: uint32(id >> roleBits), start: uint32(len(x.arena)), first: math.MaxInt64, last: math.MinInt64,
		held: len(x.held.values),
	})
}

// End makes terms of a frame; for the scanner only.
func (x *Extractor) End(id fhir.PathID) {
	if id&roleMask != roleSelf {
		return
	}
	s := &x.rules.sites[id>>roleBits]
	if s.reader < frameReaders {
		return
	}
	if s.reader == readGroup {
		x.closeGroup(s)
		return
	}
	at := x.frameOf(uint32(id >> roleBits))
	if at < 0 {
		return
	}
	if s.reader == readCondition {
		x.decide(&x.frames[at])
	} else {
		x.close(s, &x.frames[at])
	}
	// Frames of one element close in the order they opened, so it need not be
	// the last; its texts go when nothing newer is open.
	x.frames[at].site = frameClosed
	for n := len(x.frames); n > 0 && x.frames[n-1].site == frameClosed; n-- {
		x.arena = x.arena[:x.frames[n-1].start]
		x.frames = x.frames[:n-1]
	}
}

// frameClosed is the site of a frame that is done.
const frameClosed = math.MaxUint32

// frameOf finds the innermost open frame of a site, or -1.
func (x *Extractor) frameOf(site uint32) int {
	for i := len(x.frames) - 1; i >= 0; i-- {
		if x.frames[i].site == site {
			return i
		}
	}
	return -1
}

// note keeps a member's text until its object ends. Of a member that occurs
// again the last counts.
func (x *Extractor) note(s *site, number uint32, role int, kind fhir.Kind, text []byte) {
	want := fhir.KindString
	if s.numeric>>role&1 != 0 {
		want = fhir.KindNumber
	}
	at := x.frameOf(number)
	if kind != want || at < 0 {
		return
	}
	f := &x.frames[at]
	if s.reader == readTiming && role == 1 {
		if first, last, ok := fhir.ParseDate(text); ok {
			f.first, f.last = min(f.first, first), max(f.last, last)
		}
		return
	}
	from := uint32(len(x.arena))
	x.arena = append(x.arena, text...)
	f.texts[role] = arenaSpan{from, uint32(len(x.arena))}
}

// text is what a frame has of a role, empty when nothing.
func (x *Extractor) text(f *frame, role int) []byte {
	return x.arena[f.texts[role].from:f.texts[role].to]
}

// close makes the terms of an object that has ended.
func (x *Extractor) close(s *site, f *frame) {
	switch s.reader {
	case readCoding:
		x.code(s, x.text(f, 1), x.text(f, 2))
		if display := x.text(f, 3); len(display) > 0 {
			x.emitTerm(s, AppendTokenText(x.buf[:0], display, x.folder))
		}
	case readIdentifier:
		x.code(s, x.text(f, 1), x.text(f, 2))
		x.ofTypes(s, x.text(f, 2))
	case readIdentifierType:
		x.types = append(x.types, arenaSpan{uint32(len(x.typeArena)), 0})
		x.typeArena = AppendTokenOfType(x.typeArena, x.text(f, 1), x.text(f, 2), nil)
		x.types[len(x.types)-1].to = uint32(len(x.typeArena))
	case readLogical:
		if system, value := x.text(f, 1), x.text(f, 2); len(system)+len(value) > 0 {
			x.emit(s, AppendReferenceIdentifier(x.buf[:0], system, value))
		}
	case readPeriod:
		first, last := bounds(x.text(f, 1), x.text(f, 2))
		x.emitSpan(s, first, last)
	case readTiming:
		x.timing(s, f)
	case readQuantity, readMoney, readQuantityRange, readNumberRange, readPosition:
		x.closeNumbers(s, f)
	case readArtifact:
		x.artifact(s, x.text(f, 1), x.text(f, 2))
	case readEntry:
		if name, id := x.text(f, 1), x.text(f, 2); len(name) > 0 && len(id) > 0 {
			x.second = append(append(append(x.second[:0], name...), '/'), id...)
			x.emit(s, AppendReference(x.buf[:0], x.second))
		}
	default:
		panic("BUG: a reader without a way to read an object")
	}
}

// code gives a system and a code, of which one may be missing.
func (x *Extractor) code(s *site, system, code []byte) {
	if len(system)+len(code) > 0 {
		x.emit(s, AppendToken(x.buf[:0], system, code))
	}
}

// ofTypes gives an identifier's value with each coding of its type, which ended
// before the identifier did.
func (x *Extractor) ofTypes(s *site, value []byte) {
	for _, t := range x.types {
		if len(value) > 0 && t.to > t.from+3 { // more than the family and two separators
			x.emitTerm(s, appendCodeText(append(x.buf[:0], x.typeArena[t.from:t.to]...), value))
		}
	}
	x.types, x.typeArena = x.types[:0], x.typeArena[:0]
}

// timing gives the outer limits of a Timing: its events and its bounds.
func (x *Extractor) timing(s *site, f *frame) {
	start, end := x.text(f, 2), x.text(f, 3)
	first, last := f.first, f.last
	if len(start)+len(end) > 0 {
		low, high := bounds(start, end)
		first, last = min(first, low), max(last, high)
	}
	if first <= last {
		x.emitSpan(s, first, last)
	}
}

// artifact gives the resource of a relatedArtifact to the uses of its type.
func (x *Extractor) artifact(s *site, kind, resource []byte) {
	if len(resource) == 0 {
		return
	}
	x.buf = AppendCanonical(x.buf[:0], resource)
	for i := range s.uses {
		if s.uses[i].among == string(kind) {
			x.give(&s.uses[i], x.buf)
		}
	}
}
