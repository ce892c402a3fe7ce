package httpapi

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// Content codings, in the order in which they are chosen when a client likes
// several equally: zstd takes the least time for the size.
type coding uint8

const (
	codingNone coding = iota
	codingZstd
	codingGzip
	codingDeflate // zlib, RFC 9110 section 8.4.1.2
	codingCount
)

var codingNames = [codingCount]string{"", "zstd", "gzip", "deflate"}

// acceptedCodings are those of requests.
const acceptedCodings = "gzip, zstd, deflate"

// parseCoding reads a coding's name; codingCount: unknown.
func parseCoding(name string) coding {
	switch strings.ToLower(name) {
	case "", "identity":
		return codingNone
	case "zstd":
		return codingZstd
	case "gzip", "x-gzip":
		return codingGzip
	case "deflate":
		return codingDeflate
	}
	return codingCount
}

// compress packs the answer's body as the client takes it. Files do it themselves.
func (x *exchange) compress() {
	response := &x.ctx.Response
	if response.IsBodyStream() {
		return
	}
	body := response.Body()
	if len(body) < compressBytesMin {
		return
	}
	response.Header.Add("Vary", "Accept-Encoding")
	chosen := chooseCoding(x.ctx.Request.Header.PeekAll("Accept-Encoding"))
	if chosen == codingNone {
		return
	}
	packed, err := x.server.packers.pack(chosen, body)
	if err != nil {
		return
	}
	response.SetBodyRaw(packed)
	response.Header.Set("Content-Encoding", codingNames[chosen])
}

// chooseCoding takes the coding with the highest quality. A star alone means
// gzip, which everybody can read.
func chooseCoding(values [][]byte) coding {
	const unnamed = -1
	quality := [codingCount]int{unnamed, unnamed, unnamed, unnamed}
	star := unnamed
	for _, header := range values {
		for len(header) > 0 {
			var item []byte
			item, header = cutListItem(header)
			m := parseMediaType(item)
			q := parseQuality(m.param("q"))
			if m.name == "*" {
				star = q
			} else if c := parseCoding(m.name); c != codingCount && m.name != "" {
				quality[c] = max(quality[c], q)
			}
		}
	}
	if quality[codingGzip] == unnamed {
		quality[codingGzip] = star
	}
	best := codingNone
	for c := codingZstd; c < codingCount; c++ {
		if quality[c] > max(quality[best], 0) || best == codingNone && quality[c] > 0 && quality[c] >= quality[codingNone] {
			best = c
		}
	}
	return best
}

// parseQuality reads a quality in thousandths; none is 1000, nonsense 0.
func parseQuality(text string) int {
	whole, fraction, _ := strings.Cut(text, ".")
	switch {
	case text == "":
		return 1000
	case whole == "1" && strings.Trim(fraction, "0") == "":
		return 1000
	case whole != "0" && whole != "" || len(fraction) > 3:
		return 0
	}
	n, ok := parseDigits([]byte((fraction + "000")[:3]))
	if !ok {
		return 0
	}
	return int(n)
}

// packers keep writers, whose tables take some 800 KB each.
type packers struct {
	gzips, zlibs, zstds sync.Pool
	zstd                *zstd.Encoder // of whole answers
}

func newPackers() *packers {
	p := &packers{}
	p.gzips.New = func() any {
		w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		return must(w, err)
	}
	p.zlibs.New = func() any {
		w, err := zlib.NewWriterLevel(nil, zlib.BestSpeed)
		return must(w, err)
	}
	p.zstds.New = newStreamZstd
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithWindowSize(zstdWindowBytes), zstd.WithLowerEncoderMem(true))
	p.zstd = must(w, err)
	return p
}

// must is for options that are constants.
func must[T any](v T, err error) T {
	if err != nil {
		panic("BUG: a compressor refuses its own options: " + err.Error())
	}
	return v
}

// packer is a compressor of either pool.
type packer interface {
	io.WriteCloser
	Reset(io.Writer)
}

func (p *packers) pack(c coding, body []byte) ([]byte, error) {
	switch c {
	case codingZstd:
		return p.zstd.EncodeAll(body, make([]byte, 0, len(body)/4)), nil
	case codingGzip:
		return packWith(&p.gzips, body)
	default:
		return packWith(&p.zlibs, body)
	}
}

func packWith(pool *sync.Pool, body []byte) ([]byte, error) {
	w := pool.Get().(packer)
	defer pool.Put(w)
	out := bytes.NewBuffer(make([]byte, 0, len(body)/4))
	w.Reset(out)
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
