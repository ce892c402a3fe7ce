package httpapi

import (
	"bufio"
	"bytes"
	stdzlib "compress/zlib"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// FuzzUnpack holds that a body becomes what was packed, or is refused, within its limit,
// and that what it took of the budget comes back.
func FuzzUnpack(f *testing.F) {
	const limit = 64 << 10
	packers := newPackers()
	for c := codingZstd; c < codingCount; c++ {
		for _, plain := range []string{"", "{}", strings.Repeat("a", limit), strings.Repeat("a", limit+1)} {
			packed, err := packers.pack(c, []byte(plain))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(c), packed)
			f.Add(uint8(c), packed[:len(packed)/2])
		}
	}
	s := &Server{opts: Options{BodyBytesMax: limit}, bodies: newBodyBudget(1<<20, limit)}
	unpack := func(t *testing.T, c coding, packed []byte) ([]byte, error) {
		x := &exchange{server: s}
		out, err := x.unpacked(c, packed)
		var refused *problem
		if len(out) > limit || err != nil && !errors.As(err, &refused) {
			t.Errorf("%s %x: %d bytes, error %v", codingNames[c], packed, len(out), err)
		}
		if s.bodies.shrink(&x.unpackedBytes); s.bodies.free != 1<<20 {
			t.Fatalf("%s %x: %d bytes are left of the budget", codingNames[c], packed, s.bodies.free)
		}
		return out, err
	}
	f.Fuzz(func(t *testing.T, n uint8, text []byte) {
		c := codingZstd + coding(n)%(codingCount-codingZstd)
		out, err := unpack(t, c, text)
		if other, otherErr := unpackedByOthers(c, text, limit); err == nil && otherErr == nil && !bytes.Equal(out, other) {
			t.Errorf("%s %x: %q, by others %q", codingNames[c], text, out, other)
		}
		packed, packErr := packers.pack(c, text)
		if packErr != nil {
			t.Fatal(packErr)
		}
		if out, err = unpack(t, c, packed); len(text) <= limit && (err != nil || !bytes.Equal(out, text)) || len(text) > limit && err == nil {
			t.Errorf("%s of %d bytes comes back as %d, error %v", codingNames[c], len(text), len(out), err)
		}
	})
}

// unpackedByOthers unpacks by another library, where there is one.
func unpackedByOthers(c coding, packed []byte, limit int64) ([]byte, error) {
	if c != codingDeflate || !isZlib(packed) {
		return nil, errors.ErrUnsupported
	}
	from, err := stdzlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(from, limit))
}

// FuzzFraming holds that a request that is taken ends where another reader sees its end,
// so that nobody gets a second one through a proxy inside of a first.
func FuzzFraming(f *testing.F) {
	for _, seed := range []string{
		"GET /fhir HTTP/1.1\r\nHost: a\r\n\r\n", "POST /fhir HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /x HTTP/1.1\r\n\r\n",
		"POST /fhir HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nrest", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST / HTTP/1.1\nHost: a\nContent-Length: +3\n\nabc",
		"POST / HTTP/1.1\r\nHost: a\r\n Content-Length: 3\r\n\r\nabc", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: a\r\n\r\nrest",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var ctx fasthttp.RequestCtx
		ctx.Init(&fasthttp.Request{}, nil, nil)
		ours := bufio.NewReader(bytes.NewReader(text))
		if ctx.Request.ReadLimitBody(ours, 1<<20) != nil {
			return
		}
		x := &exchange{server: &Server{}, ctx: &ctx}
		if !bytes.HasPrefix(ctx.Request.Header.Protocol(), []byte("HTTP/1.")) || x.checkFraming() != nil {
			return
		}
		rest := bufio.NewReader(bytes.NewReader(text))
		theirs, err := http.ReadRequest(rest)
		if err != nil {
			return // nobody who reads so passes it on
		}
		body, err := io.ReadAll(theirs.Body)
		if err != nil {
			return
		}
		left, _ := io.ReadAll(ours)
		leftToThem, _ := io.ReadAll(rest)
		if !bytes.Equal(body, ctx.Request.Body()) || !bytes.Equal(left, leftToThem) {
			t.Errorf("%q has the body %q and goes on with %q; to others %q and %q", text, ctx.Request.Body(), left, body, leftToThem)
		}
	})
}
