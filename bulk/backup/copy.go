package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"kiln/internal/vfs"
)

// Pace bounds how fast files are read, and tells how far a copy is. Of one
// goroutine. The zero value does neither.
type Pace struct {
	// BytesPerSecond of all that is read; 0: as fast as it goes.
	BytesPerSecond int64
	// Now and Sleep are needed with BytesPerSecond.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
	// Progress is told now and then; total may grow. nil: nobody.
	Progress func(done, total int64)

	began       time.Time
	done, total int64
}

// expect adds to what there is to read.
func (p *Pace) expect(bytes int64) {
	p.total += bytes
	p.read(0)
}

func (p *Pace) read(n int) {
	p.done += int64(n)
	if p.Progress != nil {
		p.Progress(p.done, max(p.done, p.total))
	}
}

// wait returns when what was read so far may have been read.
func (p *Pace) wait(ctx context.Context) error {
	if p.BytesPerSecond <= 0 {
		return ctx.Err()
	}
	now := p.Now()
	if p.began.IsZero() {
		p.began = now
	}
	due := p.began.Add(time.Duration(float64(p.done) / float64(p.BytesPerSecond) * float64(time.Second)))
	if ahead := due.Sub(now); ahead > 0 {
		return p.Sleep(ctx, ahead)
	}
	return ctx.Err()
}

// Sleep waits by the machine's clock.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// checkedReader reads at a pace, and gives an error instead of the end when what
// was read is not what it should be: then nothing becomes of a copy.
type checkedReader struct {
	ctx   context.Context
	pace  *Pace
	from  io.Reader
	sum   hash.Hash
	also  io.Writer // is given all bytes; nil: nobody
	bytes int64
	atEnd func() error
}

func newCheckedReader(ctx context.Context, pace *Pace, from io.Reader) *checkedReader {
	return &checkedReader{ctx: ctx, pace: pace, from: from, sum: sha256.New()}
}

// readChunkBytes: waiting comes in steps of a chunk.
const readChunkBytes = 256 << 10

func (r *checkedReader) Read(p []byte) (int, error) {
	if err := r.pace.wait(r.ctx); err != nil {
		return 0, fmt.Errorf("stopped: %w", err)
	}
	n, err := r.from.Read(p[:min(len(p), readChunkBytes)])
	_, _ = r.sum.Write(p[:n])
	if r.also != nil {
		_, _ = r.also.Write(p[:n])
	}
	r.bytes += int64(n)
	r.pace.read(n)
	switch {
	case err == io.EOF && r.atEnd != nil:
		if wrong := r.atEnd(); wrong != nil {
			return n, wrong
		}
	case err != nil && err != io.EOF: // wrapped: nobody takes a broken source for a short one
		err = fmt.Errorf("cannot read on: %w", err)
	}
	return n, err
}

func (r *checkedReader) sha256() string { return hex.EncodeToString(r.sum.Sum(nil)) }

// want makes the end an error unless the bytes are those of a file of a target.
func (r *checkedReader) want(t Target, f File) {
	r.atEnd = func() error {
		switch {
		case r.bytes != f.Bytes:
			return damagedFile(t, f.Name, "the file has %d bytes, its backup's manifest says %d", r.bytes, f.Bytes)
		case r.sha256() != f.SHA256:
			return damagedFile(t, f.Name, "the file has another SHA-256 than its backup's manifest says")
		}
		return nil
	}
}

// openChecked reads a file of a target that a manifest names. One that is missing
// is damage.
func openChecked(ctx context.Context, pace *Pace, t Target, f File) (*checkedReader, io.Closer, error) {
	file, err := t.Open(ctx, f.Name)
	if isMissing(err) {
		return nil, nil, damagedFile(t, f.Name, "the file is missing, and a backup needs it")
	}
	if err != nil {
		return nil, nil, err
	}
	r := newCheckedReader(ctx, pace, file)
	r.want(t, f)
	return r, file, nil
}

// drain reads to the end for the checks' sake.
func drain(r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, readChunkBytes))
	return err
}

// damageIn finds what an error says about damage; nil: nothing.
func damageIn(err error) *vfs.CorruptError {
	var damage *vfs.CorruptError
	if errors.As(err, &damage) {
		return damage
	}
	return nil
}
