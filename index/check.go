package index

import (
	"context"
	"errors"
	"slices"

	"github.com/cespare/xxhash/v2"

	"kiln/internal/vfs"
)

// Pace is told how many bytes were read since the last call, about every
// mergeStepBytes or checkStepBytes, and may wait so that others get the disk and the processor; its
// error ends what it paces. nil: full speed.
type Pace func(ctx context.Context, bytes int) error

// Check reads every byte of an open run once, from front to end and past the
// cache, and checks each block's frame and checksum and the file's hash. It calls
// report for each damage and goes on; the error is what kept it from reading.
// What the blocks say is not looked at: Verify does that.
func (r *Run) Check(ctx context.Context, pace Pace, report func(*vfs.CorruptError)) error {
	c := &checker{ctx: ctx, r: r, pace: pace, report: report, hash: xxhash.New()}
	err := c.all()
	if err == nil && !c.damaged && c.hash.Sum64() != r.footer.meta.Hash {
		report(&vfs.CorruptError{File: r.name, What: "file has another hash than its footer says"})
	}
	return err
}

// checker is one Check.
type checker struct {
	ctx     context.Context
	r       *Run
	pace    Pace
	report  func(*vfs.CorruptError)
	hash    *xxhash.Digest
	buf     []byte
	read    int // bytes since the last Pace
	damaged bool
}

// placedBlock is a block with its place in the file.
type placedBlock struct {
	kind blockKind
	section
}

// blocks lists all blocks by offset, sections included.
func (r *Run) blocks() []placedBlock {
	var all []placedBlock
	for _, x := range []struct {
		kind  blockKind
		index *blockIndex
	}{{blockBodies, r.bodies}, {blockKeys, r.keys}, {blockColumns, r.columns}, {blockTerms, r.terms}, {blockPostings, r.postings}} {
		for i, offset := range x.index.offsets {
			all = append(all, placedBlock{x.kind, section{offset, int64(x.index.lengths[i])}})
		}
	}
	for i, s := range r.footer.sections {
		all = append(all, placedBlock{sectionKinds[i], s})
	}
	slices.SortFunc(all, func(a, b placedBlock) int { return int(a.offset - b.offset) })
	return all
}

// sectionKinds are the kinds of the footer's sections.
var sectionKinds = [sectionCount]blockKind{
	sectionBodies: blockBodyIndex, sectionKeys: blockKeyIndex, sectionFilter: blockFilter, sectionColumns: blockColumnIndex,
	sectionDropped: blockDropped, sectionTerms: blockTermIndex, sectionPostings: blockPostingIndex,
}

func (c *checker) all() error {
	err := c.part(0, headerBytes, func(b []byte) string {
		what, _ := checkHeader(b, c.r.footer.meta.ID)
		return what
	})
	for _, b := range c.r.blocks() {
		if err == nil {
			err = c.part(b.offset, b.bytes, func(block []byte) string {
				_, what := checkBlock(block, c.r.footer.meta.ID, b.offset, b.kind)
				return what
			})
		}
	}
	end := c.r.footer.meta.Bytes - footerBytes
	if err == nil {
		err = c.part(end, footerBytes, func(b []byte) string {
			f, what, _ := parseFooter(b, c.r.footer.meta.ID, c.r.footer.meta.Bytes)
			if what == "" && f != c.r.footer {
				what = "footer is not the one that the run was opened with"
			}
			return what
		})
	}
	return err
}

// part reads and judges the bytes of one block. The blocks fill the file, so what
// is hashed is all of it up to the hash; where they do not, the hash tells.
func (c *checker) part(offset, length int64, judge func([]byte) string) error {
	if err := c.step(int(length)); err != nil {
		return err
	}
	c.buf = roomFor(c.buf, int(length))
	err := c.r.readAt(c.buf, offset)
	var damage *vfs.CorruptError
	switch {
	case errors.As(err, &damage):
		c.wrong(damage)
		return nil
	case err != nil:
		return err
	}
	if what := judge(c.buf[:length]); what != "" {
		c.wrong(&vfs.CorruptError{File: c.r.name, Offset: offset, What: what})
	}
	if offset == c.r.footer.meta.Bytes-footerBytes {
		length = footerHashAt
	}
	_, _ = c.hash.Write(c.buf[:length])
	return nil
}

func (c *checker) wrong(damage *vfs.CorruptError) {
	c.damaged = true
	c.report(damage)
}

// step counts what is about to be read.
func (c *checker) step(bytes int) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if c.read += bytes; c.read < checkStepBytes || c.pace == nil {
		return nil
	}
	read := c.read
	c.read = 0
	return c.pace(c.ctx, read)
}
