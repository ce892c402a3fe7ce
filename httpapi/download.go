package httpapi

import (
	"bytes"
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
	tag := fmt.Sprintf(`"%s-%s-%d"`, x.addr.id, x.addr.name, d.Bytes)
	part, what := byteRange{0, d.Bytes}, rangeWhole
	request, header := &x.ctx.Request.Header, &x.ctx.Response.Header
	wanted := request.Peek("If-Range")
	// Ranges are defined for GET alone (RFC 9110 section 14.2).
	if x.ctx.IsGet() && (len(wanted) == 0 || string(wanted) == tag) {
		if p, found := parseRange(request.Peek("Range"), d.Bytes); found != rangeWhole {
			part, what = p, found
		}
	}
	header.Set("Accept-Ranges", "bytes")
	header.Set("ETag", tag)
	status := fasthttp.StatusOK
	switch what {
	case rangeUnsatisfiable:
		header.Set("Content-Range", "bytes */"+strconv.FormatInt(d.Bytes, 10))
		defer d.Close()
		return &problem{fasthttp.StatusRequestedRangeNotSatisfiable, codeInvalid, fmt.Sprintf("The file has %d bytes.", d.Bytes)}
	case rangePart:
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.from, part.from+part.bytes-1, d.Bytes))
		status = fasthttp.StatusPartialContent
	}
	x.ctx.SetStatusCode(status)
	header.SetContentType(contentTypeOfFile(x.addr.name))
	x.ctx.Response.SetBodyStream(&fileBody{
		part: io.NewSectionReader(d, part.from, part.bytes), file: d, conn: x.ctx.Conn(),
		timeouts: &x.server.opts.Timeouts, started: time.Now(),
	}, int(part.bytes))
	return nil
}

func contentTypeOfFile(name []byte) string {
	if bytes.HasSuffix(name, []byte(".parquet")) {
		return contentTypeParquet
	}
	return contentTypeNDJSON
}

// fileBody reads a part of a file into an answer. The answer's length is sent
// first, so a read that fails ends the connection before the length is
// reached, and the client knows that the file is cut.
type fileBody struct {
	part io.Reader
	file io.Closer
	conn net.Conn

	timeouts *Timeouts
	started  time.Time
	sent     int64
}

// Read gives each piece its own time to be sent: a large file may take long, a
// client that takes nothing may not.
func (b *fileBody) Read(p []byte) (int, error) {
	if err := b.conn.SetWriteDeadline(b.timeouts.piece(b.started, time.Now(), b.sent)); err != nil {
		return 0, err
	}
	n, err := b.part.Read(p)
	b.sent += int64(n)
	return n, err
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
