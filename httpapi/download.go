package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/bulk"
)

// file serves a file of a job, whole or the part that a Range asks for.
func (x *exchange) file(open func(id int64, name string) (*bulk.Download, error)) error {
	if !isFileName(x.addr.name) {
		return &problem{fasthttp.StatusNotFound, codeNotFound, "The job has no such file."}
	}
	d, err := open(x.jobID(), string(x.addr.name))
	if err != nil {
		return err
	}
	// A file of a finished job never changes, so its length tells its states
	// apart; of an error file that still grows, too.
	tag := fmt.Sprintf("%s-%s-%d", x.addr.id, x.addr.name, d.Bytes)
	part, what := x.fileRange(`"`+tag+`"`, d.Bytes)
	if what == rangeUnsatisfiable {
		part = byteRange{}
	}
	plain, err := d.Part(part.from, part.bytes)
	if err != nil {
		return x.damagedFile(errors.Join(err, d.Close()))
	}
	body := &fileBody{server: x.server, file: d, conn: x.ctx.Conn(), started: time.Now()}
	x.ctx.Response.Header.SetContentType(contentTypeOfFile(x.addr.name))
	x.ctx.Response.Header.Set("Accept-Ranges", "bytes") // of the file as it is
	if isCodable(x.addr.name) {
		x.ctx.Response.Header.Add("Vary", "Accept-Encoding")
	}
	if what == rangeWhole {
		if coded := x.coded(d, plain); coded != nil {
			x.ctx.Response.Header.Set("Content-Encoding", codingNames[coded.coding])
			// Another version of the compressor may write other bytes.
			x.ctx.Response.Header.Set("ETag", fmt.Sprintf(`W/"%s-%s"`, tag, codingNames[coded.coding]))
			body.part, body.file = coded, coded
			x.ctx.Response.SetBodyStream(body, -1)
			return nil
		}
	}
	body.part = plain
	return x.plainFile(d, body, `"`+tag+`"`, part, what)
}

// damagedFile words that a file is not what was written, and notes it.
func (x *exchange) damagedFile(err error) error {
	if !x.server.opts.Store.NoteDamage(err) {
		return err
	}
	return &problem{fasthttp.StatusInternalServerError, codeException, "The file has changed on the server's disk since it was written, so it is not sent; the server's log and /healthz say where. Run the job again for a whole one."}
}

// fileRange reads Range and If-Range. Ranges are defined for GET alone (RFC 9110
// section 14.2), and are parts of the file as it is, whatever codings are taken: who
// has a part of a coded form has another tag than the one that If-Range must have.
func (x *exchange) fileRange(tag string, size int64) (byteRange, rangeResult) {
	header := &x.ctx.Request.Header
	wanted := header.Peek("If-Range")
	if x.ctx.IsGet() && (len(wanted) == 0 || string(wanted) == tag) {
		if p, found := parseRange(header.Peek("Range"), size); found != rangeWhole {
			return p, found
		}
	}
	return byteRange{0, size}, rangeWhole
}

// isCodable tells by its name whether compressing a file saves something: Parquet
// files are compressed inside.
func isCodable(name []byte) bool { return contentTypeOfFile(name) == contentTypeNDJSON }

// coded compresses the file as the client takes it; nil: it is sent as it is.
func (x *exchange) coded(d *bulk.Download, plain io.Reader) *codedFile {
	if !isCodable(x.addr.name) {
		return nil
	}
	chosen := chooseCoding(x.ctx.Request.Header.PeekAll("Accept-Encoding"))
	if chosen == codingNone || d.Bytes == 0 || !x.ctx.Request.Header.IsHTTP11() { // HTTP/1.0 has no chunks
		return nil
	}
	return x.server.codedFile(chosen, d, plain)
}

// plainFile serves the file as it is, or a part.
func (x *exchange) plainFile(d *bulk.Download, body *fileBody, tag string, part byteRange, what rangeResult) error {
	header := &x.ctx.Response.Header
	header.Set("ETag", tag)
	switch what {
	case rangeUnsatisfiable:
		header.Set("Content-Range", "bytes */"+strconv.FormatInt(d.Bytes, 10))
		defer d.Close()
		return &problem{fasthttp.StatusRequestedRangeNotSatisfiable, codeInvalid, fmt.Sprintf("The file has %d bytes.", d.Bytes)}
	case rangePart:
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.from, part.from+part.bytes-1, d.Bytes))
		x.ctx.SetStatusCode(fasthttp.StatusPartialContent)
	}
	x.ctx.Response.SetBodyStream(body, int(part.bytes))
	return nil
}

func contentTypeOfFile(name []byte) string {
	if bytes.HasSuffix(name, []byte(".parquet")) {
		return contentTypeParquet
	}
	return contentTypeNDJSON
}

// fileBody reads a file, coded or not, or a part of it into an answer. The length is
// sent first, or the answer is in chunks: a read that fails ends the connection before
// the length is reached or without the last chunk, and the client knows that the file
// is cut. So it is when a piece of the file is not what was written.
type fileBody struct {
	server *Server
	part   io.Reader
	file   io.Closer
	conn   net.Conn

	started time.Time
	sent    int64
}

// Read gives each piece its own time to be sent: a large file may take long, a
// client that takes nothing may not.
func (b *fileBody) Read(p []byte) (int, error) {
	if err := b.conn.SetWriteDeadline(b.server.opts.Timeouts.piece(b.started, time.Now(), b.sent)); err != nil {
		return 0, err
	}
	n, err := b.part.Read(p)
	b.sent += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		b.server.cutFile(b.sent, err)
	}
	return n, err
}

// cutFile notes why a file was not sent to its end: nobody else hears of it.
func (s *Server) cutFile(sent int64, err error) {
	s.opts.Store.NoteDamage(err)
	if ok, skipped := s.logLimit.take(fasthttp.StatusInternalServerError, s.opts.Now()); ok {
		s.opts.Logger.Error("a file was not sent to its end", "sent", sent, "error", err, "left_out", skipped)
	}
}

// Close is called by the HTTP library when the answer was sent, or failed.
func (b *fileBody) Close() error { return b.file.Close() }

// isFileName accepts what jobs call their files, and nothing that could leave
// a directory.
func isFileName(name []byte) bool {
	if len(name) == 0 || name[0] == '.' {
		return false
	}
	for _, c := range name {
		alnum := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !alnum && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
