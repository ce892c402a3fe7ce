package fhir

import (
	"fmt"
	"math"
	"unicode/utf8"
)

const (
	// DepthMax bounds how deep objects and arrays may nest, and with it the
	// stacks of everything that walks a resource. Real resources stay below 40.
	DepthMax = 128
	// SourceBytesMax bounds a scanned text, because offsets are 32 bits wide.
	SourceBytesMax = math.MaxInt32
	// bufferBytesKept bounds what a Scanner keeps from one resource to the next:
	// the few resources beyond it (a Bundle can have 30 MB) pay for their buffer.
	bufferBytesKept = 1 << 20
)

// ScannerOptions are explicit; the zero value calls no Visitor.
type ScannerOptions struct {
	Paths *Paths // which values the Visitor gets; nil: none
}

// Scanner reads resources, one after another, each in one pass over its bytes.
// It allocates nothing in steady state. Not safe for concurrent use.
type Scanner struct {
	paths  *Paths // of the scan that is running
	chosen *Paths // as in the options
	src    []byte
	// The output so far is buf followed by src[keep:pos], pos being where the
	// scan stands. Without a cut buf stays empty and Body aliases src.
	buf  []byte
	keep int
	// depth counts the open objects and arrays.
	depth int
	// closers[d] is the bracket that closes the open value at depth d.
	closers [DepthMax + 1]byte
	// escaped is set when a string with an escape is met; readers clear it.
	escaped bool
	keyAt   int    // offset of the latest key, for errors
	text    []byte // latest unescaped key or value
	names   []byte // unescaped texts that must hold until the scan ends
	visitor Visitor
	root    uint32 // automaton state of the resource's type
	rooted  bool   // root is decided
	ahead   *Scanner
	topKeys keySet
	meta    metaScan
	res     Resource
	err     error
}

// NewScanner returns a Scanner for the given options.
func NewScanner(opts ScannerOptions) *Scanner {
	s := &Scanner{chosen: opts.Paths, topKeys: newKeySet(), meta: metaScan{keys: newKeySet()}}
	if s.chosen == nil {
		s.chosen = noPaths
	}
	return s
}

// Scan reads src, which must hold exactly one resource and white space around
// it. v is called for the values that the Paths name, while the scan goes on:
// when Scan fails in the end, what v got must be discarded. v may be nil.
// The result and what it points to hold until the next Scan; src must not
// change as long. Every error is a *ScanError.
func (s *Scanner) Scan(src []byte, v Visitor) (*Resource, error) {
	s.reset(src, v)
	end := s.resource()
	if end < 0 {
		return nil, s.err
	}
	s.res.Body = s.body(end)
	if s.meta.at == 0 {
		at := s.res.idEnd
		if s.res.ID == nil {
			at = s.res.typeEnd
		}
		s.res.Splice = Splice{At: at, Kind: SpliceNewMeta}
	}
	return &s.res, nil
}

func (s *Scanner) reset(src []byte, v Visitor) {
	s.paths, s.visitor = s.chosen, v
	if v == nil {
		s.paths = noPaths
	}
	s.src, s.keep, s.depth, s.err = src, 0, 0, nil
	s.root, s.rooted = s.paths.anyType, !s.paths.typed
	s.res = Resource{}
	s.names = s.names[:0]
	s.topKeys.reset()
	s.meta.reset()
	s.buf = s.buf[:0]
	for _, buffer := range []*[]byte{&s.buf, &s.text, &s.names} {
		if cap(*buffer) > bufferBytesKept {
			*buffer = nil
		}
	}
}

// resource checks all of src and returns where the object ends, or -1.
func (s *Scanner) resource() int {
	if len(s.src) > SourceBytesMax {
		return s.fail(SourceBytesMax, ErrNotResource, "longer than 2 GiB")
	}
	i := s.blanks(0)
	if i < len(s.src) && s.src[i] != '{' {
		return s.failNoObject(i)
	}
	end := s.object(i, roleResource, 0)
	if end < 0 {
		return -1
	}
	rest := end
	for rest < len(s.src) && isBlank(s.src[rest]) {
		rest++
	}
	if rest < len(s.src) {
		return s.failByte(rest, "after the resource")
	}
	if s.res.TypeName == nil {
		return s.fail(i, ErrNotResource, "resourceType is missing")
	}
	return end
}

func (s *Scanner) failNoObject(i int) int {
	switch c := s.src[i]; {
	case c == '[' || c == '"' || c == '-' || '0' <= c && c <= '9' || c == 't' || c == 'f' || c == 'n':
		return s.fail(i, ErrNotResource, "a resource is a JSON object")
	}
	return s.failByte(i, "at the start of a resource")
}

