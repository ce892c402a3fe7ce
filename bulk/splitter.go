package bulk

import (
	"bytes"
	"io"
	"sync/atomic"
)

// chunk is some whole lines of one unit of one input.
type chunk struct {
	input int
	unit  int64 // number of the unit in its input
	start int64 // offset of data in the decompressed input
	data  []byte
	// tooLong: data is the beginning of one line longer than LineBytesMax.
	tooLong bool
	stored  int64 // stored bytes read so far, for progress
	buffer  *buffer
}

// release gives the chunk's memory back.
func (c *chunk) release() { c.buffer.release() }

// end is the offset just past the chunk.
func (c *chunk) end() int64 { return c.start + int64(len(c.data)) }

// buffer is memory that several chunks share.
type buffer struct {
	bytes []byte
	refs  atomic.Int32
	long  int64 // bytes taken from the allowance of long lines
	free  func(*buffer)
}

func (b *buffer) release() {
	if n := b.refs.Add(-1); n == 0 {
		b.free(b)
	} else if n < 0 {
		panic("BUG: a chunk was released twice")
	}
}

// memory hands out the buffers of one reader: a few of chunkBytes, and bigger
// ones when a line needs it and the allowance of long lines has room.
type memory struct {
	chunkBytes int
	lineBytes  int
	slots      chan struct{}           // one for each buffer that may still be taken
	spare      chan []byte             // buffers of chunkBytes that nobody holds, shared with other readers
	grow       func(bytes int64) error // waits for room for a long line
	shrink     func(bytes int64)       // gives room back; 0 is nothing
}

func newMemory(chunkBytes, lineBytes, slots int, spare chan []byte, grow func(int64) error, shrink func(int64)) *memory {
	if lineBytes < chunkBytes || slots < 2 {
		panic("BUG: a reader needs two buffers, and lines at least as long as a chunk")
	}
	m := &memory{chunkBytes: chunkBytes, lineBytes: lineBytes, slots: make(chan struct{}, slots), spare: spare, grow: grow, shrink: shrink}
	for range slots {
		m.slots <- struct{}{}
	}
	return m
}

// get waits for one of the reader's buffers.
func (m *memory) get(done <-chan struct{}) (*buffer, bool) {
	select {
	case <-m.slots:
	case <-done:
		return nil, false
	}
	p := m.bytes()
	return &buffer{bytes: p, free: func(b *buffer) {
		m.shrink(b.long)
		select {
		case m.spare <- p:
		default: // enough of them
		}
		m.slots <- struct{}{}
	}}, true
}

// bytes gives a spare buffer, or a new one.
func (m *memory) bytes() []byte {
	select {
	case p := <-m.spare:
		return p
	default:
		return make([]byte, m.chunkBytes)
	}
}

// enlarge replaces b's bytes by twice as many, keeping the first n. The
// allowance counts the new bytes before the old ones are let go.
func (m *memory) enlarge(b *buffer, n int) error {
	size := min(2*len(b.bytes), m.lineBytes)
	if err := m.grow(int64(size)); err != nil {
		return err
	}
	bigger := make([]byte, size)
	copy(bigger, b.bytes[:n])
	b.bytes = bigger
	m.shrink(b.long)
	b.long = int64(size)
	return nil
}

// splitter cuts one input into chunks.
type splitter struct {
	r         io.Reader
	stored    func() int64
	memory    *memory
	input     int
	unitBytes int64
	done      <-chan struct{}

	buf  *buffer // holds a reference while it is being cut
	at   int     // next byte of buf to hand out
	full int     // bytes of buf that are filled
	pos  int64   // offset of buf.bytes[at]
	skip bool    // inside a line that was too long
	eof  bool
}

// unitOf is the unit of a line that starts at an offset: a line that begins
// exactly where a unit ends still belongs to that unit.
func unitOf(start, unitBytes int64) int64 {
	if start == 0 {
		return 0
	}
	return (start - 1) / unitBytes
}

