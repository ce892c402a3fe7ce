package httpapi

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"kiln/bulk"
)

const (
	// codedFilesMax files are compressed at a time, each with up to 3 MB of tables
	// and buffers; more are sent as they are, which every client takes.
	codedFilesMax = 16
	// codedPieceBytes are compressed in one turn: about a millisecond.
	codedPieceBytes = 256 << 10
	// codedWindowBytes is how far zstd looks back in a file: resources of one type
	// repeat themselves within a few.
	codedWindowBytes = 1 << 20
)

// codedFile is a file while it is compressed into an answer. What is compressed has
// no length that is known before; a file that cannot be read to its end never gets
// the end of its coding, nor the last chunk of the answer.
type codedFile struct {
	server *Server
	coding coding
	file   *bulk.Download
	plain  io.Reader
	left   int64  // bytes of the file that are not compressed
	packer packer // nil: not begun
	piece  []byte
	out    bytes.Buffer // compressed and not sent
	err    error        // when nothing comes any more
}

// codedFile begins to compress a file; nil: too many are being compressed.
func (s *Server) codedFile(c coding, d *bulk.Download, plain io.Reader) *codedFile {
	select {
	case s.codedFiles <- struct{}{}:
		return &codedFile{server: s, coding: c, file: d, plain: plain, left: d.Bytes}
	default:
		return nil
	}
}

func (f *codedFile) Read(p []byte) (int, error) {
	for f.out.Len() == 0 {
		if f.err != nil {
			return 0, f.err
		}
		f.err = f.fill()
	}
	return f.out.Read(p)
}

// fill compresses a piece, in turns with the jobs of the server: a client that reads
// slowly holds none meanwhile. io.EOF: all is compressed.
func (f *codedFile) fill() error {
	give, err := f.server.opts.Jobs.Turn(f.server.work)
	if err != nil {
		return err
	}
	defer give()
	if f.packer == nil {
		f.packer, f.piece = f.server.packers.take(f.coding, &f.out), make([]byte, codedPieceBytes)
	}
	n, err := io.ReadFull(f.plain, f.piece[:min(codedPieceBytes, f.left)])
	if err != nil {
		return errors.Join(io.ErrUnexpectedEOF, err) // an io.EOF alone would look like the end
	}
	f.left -= int64(n)
	if _, err := f.packer.Write(f.piece[:n]); err != nil || f.left > 0 {
		return err
	}
	if err := f.packer.Close(); err != nil {
		return err
	}
	return io.EOF
}

// Close gives file, packer and place back.
func (f *codedFile) Close() error {
	if f.packer != nil {
		f.server.packers.give(f.coding, f.packer)
		f.packer = nil
	}
	<-f.server.codedFiles
	return f.file.Close()
}

// take gets a packer that writes to a buffer.
func (p *packers) take(c coding, to io.Writer) packer {
	var w packer
	switch c {
	case codingZstd:
		w = p.zstds.Get().(packer)
	case codingGzip:
		w = p.gzips.Get().(packer)
	default:
		w = p.zlibs.Get().(packer)
	}
	w.Reset(to)
	return w
}

// give takes a packer back. It forgets what it wrote to.
func (p *packers) give(c coding, w packer) {
	w.Reset(io.Discard)
	switch c {
	case codingZstd:
		p.zstds.Put(w)
	case codingGzip:
		p.gzips.Put(w)
	default:
		p.zlibs.Put(w)
	}
}

// newStreamZstd packs in the goroutine that writes, so that a turn bounds it.
func newStreamZstd() any {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(codedWindowBytes), zstd.WithLowerEncoderMem(true))
	return must(w, err)
}
