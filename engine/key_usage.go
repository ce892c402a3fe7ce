package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
	"kiln/wal"
)

// KeyUse counts what is encrypted under one key, or not at all.
type KeyUse struct {
	Key      sealed.KeyID // zeros: plain
	Current  bool         // what is written now is under it
	Files    int
	Bytes    int64 // of the files
	Records  int   // of the log
	Values   int   // of the job catalog
	RunFiles int   // of Files, those that merges will write again
}

// IsPlain tells what is not encrypted from what is.
func (u *KeyUse) IsPlain() bool { return u.Key == sealed.KeyID{} }

// Empty: nothing is under the key.
func (u *KeyUse) Empty() bool { return u.Files+u.Records+u.Values == 0 }

// KeyUsage counts what is under each key that FORMAT names, in the data directory and
// in dirs, where exports may be kept; the plain last. Nothing of a store without keys.
func (s *Store) KeyUsage(ctx context.Context, dirs ...string) ([]KeyUse, error) {
	keys := sealed.KeysOf(s.opts.FS)
	if keys == nil {
		return nil, nil
	}
	u := keyUsage{ctx: ctx, fs: sealed.Inner(s.opts.FS), use: map[sealed.KeyID]*KeyUse{}}
	for _, id := range append(slices.Clone(s.format.keys), sealed.KeyID{}) {
		u.of(id).Current = id == keys.Current()
	}
	for _, dir := range append([]string{s.opts.Dir}, dirs...) {
		if err := u.walk(dir); err != nil {
			return nil, fmt.Errorf("cannot look at the files' keys: %w", err)
		}
	}
	err := s.log.Tail(ctx, s.log.FirstLSN(), func(rec wal.Record) error {
		u.of(rec.Key).Records++
		return nil
	})
	if err == nil {
		err = s.catalog.each("", func(_ string, stored []byte) error {
			id, _ := sealedUnder(stored)
			u.of(id).Values++
			return ctx.Err()
		})
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look at the log's and the catalog's keys: %w", err)
	}
	return u.sorted(), nil
}

type keyUsage struct {
	ctx context.Context
	fs  vfs.FS
	use map[sealed.KeyID]*KeyUse
}

func (u *keyUsage) of(id sealed.KeyID) *KeyUse {
	if u.use[id] == nil {
		u.use[id] = &KeyUse{Key: id}
	}
	return u.use[id]
}

// walk looks at the files below a directory; those that go meanwhile are passed over.
func (u *keyUsage) walk(dir string) error {
	names, err := u.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, base := range names {
		name := path.Join(dir, base)
		info, err := u.fs.Stat(name)
		if err == nil && info.IsDir {
			err = u.walk(name)
		} else if err == nil && info.Bytes > 0 && sealedForm(name) != sealed.Plain {
			err = u.file(name)
		}
		if err = errors.Join(err, u.ctx.Err()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (u *keyUsage) file(name string) error {
	stored, err := sealed.Inspect(u.fs, name)
	if err != nil {
		return err
	}
	use := u.of(stored.Key)
	use.Files++
	use.Bytes += stored.Bytes
	if path.Ext(name) == runSuffix {
		use.RunFiles++
	}
	return nil
}

// sorted has the current key first and the plain last.
func (u *keyUsage) sorted() []KeyUse {
	var list []KeyUse
	for _, use := range u.use {
		list = append(list, *use)
	}
	rank := func(u *KeyUse) int {
		switch {
		case u.Current:
			return 0
		case u.IsPlain():
			return 2
		}
		return 1
	}
	slices.SortFunc(list, func(a, b KeyUse) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), slices.Compare(a.Key[:], b.Key[:]))
	})
	return list
}

// ForgetKeys takes the keys out of FORMAT that nothing of a KeyUsage is under, but for
// the current one: the store opens without them then. Where nothing is plain any more,
// plain files are refused from the next start on. It gives what it took out.
func (s *Store) ForgetKeys(usage []KeyUse) ([]sealed.KeyID, error) {
	next := s.format
	next.keys = nil
	var gone []sealed.KeyID
	for _, use := range usage {
		switch {
		case use.IsPlain():
			next.plain = next.plain && !use.Empty()
		case use.Current || !use.Empty():
			next.keys = append(next.keys, use.Key)
		default:
			gone = append(gone, use.Key)
		}
	}
	if len(next.keys) == 0 || s.opts.ReadOnly {
		return nil, ErrOpenedReadOnly
	}
	if err := vfs.WriteFileAtomic(s.opts.FS, s.path(formatName), next.marshal()); err != nil {
		return nil, fmt.Errorf("cannot forget keys: %w", noSpace(err))
	}
	s.format = next
	return gone, nil
}