// next returns io.EOF after the last chunk.
func (s *splitter) next() (chunk, error) {
	for {
		if c, ok := s.cut(); ok {
			return c, nil
		}
		if s.eof {
			s.drop()
			return chunk{}, io.EOF
		}
		c, ok, err := s.fill()
		if err != nil {
			s.drop()
			return chunk{}, err
		}
		if ok {
			return c, nil
		}
	}
}

// drop ends the splitter's own hold on its buffer.
func (s *splitter) drop() {
	if s.buf != nil {
		s.buf.release()
		s.buf = nil
	}
}

// cut takes the lines of one unit off the front of what is filled.
func (s *splitter) cut() (chunk, bool) {
	if s.buf == nil {
		return chunk{}, false
	}
	rest := s.buf.bytes[s.at:s.full]
	if s.skip {
		rest = s.skipLine(rest)
	}
	n := len(rest)
	if !s.eof {
		n = bytes.LastIndexByte(rest, '\n') + 1
	}
	if n == 0 {
		return chunk{}, false
	}
	unit := unitOf(s.pos, s.unitBytes)
	if border := (unit + 1) * s.unitBytes; s.pos+int64(n) > border {
		if i := bytes.IndexByte(rest[border-s.pos:n], '\n'); i >= 0 {
			n = int(border-s.pos) + i + 1
		}
	}
	return s.take(unit, n), true
}

// take makes a chunk of the next n bytes.
func (s *splitter) take(unit int64, n int) chunk {
	s.buf.refs.Add(1)
	c := chunk{
		input: s.input, unit: unit, start: s.pos, data: s.buf.bytes[s.at : s.at+n : s.at+n],
		stored: s.stored(), buffer: s.buf,
	}
	s.at += n
	s.pos += int64(n)
	return c
}

// skipLine passes over the rest of a line that was too long.
func (s *splitter) skipLine(rest []byte) []byte {
	n := bytes.IndexByte(rest, '\n') + 1
	s.skip = n == 0
	if s.skip {
		n = len(rest)
	}
	s.at += n
	s.pos += int64(n)
	return rest[n:]
}

// fill reads on into a fresh buffer, or a bigger one when a line fills it. A
// line that cannot grow any more comes back as a chunk of its own.
func (s *splitter) fill() (chunk, bool, error) {
	if s.buf == nil || s.at > 0 {
		if err := s.freshBuffer(); err != nil {
			return chunk{}, false, err
		}
	}
	if s.full == len(s.buf.bytes) {
		if len(s.buf.bytes) >= s.memory.lineBytes {
			c := s.take(unitOf(s.pos, s.unitBytes), s.full)
			c.tooLong, s.skip = true, true
			return c, true, nil
		}
		if err := s.memory.enlarge(s.buf, s.full); err != nil {
			return chunk{}, false, err
		}
	}
	for s.full < len(s.buf.bytes) && !s.eof {
		n, err := s.r.Read(s.buf.bytes[s.full:])
		s.full += n
		if err == io.EOF {
			s.eof = true
		} else if err != nil {
			return chunk{}, false, err
		}
	}
	return chunk{}, false, nil
}

// freshBuffer carries the beginning of a line over to a new buffer.
func (s *splitter) freshBuffer() error {
	old, rest := s.buf, []byte(nil)
	if old != nil {
		rest = old.bytes[s.at:s.full]
		if s.skip {
			rest = nil
		}
	}
	fresh, ok := s.memory.get(s.done)
	if !ok {
		return errStopped
	}
	fresh.refs.Store(1)
	for len(fresh.bytes) < len(rest) {
		if err := s.memory.enlarge(fresh, 0); err != nil {
			fresh.release()
			return err
		}
	}
	s.full = copy(fresh.bytes, rest)
	s.buf, s.at = fresh, 0
	if old != nil {
		old.release()
	}
	return nil
}