// role says whose members an object's are.
type role uint8

const (
	rolePlain     role = iota
	roleResource       // the top level
	roleMeta           // the resource's meta
	roleExtension      // an element of meta.extension
)

// object checks the object at i and returns the offset just past it, or -1.
// It serves the objects whose members matter; skip is for all others.
func (s *Scanner) object(i int, as role, state uint32) int {
	if i = s.open(i); i < 0 {
		return -1
	}
	if s.src[i] == '}' {
		s.depth--
		return i + 1
	}
	for first := true; ; first = false {
		before := s.mark(i)
		if !first {
			if as == roleMeta && s.meta.kept == 0 {
				s.cut(i, i+1)
				before = s.mark(i + 1)
			}
			i = s.blanks(i + 1)
		}
		key, at := s.key(i)
		if at < 0 {
			return -1
		}
		if i = s.member(as, key, at, state, before); i < 0 {
			return -1
		}
		if i = s.blanks(i); i >= len(s.src) {
			return s.failEnd()
		}
		switch s.src[i] {
		case ',':
		case '}':
			s.depth--
			return i + 1
		default:
			return s.failByte(i, "after a member of an object (expected ',' or '}')")
		}
	}
}

// open steps into the object or array at i and returns the offset of the first
// byte in it that is no white space, or -1.
func (s *Scanner) open(i int) int {
	if i >= len(s.src) {
		return s.failEnd()
	}
	if s.depth >= DepthMax {
		return s.failDepth(i)
	}
	s.depth++
	if i = s.blanks(i + 1); i >= len(s.src) {
		return s.failEnd()
	}
	return i
}

// key reads the key at i and the colon. It returns the unescaped key and the
// offset of the value, or -1.
func (s *Scanner) key(i int) ([]byte, int) {
	if i >= len(s.src) {
		return nil, s.failEnd()
	}
	if s.src[i] != '"' {
		return nil, s.failByte(i, "at the start of a key (expected '\"')")
	}
	s.keyAt = i
	key, i := s.string(i)
	if i < 0 {
		return nil, -1
	}
	i = s.blanks(i)
	if i >= len(s.src) {
		return nil, s.failEnd()
	}
	if s.src[i] != ':' {
		return nil, s.failByte(i, "after a key (expected ':')")
	}
	if i = s.blanks(i + 1); i >= len(s.src) {
		return nil, s.failEnd()
	}
	return key, i
}

// string reads the string at i. The text is unescaped; it aliases src when
// nothing was escaped, s.text otherwise. end is just past the quote, or -1.
func (s *Scanner) string(i int) (text []byte, end int) {
	start := i + 1
	end = PlainEnd(s.src, start)
	if end < len(s.src) && s.src[end] == '"' {
		return s.src[start:end:end], end + 1
	}
	s.escaped = false
	if end = s.stringTail(end); end < 0 {
		return nil, -1
	}
	text = s.src[start : end-1 : end-1]
	if s.escaped {
		s.text = AppendUnescaped(s.text[:0], text)
		text = s.text
	}
	return text, end
}

// member checks a member's value at i, with what its object's role asks of it.
func (s *Scanner) member(as role, key []byte, i int, state uint32, before mark) int {
	switch as {
	case roleResource:
		return s.resourceMember(key, i)
	case roleMeta:
		return s.metaMember(key, i, state, before)
	case roleExtension:
		return s.extensionMember(key, i, state)
	}
	return s.value(i, s.paths.step(state, key))
}

func (s *Scanner) resourceMember(key []byte, i int) int {
	if key = s.lasting(key); !s.topKeys.add(key) {
		return s.failRepeated(key)
	}
	switch string(key) {
	case "resourceType":
		return s.resourceType(i)
	case "id":
		return s.resourceID(i)
	}
	if !s.rooted && !s.lookAhead() {
		return -1
	}
	state := s.paths.step(s.root, key)
	if string(key) != "meta" {
		return s.value(i, state)
	}
	if s.src[i] != '{' {
		return s.fail(i, ErrNotResource, "meta is not an object")
	}
	return s.metaObject(i, state)
}

func (s *Scanner) resourceType(i int) int {
	name, end := s.stringOf("resourceType", i)
	if end < 0 {
		return -1
	}
	s.res.TypeName, s.res.Type = name, TypeByName(name)
	s.res.typeEnd = s.out(end)
	s.setRoot(s.res.Type)
	return end
}

