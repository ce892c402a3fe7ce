package bulk

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// testSplitter cuts text with small buffers.
func testSplitter(text string, unitBytes int64, chunkBytes, lineBytes int) *splitter {
	free := func(int64) error { return nil }
	return &splitter{
		r: iotest.HalfReader(strings.NewReader(text)), stored: func() int64 { return 0 },
		memory: newMemory(chunkBytes, lineBytes, 2, nil, free, func(int64) {}), unitBytes: unitBytes,
	}
}

// testChunks describes the chunks as "unit:start[text]" and checks that every
// buffer is given back.
func testChunks(t *testing.T, s *splitter) string {
	t.Helper()
	var out []string
	for {
		c, err := s.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("%d:%d[%s]", c.unit, c.start, c.data)
		if c.tooLong {
			text += "!"
		}
		out = append(out, strings.ReplaceAll(text, "\n", "/"))
		c.release()
	}
	if len(s.memory.slots) != cap(s.memory.slots) {
		t.Errorf("%d of %d buffers are given back", len(s.memory.slots), cap(s.memory.slots))
	}
	return strings.Join(out, " ")
}

func TestSplitterCutsAtLineEndsAndUnits(t *testing.T) {
	f := func(text string, unitBytes int64, want string) {
		t.Helper()
		text = strings.ReplaceAll(text, "/", "\n")
		if got := testChunks(t, testSplitter(text, unitBytes, 64, 64)); got != want {
			t.Errorf("%q in units of %d bytes: %s, want %s", text, unitBytes, got, want)
		}
	}
	f("", 10, "")
	f("a", 10, "0:0[a]")
	f("a/", 10, "0:0[a/]")
	f("a/b/c", 10, "0:0[a/b/c]")
	f("//", 10, "0:0[//]")
	// A line that begins exactly where a unit ends still belongs to it.
	f("aaa/bbb/ccc/", 4, "0:0[aaa/bbb/] 1:8[ccc/]")
	f("aaa/bbb/ccc/", 5, "0:0[aaa/bbb/] 1:8[ccc/]")
	f("aaaa/bbbb/cccc/", 4, "0:0[aaaa/] 1:5[bbbb/] 2:10[cccc/]")
	// A unit in which no line begins is left out.
	f("aaaaaaaaaaaaaaa/b/c", 4, "0:0[aaaaaaaaaaaaaaa/] 3:16[b/] 4:18[c]")
	f("a/b/c/d/", 1, "0:0[a/] 1:2[b/] 3:4[c/] 5:6[d/]")
}

func TestSplitterLongLines(t *testing.T) {
	f := func(text string, want string) {
		t.Helper()
		text = strings.ReplaceAll(text, "/", "\n")
		if got := testChunks(t, testSplitter(text, 1000, 8, 32)); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	f(x(7)+"/"+x(8)+"/", "0:0["+x(7)+"/] 0:8["+x(8)+"/]")
	f("a/"+x(30)+"/b", "0:0[a/] 0:2["+x(30)+"/] 0:33[b]")
	f("a/"+x(31)+"/b/", "0:0[a/] 0:2["+x(31)+"/] 0:34[b/]")
	// Too long: its beginning is a chunk of its own, the rest is passed over.
	f("a/"+x(32)+"/b/", "0:0[a/] 0:2["+x(32)+"]! 0:35[b/]")
	f("a/"+x(100)+"/b/", "0:0[a/] 0:2["+x(32)+"]! 0:103[b/]")
	f("a/"+x(100), "0:0[a/] 0:2["+x(32)+"]!")
	f(x(100)+"/"+x(100)+"/", "0:0["+x(32)+"]! 0:101["+x(32)+"]!")
}

// Whatever the sizes, the chunks together are the input, every line is whole,
// and lies in the unit of its start.
func TestSplitterLosesNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var text []byte
		for range random.IntN(60) {
			text = append(append(text, strings.Repeat("y", random.IntN(20))...), '\n')
		}
		if random.IntN(2) == 0 && len(text) > 0 {
			text = text[:len(text)-1]
		}
		unitBytes, chunkBytes := int64(1+random.IntN(100)), 32+random.IntN(64)
		s := testSplitter(string(text), unitBytes, chunkBytes, 128)
		var got []byte
		for {
			c, err := s.next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.start != int64(len(got)) {
				t.Fatalf("a chunk starts at %d after %d bytes", c.start, len(got))
			}
			at := c.start
			for line := range bytes.Lines(c.data) {
				if unit := unitOf(at, unitBytes); unit != c.unit {
					t.Fatalf("a line at %d is in unit %d of %d bytes", at, c.unit, unitBytes)
				}
				at += int64(len(line))
			}
			got = append(got, c.data...)
			if last := got[len(got)-1]; last != '\n' && len(got) < len(text) {
				t.Fatal("a chunk ends inside a line")
			}
			c.release()
		}
		if !bytes.Equal(got, text) {
			t.Fatalf("the chunks are %q of %q", got, text)
		}
	}
}
