package httpapi

import (
	"bytes"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// compress gzips the answer's body when the client takes it. Files are sent as
// they are, so that ranges of them stay what they say.
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
	if !acceptsGzip(x.ctx.Request.Header.PeekAll("Accept-Encoding")) {
		return
	}
	out := bytes.NewBuffer(make([]byte, 0, len(body)/4))
	if err := x.server.gzip(out, body); err != nil {
		return
	}
	response.SetBodyRaw(out.Bytes())
	response.Header.Set("Content-Encoding", "gzip")
}

// gzipPool keeps writers, whose tables take some 800 KB each.
type gzipPool struct{ writers sync.Pool }

func newGzipPool() *gzipPool {
	p := &gzipPool{}
	p.writers.New = func() any {
		w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic("BUG: gzip refuses its own level: " + err.Error())
		}
		return w
	}
	return p
}

func (s *Server) gzip(out *bytes.Buffer, body []byte) error {
	w := s.gzips.writers.Get().(*gzip.Writer)
	defer s.gzips.writers.Put(w)
	w.Reset(out)
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.Close()
}

// acceptsGzip says whether gzip, or any coding, is taken with a quality over 0.
func acceptsGzip(values [][]byte) bool {
	best, accepted := 0, false
	for _, header := range values {
		for len(header) > 0 {
			var item []byte
			item, header = cutListItem(header)
			m := parseMediaType(item)
			rank := 0
			switch m.name {
			case "gzip", "x-gzip":
				rank = 2
			case "*":
				rank = 1
			}
			if rank > best {
				best, accepted = rank, m.param("q") == "" || !isZeroQuality(m.param("q"))
			}
		}
	}
	return accepted
}
