package engine

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// A store is encrypted when its file system seals (sealed.KeysOf). What is plain all
// the same: FORMAT, LOCK, BALLAST, CATALOG, REPAIR and RESTORING, in which nothing comes
// from a client; the log's files, whose payloads the log seals; and Badger's files, whose
// values the catalog seals (the keys are numbers of jobs and hashes of definitions).
//
// FORMAT names the keys that something may be sealed under, and says whether plain
// files may be left. It names a key before anything is sealed under it, so that a store
// is never opened without a key that it needs; only ForgetKeys takes one out.

// ErrEncrypted refuses an encrypted store to whoever brings no key.
var ErrEncrypted = errors.New("the store is encrypted and no key was given")

// jobErrorsDir has a folder of error files for each import, which go on after a sync.
const jobErrorsDir = "errors"

// EncryptedFS keeps the files of data directories, and of exports, sealed on fsys.
func EncryptedFS(fsys vfs.FS, keys *sealed.Keys) vfs.FS { return sealed.New(fsys, keys, sealedForm) }

// sealedForm tells how a file is kept, by its name.
func sealedForm(name string) sealed.Form {
	dir, base := path.Split(path.Clean(name))
	switch strings.TrimSuffix(base, vfs.TempSuffix) {
	case formatName, lockName, ballastName, catalogMarkName, repairName, restoringName:
		return sealed.Plain
	}
	dir = path.Clean(dir)
	switch path.Base(dir) {
	case logDir, catalogDir:
		return sealed.Plain
	}
	if path.Base(path.Dir(dir)) == jobErrorsDir || strings.HasSuffix(base, ".spill") {
		return sealed.Frames
	}
	return sealed.Chunks
}

// unlock is an error unless every key that the store may need was given.
func (f *formatFile) unlock(dir string, keys *sealed.Keys) error {
	if len(f.keys) > 0 && keys == nil {
		return fmt.Errorf("cannot use %q: %w; it needs key %s (--encryption-key-file, KILN_ENCRYPTION_KEY or --encryption-key-command)", dir, ErrEncrypted, idsText(f.keys))
	}
	var missing []sealed.KeyID
	for _, id := range f.keys {
		if !keys.Has(id) {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("cannot use %q: %w: the store needs key %s, given were %s", dir, sealed.ErrKey, idsText(missing), idsText(keys.IDs()))
	}
	return nil
}

func idsText(ids []sealed.KeyID) string {
	var words []string
	for _, id := range ids {
		words = append(words, id.String())
	}
	return strings.Join(words, " ")
}

// newFormat is the FORMAT of a store that begins on fsys.
func newFormat(storeID uint64, fsys vfs.FS) formatFile {
	f := formatFile{storeID: storeID}
	if keys := sealed.KeysOf(fsys); keys != nil {
		f.keys = []sealed.KeyID{keys.Current()}
	}
	return f
}

// salvagedFormat is that of a store whose FORMAT is lost: any of the keys may be
// needed, and plain files may be there.
func salvagedFormat(storeID uint64, fsys vfs.FS) formatFile {
	f := formatFile{storeID: storeID}
	if keys := sealed.KeysOf(fsys); keys != nil {
		f.keys, f.plain = keys.IDs(), true
	}
	return f
}

// strictly is fsys with plain files refused, where the store has none.
func (f *formatFile) strictly(fsys vfs.FS) vfs.FS {
	if len(f.keys) == 0 || f.plain {
		return fsys
	}
	return sealed.Strict(fsys)
}

// noteKeys writes the present key into FORMAT, before anything is sealed under it.
func (s *Store) noteKeys() error {
	keys := sealed.KeysOf(s.opts.FS)
	if keys == nil || s.opts.ReadOnly || slices.Contains(s.format.keys, keys.Current()) {
		return nil
	}
	next := s.format
	next.plain = next.plain || len(next.keys) == 0
	next.keys = append([]sealed.KeyID{keys.Current()}, next.keys...)
	err := s.withRelief(func() error { return noSpace(vfs.WriteFileAtomic(s.opts.FS, s.path(formatName), next.marshal())) })
	if err != nil {
		return fmt.Errorf("cannot note the encryption key: %w", err)
	}
	s.format = next
	return nil
}

// sealedCatalogMagic begins a sealed value of the catalog:
//
//	0       8        16     32
//	+-------+--------+------+-----------------+
//	| magic | key id | salt | value, and tag  |
//	+-------+--------+------+-----------------+
//
// The key follows from the key of that id and the salt, which is random, so each value
// has its own; the nonce is zeros. The additional data are the catalog's key.
const (
	sealedCatalogMagic = "\x8bKILNVAL"
	sealedCatalogHead  = 16 + sealed.SaltBytes
	sealedPurpose      = "kiln catalog 1"
)

// seal makes a value what the catalog keeps.
func (c *catalog) seal(key string, value []byte) ([]byte, error) {
	if c.keys == nil {
		return value, nil
	}
	id := c.keys.Current()
	var salt [sealed.SaltBytes]byte
	sealed.Random(salt[:])
	d, err := c.keys.Derive(id, sealedPurpose, salt)
	if err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, sealedCatalogHead+len(value)+sealed.TagBytes), sealedCatalogMagic...)
	b = append(append(b, id[:]...), salt[:]...)
	return d.AEAD.Seal(b, make([]byte, d.AEAD.NonceSize()), value, []byte(key)), nil
}

// sealedUnder tells the key of a value that the catalog keeps; false: it is plain.
func sealedUnder(stored []byte) (id sealed.KeyID, ok bool) {
	if len(stored) < sealedCatalogHead+sealed.TagBytes || string(stored[:8]) != sealedCatalogMagic {
		return id, false
	}
	return sealed.KeyID(stored[8:]), true
}

// open is seal's other way.
func (c *catalog) open(key string, stored []byte) ([]byte, error) {
	id, ok := sealedUnder(stored)
	if !ok && c.strict {
		return nil, &vfs.CorruptError{File: catalogDir, What: fmt.Sprintf("the value of %q is not encrypted, and all of this store are", key)}
	}
	if !ok {
		return stored, nil
	}
	d, err := c.keys.Derive(id, sealedPurpose, [sealed.SaltBytes]byte(stored[16:]))
	if err != nil {
		return nil, err
	}
	value, err := d.AEAD.Open(nil, make([]byte, d.AEAD.NonceSize()), stored[sealedCatalogHead:], []byte(key))
	if err != nil {
		return nil, &vfs.CorruptError{File: catalogDir, What: fmt.Sprintf("the value of %q is not what was encrypted", key)}
	}
	return value, nil
}

// resealCatalog writes the values again that are plain, or sealed under another key than
// the present one. What Badger keeps of the old ones goes when it is closed
// (openCatalog).
func (s *Store) resealCatalog() error {
	if s.catalog.keys == nil || s.opts.ReadOnly {
		return nil
	}
	var due []string
	err := s.catalog.each("", func(key string, stored []byte) error {
		if id, ok := sealedUnder(stored); !ok || id != s.catalog.keys.Current() {
			due = append(due, key)
		}
		return nil
	})
	for _, key := range due {
		var value []byte
		if err == nil {
			value, err = s.CatalogGet(key)
		}
		if err == nil {
			err = s.CatalogPut(key, value)
		}
	}
	if errors.Is(err, ErrNoSpace) {
		s.opts.Logger.Warn("values of the job catalog stay under an old key: the data disk is full", "error", err)
		err = nil
	}
	return err
}
