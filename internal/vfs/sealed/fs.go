package sealed

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"kiln/internal/vfs"
)

// Form says how a file is kept.
type Form uint8

const (
	// Chunks: sealed, written from front to back and ended by its first sync.
	Chunks Form = iota
	// Frames: sealed, added to at any time.
	Frames
	// Plain: as it is. Its owner sees to what must not be read, or nothing in it is
	// secret.
	Plain
)

// FS seals the files of another file system. Lengths are those of the content.
type FS struct {
	vfs.FS
	keys *Keys
	form func(name string) Form
	// strict refuses files that should be sealed and are not.
	strict bool
	// lenient reads on where bytes are damaged.
	lenient bool
	lent    *sync.Pool // see chunkLayout
}

// New seals new files with the first of keys, in the form that their names tell, and
// reads what any of the keys opens, and plain files as they are.
func New(inner vfs.FS, keys *Keys, form func(name string) Form) *FS {
	if keys == nil {
		panic("BUG: an encrypted file system without keys")
	}
	return &FS{FS: inner, keys: keys, form: form, lent: new(sync.Pool)}
}

// KeysOf are the keys of a file system; nil: it seals nothing.
func KeysOf(fsys vfs.FS) *Keys {
	if f, ok := fsys.(interface{ Keys() *Keys }); ok {
		return f.Keys()
	}
	return nil
}

// Keys are the ones that were given.
func (f *FS) Keys() *Keys { return f.keys }

// Strict is fsys with plain files refused that should be sealed, if it seals at all.
func Strict(fsys vfs.FS) vfs.FS {
	f, ok := fsys.(*FS)
	if !ok {
		return fsys
	}
	strict := *f
	strict.strict = true
	return &strict
}

// Lenient is fsys for those who look for what is left in a damaged file, and check what
// they read: one copy of a header is enough, and chunks that are not what was sealed
// read as zeros.
func Lenient(fsys vfs.FS) vfs.FS {
	f, ok := fsys.(*FS)
	if !ok {
		return fsys
	}
	lenient := *f
	lenient.lenient = true
	return &lenient
}

// Create makes a sealed file.
func (f *FS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	if err != nil {
		return nil, err
	}
	switch f.form(name) {
	case Chunks:
		return createChunks(file, name, f.keys), nil
	case Frames:
		return createFrames(file, name, f.keys), nil
	}
	return file, nil
}

// Open opens a file for reading.
func (f *FS) Open(name string) (vfs.File, error) { return f.open(name, false) }

// OpenWrite opens a file that is added to.
func (f *FS) OpenWrite(name string) (vfs.File, error) { return f.open(name, true) }

func (f *FS) open(name string, write bool) (vfs.File, error) {
	form, open := f.form(name), f.FS.Open
	if write {
		open = f.FS.OpenWrite
	}
	file, err := open(name)
	if err != nil || form == Plain {
		return file, err
	}
	opened, err := f.look(file, name, write)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return opened, nil
}

// look finds out what an open file is.
func (f *FS) look(file vfs.File, name string, write bool) (vfs.File, error) {
	stored, err := file.Bytes()
	if err != nil {
		return nil, err
	}
	if stored == 0 {
		return f.empty(file, name, write)
	}
	region := make([]byte, min(stored, headerRegionBytes))
	if n, err := file.ReadAt(region, 0); n < len(region) {
		return nil, fmt.Errorf("cannot read %q: %w", name, errors.Join(err, io.ErrUnexpectedEOF))
	}
	second := region[min(len(region), headerPageBytes):]
	if !looksSealed(region) && !looksSealed(second) {
		if f.strict {
			return nil, &vfs.CorruptError{File: name, What: "the file is not encrypted, and all of this store are"}
		}
		return file, nil
	}
	h, err := parseRegion(name, region, f.lenient)
	if err != nil {
		return nil, err
	}
	aead, err := h.open(name, f.keys)
	if err != nil {
		return nil, err
	}
	if h.form == formFrames {
		return openFrames(file, name, aead, stored, write)
	}
	if write {
		return nil, fmt.Errorf("cannot write %q: %w", name, errEnded)
	}
	layout, err := newChunkLayout(name, aead, h.form, stored)
	layout.lent, layout.lenient = f.lent, f.lenient
	return &chunkFile{inner: file, name: name, key: h.id, layout: layout}, err
}

// empty is a file that a crash or its owner left without a byte.
func (f *FS) empty(file vfs.File, name string, write bool) (vfs.File, error) {
	if !write {
		return file, nil
	}
	if f.form(name) != Frames {
		return nil, fmt.Errorf("cannot write %q: %w", name, errEnded)
	}
	return createFrames(file, name, f.keys), nil
}

// Stat tells the length of the content; where the file is damaged so far that nobody
// knows, or its key was not given, that of the file.
func (f *FS) Stat(name string) (vfs.Info, error) {
	info, err := f.FS.Stat(name)
	if err != nil || info.IsDir || !info.Regular || info.Bytes == 0 || f.form(name) == Plain {
		return info, err
	}
	file, err := f.Open(name)
	var damage *vfs.CorruptError
	if errors.As(err, &damage) || errors.Is(err, ErrKey) {
		return info, nil
	}
	if err != nil {
		return info, err
	}
	info.Bytes, err = file.Bytes()
	return info, errors.Join(err, file.Close())
}

// Stored is what is known of a file without opening its content.
type Stored struct {
	Key   KeyID
	Plain bool // it is not sealed
	Bytes int64
}

// Inspect tells under which key a file of inner, which does not unseal, is sealed.
func Inspect(inner vfs.FS, name string) (s Stored, err error) {
	file, err := inner.Open(name)
	if err != nil {
		return s, err
	}
	defer file.Close() // only read from
	if s.Bytes, err = file.Bytes(); err != nil {
		return s, err
	}
	region := make([]byte, min(s.Bytes, headerRegionBytes))
	if n, err := file.ReadAt(region, 0); n < len(region) {
		return s, fmt.Errorf("cannot read %q: %w", name, errors.Join(err, io.ErrUnexpectedEOF))
	}
	if !looksSealed(region) && !looksSealed(region[min(len(region), headerPageBytes):]) {
		s.Plain = true
		return s, nil
	}
	h, err := parseRegion(name, region, true)
	if err != nil {
		return s, err
	}
	s.Key = h.id
	return s, nil
}

// KeyOf tells under which key an open file of chunks is sealed; false: it is plain.
func KeyOf(file vfs.File) (id KeyID, ok bool) {
	if f, ok := file.(*chunkFile); ok {
		return f.key, true
	}
	return id, false
}

// Inner is the file system below, which shows files as they are stored.
func Inner(fsys vfs.FS) vfs.FS {
	if f, ok := fsys.(*FS); ok {
		return f.FS
	}
	return fsys
}
