package engine

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"path"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// fsckSource gives the versions of one run, or of the head, in key order.
type fsckSource struct {
	file       string
	run        *runState // nil: the head
	keys       *index.RunKeyCursor
	superseded *roaring.Bitmap
	gaps       *roaring.Bitmap // rows of versions that are lost
	entries    []*headEntry    // of the head, by key

	key     []byte
	version int64
	current bool // not marked superseded
	lost    bool
}

// next moves to the following version that is not void; false at the end.
func (s *fsckSource) next() (bool, error) {
	if s.run == nil {
		for len(s.entries) > 0 && s.entries[0].purged != 0 {
			s.entries = s.entries[1:]
		}
		if len(s.entries) == 0 {
			return false, nil
		}
		e := s.entries[0]
		s.entries = s.entries[1:]
		s.key, s.version, s.current = []byte(e.key), e.versionID, e.superseded == 0
		return true, nil
	}
	for s.keys.Next() {
		f := s.keys.Found()
		if s.run.isVoid(f.Ordinal, math.MaxUint64) {
			continue
		}
		s.key, s.version, s.current = s.keys.Key(), f.VersionID, !s.superseded.Contains(uint32(f.Ordinal))
		s.lost = s.gaps.Contains(uint32(f.Ordinal))
		return true, nil
	}
	return false, s.keys.Err()
}

// checkCurrent walks all keys of the store and checks that no version exists
// twice, and that of each key exactly the one with the highest positive
// version is not superseded, none where that one is lost.
func (f *fsck) checkCurrent(ctx context.Context, r *recovery) error {
	sources, err := f.sources(r)
	if err != nil {
		return err
	}
	for len(sources) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		low := sources[0]
		for _, s := range sources[1:] {
			if bytes.Compare(s.key, low.key) < 0 {
				low = s
			}
		}
		if sources, err = f.checkKey(sources, bytes.Clone(low.key)); err != nil {
			return err
		}
	}
	return nil
}

func (f *fsck) sources(r *recovery) ([]*fsckSource, error) {
	head := &fsckSource{file: path.Join(f.dir, logDir), entries: slices.Clone(r.entries)}
	slices.SortStableFunc(head.entries, func(a, b *headEntry) int { return cmp.Compare(a.key, b.key) })
	all := []*fsckSource{head}
	for id, run := range r.runs {
		gaps, err := lostRows(run.run)
		if err != nil {
			return nil, err
		}
		all = append(all, &fsckSource{
			file: path.Join(f.dir, runsDir, runFileName(uint64(id))), run: run,
			keys: run.run.KeyCursor(), superseded: run.superseded(math.MaxUint64), gaps: gaps,
		})
	}
	var sources []*fsckSource
	for _, s := range all {
		more, err := s.next()
		if err != nil {
			return nil, err
		}
		if more {
			sources = append(sources, s)
		}
	}
	return sources, nil
}

// checkKey takes the versions of key off the sources and returns those that
// have more.
func (f *fsck) checkKey(sources []*fsckSource, key []byte) ([]*fsckSource, error) {
	seen := map[int64]bool{}
	best, lost, current := int64(0), false, []int64{}
	rest := sources[:0]
	for _, s := range sources {
		more := true
		for more && bytes.Equal(s.key, key) {
			if seen[s.version] {
				f.report(Problem{File: s.file, What: fmt.Sprintf("version %d of %s exists twice", s.version, keyText(key))})
			}
			seen[s.version] = true
			if s.version > best {
				best, lost = s.version, s.lost
			}
			if s.current {
				current = append(current, s.version)
			}
			var err error
			if more, err = s.next(); err != nil {
				return nil, err
			}
		}
		if more {
			rest = append(rest, s)
		}
	}
	want := []int64{best}
	if best == 0 || lost {
		want = nil
	}
	if !slices.Equal(current, want) {
		f.report(Problem{File: path.Join(f.dir, checkpointsDir), What: fmt.Sprintf("of %s the versions %d are current, it should be %d", keyText(key), current, want)})
	}
	return rest, nil
}

// keyText shows a key as Type/id.
func keyText(key []byte) string {
	t, id, _, ok := index.ParseKey(nil, key)
	if !ok {
		return fmt.Sprintf("%x", key)
	}
	return t.String() + "/" + string(id)
}
