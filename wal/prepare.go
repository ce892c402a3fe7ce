package wal

import (
	"errors"
	"fmt"
	"path"

	"kiln/internal/vfs"
)

// preparer makes segment files ahead, reserved and synced, so that rolling to the
// next one costs a small write and a rename. It has one caller at a time.
type preparer struct {
	opts  Options
	made  int // for names
	ready []preparedFile
	// pending holds the one being made in the background, nil when there is none.
	pending chan preparedResult
}

type preparedFile struct {
	name string
	file vfs.File
}

type preparedResult struct {
	preparedFile
	err error
}

func newPreparer(opts Options) *preparer { return &preparer{opts: opts} }

// ahead starts making one segment in the background if none is ready. An error
// there shows when the segment is needed and making it fails again.
func (p *preparer) ahead() {
	if p.opts.PrepareInline || p.pending != nil || len(p.ready) > 0 {
		return
	}
	name := p.nextName()
	pending := make(chan preparedResult, 1)
	p.pending = pending
	go func() { pending <- makePrepared(p.opts, name) }()
}

func (p *preparer) nextName() string {
	p.made++
	return path.Join(p.opts.Dir, preparedName(p.made))
}

// ensure returns when n segments are ready. A full disk is ErrNoSpace; whatever
// the error, the log itself was not touched.
func (p *preparer) ensure(n int) error {
	p.collect()
	for len(p.ready) < n {
		r := makePrepared(p.opts, p.nextName())
		if vfs.IsNoSpace(r.err) {
			return fmt.Errorf("%w: cannot make the next segment: %w", ErrNoSpace, r.err)
		}
		if r.err != nil {
			return fmt.Errorf("cannot make the next segment: %w", r.err)
		}
		p.ready = append(p.ready, r.preparedFile)
	}
	return nil
}

// collect waits for the background.
func (p *preparer) collect() {
	if p.pending == nil {
		return
	}
	if r := <-p.pending; r.err == nil {
		p.ready = append(p.ready, r.preparedFile)
	}
	p.pending = nil
}

// take hands out a ready segment; ensure was called before.
func (p *preparer) take() preparedFile {
	f := p.ready[0]
	p.ready = append(p.ready[:0], p.ready[1:]...)
	return f
}

// close removes what was made and not used.
func (p *preparer) close() error {
	p.collect()
	var errs []error
	for _, f := range p.ready {
		errs = append(errs, f.file.Close(), p.opts.FS.Remove(f.name))
	}
	p.ready = nil
	return errors.Join(errs...)
}

func makePrepared(opts Options, name string) preparedResult {
	file, err := opts.FS.Create(name)
	if err != nil {
		return preparedResult{err: err}
	}
	err = file.Preallocate(opts.SegmentBytes)
	if err == nil {
		// The length and the reserved blocks are made durable here, ahead, so that
		// the syncs that writers wait for have little more than data to write.
		err = file.Sync()
	}
	if err != nil {
		// The leftover, if it cannot be removed, is removed when the log is
		// opened again.
		return preparedResult{err: errors.Join(err, file.Close(), opts.FS.Remove(name))}
	}
	return preparedResult{preparedFile: preparedFile{name: name, file: file}}
}
