package index

import (
	"errors"
	"hash"

	"github.com/cespare/xxhash/v2"
)

// RunCheck is given the bytes of a run file in order, as they are copied, and
// tells whether they are those of the run that a record named.
type RunCheck struct {
	meta RunMeta
	hash hash.Hash64
	at   int64
	foot []byte // of the footer, as far as it came
}

// NewRunCheck checks for the run of meta.
func NewRunCheck(meta RunMeta) *RunCheck {
	return &RunCheck{meta: meta, hash: xxhash.New(), foot: make([]byte, 0, footerBytes)}
}

// Write never fails: what is wrong, Err tells.
func (c *RunCheck) Write(p []byte) (int, error) {
	start := c.meta.Bytes - footerBytes
	if end := start + footerHashAt; c.at < end {
		_, _ = c.hash.Write(p[:min(int64(len(p)), end-c.at)])
	}
	if tail := c.at + int64(len(p)) - start; tail > 0 && len(c.foot) < footerBytes {
		from := max(0, start-c.at)
		c.foot = append(c.foot, p[from:min(int64(len(p)), from+int64(footerBytes-len(c.foot)))]...)
	}
	c.at += int64(len(p))
	return len(p), nil
}

// Err is nil when the bytes so far are the whole run.
func (c *RunCheck) Err() error {
	if c.at != c.meta.Bytes {
		return errors.New("the file has another length than the run")
	}
	footer, what, _ := parseFooter(c.foot, c.meta.ID, c.meta.Bytes)
	switch {
	case what != "":
		return errors.New(what)
	case footer.meta != c.meta:
		return errors.New("the file is another run's")
	case c.hash.Sum64() != c.meta.Hash:
		return errors.New("the file has another hash than its footer says")
	}
	return nil
}
