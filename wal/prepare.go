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
	name  string
	file  vfs.File
	bytes int64
}

type preparedResult struct {
	preparedFile
	err error
}

func newPreparer(opts Options) *preparer { return &preparer{opts: opts} }

// ahead starts making one segment of so many bytes in the background if none is
// ready. An error there shows when the segment is needed and making it fails again.
func (p *preparer) ahead(bytes int64) {
	if p.opts.PrepareInline || p.pending != nil || len(p.ready) > 0 {
		return
	}
	name := p.nextName()
	pending := make(chan preparedResult, 1)
	p.pending = pending
	go func() { pending <- makePrepared(p.opts, name, bytes) }()
}

func (p *preparer) nextName() string {
	p.made++
	return path.Join(p.opts.Dir, preparedName(p.made))
}

// ensure returns when segments of at least these lengths are ready. A full disk is
// ErrNoSpace; whatever the error, the log itself was not touched.
func (p *preparer) ensure(lengths []int64) error {
	p.collect()
	for i, bytes := range lengths {
		if i < len(p.ready) && p.ready[i].bytes < bytes {
			// One that a large record does not fit makes room for all that follows.
			if err := p.drop(i); err != nil {
				return fmt.Errorf("cannot make the next segment: %w", err)
			}
		}
		if i < len(p.ready) {
			continue
		}
		r := makePrepared(p.opts, p.nextName(), bytes)
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

// drop removes the ready segments from the i-th on.
func (p *preparer) drop(i int) error {
	var errs []error
	for _, f := range p.ready[i:] {
		errs = append(errs, f.file.Close(), p.opts.FS.Remove(f.name))
	}
	p.ready = p.ready[:i]
	return errors.Join(errs...)
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
	return p.drop(0)
}

func makePrepared(opts Options, name string, bytes int64) preparedResult {
	file, err := opts.FS.Create(name)
	if err != nil {
		return preparedResult{err: err}
	}
	err = file.Preallocate(bytes)
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
	return preparedResult{preparedFile: preparedFile{name: name, file: file, bytes: bytes}}
}
