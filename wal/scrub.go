package wal

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"kiln/internal/vfs"
)

// Scrub reads every byte of the log while it is in use, through handles that fsys
// opens, up to the records that were durable when it was called. It calls report
// with every damage, and with what kept it from reading a segment, and goes on; its
// error is ctx's. What is trimmed meanwhile is passed over.
func (l *Log) Scrub(ctx context.Context, fsys vfs.FS, report func(error)) error {
	last := l.LastLSN()
	l.mu.RLock()
	segments := slices.Clone(l.segments)
	l.mu.RUnlock()
	for i, s := range segments {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := scrubSegment(ctx, fsys, s, following(segments, i), last, report)
		if errors.Is(err, ErrNewerFormat) { // it was not when the log was opened
			err = s.corrupt(0, err.Error())
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) {
			report(err)
		}
	}
	return ctx.Err()
}

// scrubSegment reads one segment. Behind the records of the newest there are some
// that are being written, which look torn, so it is read up to the LSN last only.
func scrubSegment(ctx context.Context, fsys vfs.FS, s, next *segment, last LSN, report func(error)) error {
	file, err := fsys.Open(s.name)
	if err != nil {
		return err
	}
	own := &segment{name: s.name, file: file, opener: s.opener}
	defer file.Close()
	if err := own.readHeader(s.header.number); err != nil {
		return err
	}
	if own.header != s.header {
		return s.corrupt(0, "the header is not the one that was written")
	}
	if next != nil {
		v := &verifier{report: func(err error) {
			if errors.Is(err, ErrNewerFormat) {
				err = s.corrupt(0, err.Error())
			}
			report(err)
		}}
		return v.segment(ctx, own, next)
	}
	if last < own.header.firstLSN {
		return nil
	}
	return own.walkUpto(ctx, own.header.firstLSN, last, func(Record) error { return nil })
}
