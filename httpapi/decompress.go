package httpapi

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fasthttp"
)

// unpack takes the request body out of its content coding. A body that is small
// and unpacks to more than a body may have is refused when it gets there; what
// is unpacked counts in the budget of all bodies.
func (x *exchange) unpack() error {
	request := &x.ctx.Request
	values := request.Header.PeekAll("Content-Encoding")
	if len(values) == 0 {
		return nil
	}
	given := string(bytes.Join(values, []byte(", ")))
	c := parseCoding(given)
	if c == codingCount {
		x.ctx.Response.Header.Set("Accept-Encoding", acceptedCodings)
		return notSupported(fasthttp.StatusUnsupportedMediaType, "The Content-Encoding '%s' is not supported; use one of %s.", given, acceptedCodings)
	}
	if c == codingNone {
		return nil
	}
	body, err := x.unpacked(c, request.Body())
	if err != nil {
		return err
	}
	request.SetBodyRaw(body)
	request.Header.Del("Content-Encoding")
	return nil
}

func (x *exchange) unpacked(c coding, packed []byte) ([]byte, error) {
	reader, closer, err := newUnpacker(c, packed)
	if err != nil {
		return nil, badCoding(c, err)
	}
	defer closer()
	limit := x.server.opts.BodyBytesMax
	var out []byte
	for {
		if len(out) == cap(out) {
			grown := min(max(2*cap(out), unpackBytesFirst), limit+1)
			if !x.server.bodies.grow(&x.unpackedBytes, int64(grown)) {
				return nil, noRoomForBody()
			}
			out = append(make([]byte, 0, grown), out...)
		}
		n, err := reader.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case len(out) > limit, errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
			return nil, bodyTooLarge(limit)
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, badCoding(c, err)
		}
	}
}

func badCoding(c coding, err error) error {
	return badRequest("The request body is not valid %s: %v.", codingNames[c], err)
}

// newUnpacker also returns what to call when the reader is done with.
func newUnpacker(c coding, packed []byte) (io.Reader, func(), error) {
	source := bytes.NewReader(packed)
	switch c {
	case codingZstd:
		r, err := zstd.NewReader(source, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindowBytes))
		if err != nil {
			return nil, nil, err
		}
		return r, r.Close, nil
	case codingGzip:
		r, err := gzip.NewReader(source)
		return r, func() {}, err
	}
	if isZlib(packed) {
		r, err := zlib.NewReader(source)
		return r, func() {}, err
	}
	return flate.NewReader(source), func() {}, nil // some clients leave out the wrapper
}

// isZlib checks the two bytes that zlib begins with (RFC 1950 section 2.2).
func isZlib(packed []byte) bool {
	return len(packed) >= 2 && packed[0]&15 == 8 && (int(packed[0])<<8|int(packed[1]))%31 == 0
}