// resourceID reads the id, and writes it plainly when it is valid but escaped.
func (s *Scanner) resourceID(i int) int {
	id, end := s.stringOf("id", i)
	if end < 0 {
		return -1
	}
	s.res.ID, s.res.idStart = id, s.out(i)
	if ValidID(id) {
		s.res.IDAt = s.res.idStart + 1
		if len(id) != end-i-2 {
			s.cut(i+1, end-1)
			s.buf = append(s.buf, id...)
		}
	}
	s.res.idEnd = s.out(end)
	return end
}

// lookAhead finds the type of a resource whose resourceType does not come before
// its first element, by a scan that calls no Visitor.
func (s *Scanner) lookAhead() bool {
	if s.ahead == nil {
		s.ahead = NewScanner(ScannerOptions{})
	}
	r, err := s.ahead.Scan(s.src, nil)
	if err != nil {
		s.err = err
		return false
	}
	s.setRoot(r.Type)
	return true
}

// setRoot chooses the automaton's state for the members of a resource of type t.
func (s *Scanner) setRoot(t TypeCode) { s.root, s.rooted = s.paths.roots[t], true }

// stringOf reads the string at i, which the member named what must be; the text
// holds until the scan ends.
func (s *Scanner) stringOf(what string, i int) (text []byte, end int) {
	if s.src[i] != '"' {
		if s.skip(i) < 0 {
			return nil, -1
		}
		return nil, s.fail(i, ErrNotResource, what+" is not a string")
	}
	text, end = s.string(i)
	return s.lasting(text), end
}

// lasting moves an unescaped text to where it holds until the scan ends.
func (s *Scanner) lasting(text []byte) []byte {
	if len(text) == 0 || len(s.text) == 0 || &text[0] != &s.text[0] {
		return text
	}
	start := len(s.names)
	s.names = append(s.names, text...)
	return s.names[start:len(s.names):len(s.names)]
}

// A mark is a place in the output to which the scan can go back.
type mark struct{ buffered, keep, pos int }

func (s *Scanner) mark(pos int) mark { return mark{len(s.buf), s.keep, pos} }

// dropSince takes everything since m, up to pos, out of the output.
func (s *Scanner) dropSince(m mark, pos int) {
	s.reserve()
	s.buf = append(s.buf[:m.buffered], s.src[m.keep:m.pos]...)
	s.keep = pos
}

// cut leaves src[from:to] out of the output.
func (s *Scanner) cut(from, to int) {
	s.reserve()
	s.buf = append(s.buf, s.src[s.keep:from]...)
	s.keep = to
}

// reserve makes room for the whole output, which is never longer than src.
func (s *Scanner) reserve() {
	if cap(s.buf) < len(s.src) {
		s.buf = append(make([]byte, 0, len(s.src)+len(s.src)/8), s.buf...)
	}
}

// out is the offset in the output of src[pos].
func (s *Scanner) out(pos int) uint32 { return uint32(len(s.buf) + pos - s.keep) }

// body is the output up to end.
func (s *Scanner) body(end int) []byte {
	if len(s.buf) == 0 {
		return s.src[s.keep:end:end]
	}
	s.buf = append(s.buf, s.src[s.keep:end]...)
	s.keep = end
	return s.buf
}

// blanks steps over white space at i, leaving it out of the output.
func (s *Scanner) blanks(i int) int {
	if i < len(s.src) && s.src[i] <= ' ' {
		return s.cutBlanks(i)
	}
	return i
}

// cutBlanks is blanks where there may be some; apart, so that blanks is inlined.
func (s *Scanner) cutBlanks(i int) int {
	end := i
	for end < len(s.src) && isBlank(s.src[end]) {
		end++
	}
	if end > i {
		s.cut(i, end)
	}
	return end
}

func isBlank(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// fail records the error and returns -1.
func (s *Scanner) fail(i int, kind error, detail string) int {
	s.err = &ScanError{Offset: int64(i), Err: kind, Detail: detail}
	return -1
}

func (s *Scanner) failByte(i int, where string) int {
	c, n := utf8.DecodeRune(s.src[i:])
	if c == utf8.RuneError && n <= 1 {
		return s.fail(i, ErrSyntax, fmt.Sprintf("invalid byte 0x%02x %s", s.src[i], where))
	}
	return s.fail(i, ErrSyntax, fmt.Sprintf("invalid character %q %s", c, where))
}

func (s *Scanner) failEnd() int { return s.fail(len(s.src), ErrSyntax, "unexpected end of input") }

func (s *Scanner) failDepth(i int) int {
	return s.fail(i, ErrTooDeep, fmt.Sprintf("more than %d objects and arrays in one another", DepthMax))
}

func (s *Scanner) failRepeated(key []byte) int {
	return s.fail(s.keyAt, ErrDuplicateKey, fmt.Sprintf("%.64q", key))
}
