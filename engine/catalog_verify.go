package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// checkCatalog opens a copy of the catalog, which cuts the logs of one that was not
// closed to their last whole entry, and checks its tables and that nothing is
// missing. Without a directory for the copy it is not looked at. A sound copy stays
// open, for dropCatalog; nil: there is none.
func (f *fsck) checkCatalog(format formatFile) (*catalog, error) {
	writes, err := readMark(f.fs, path.Join(f.dir, catalogMarkName))
	if err != nil {
		return nil, f.catalogDamage(path.Join(f.dir, catalogMarkName), err)
	}
	if f.temp == "" {
		return nil, nil
	}
	dir := path.Join(f.dir, catalogDir)
	names, err := f.fs.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the job catalog: %w", err)
	}
	if len(names) == 0 {
		if writes == 0 {
			return nil, nil
		}
		return nil, f.catalogDamage(dir, &vfs.CorruptError{File: dir, What: fmt.Sprintf("the job catalog is gone, and %d writes went to it; run kiln repair", writes)})
	}
	copied := path.Join(f.temp, catalogDir)
	if err := copyFiles(f.fs, dir, copied, names); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot copy the job catalog: %w", err), f.fs.RemoveAll(copied))
	}
	var c *catalog
	if err = removeEmptyLogs(f.fs, copied); err == nil {
		c, err = verifyCatalog(f.fs, copied, path.Join(f.dir, catalogMarkName))
	}
	if err != nil {
		return nil, errors.Join(f.catalogDamage(dir, err), f.fs.RemoveAll(copied))
	}
	c.keys, c.strict = sealed.KeysOf(f.fs), len(format.keys) > 0 && !format.plain
	return c, nil
}

// catalogDamage reports damage, and gives back what else kept it from reading.
func (f *fsck) catalogDamage(file string, err error) error {
	var corrupt *vfs.CorruptError
	if errors.As(err, &corrupt) {
		f.report(Problem{File: file, What: corrupt.What})
		return nil
	}
	return err
}

func verifyCatalog(fsys vfs.FS, dir, markName string) (*catalog, error) {
	c, err := openVerified(catalogOptions(dir), fsys, markName)
	if err != nil {
		return nil, err
	}
	if err := c.db.VerifyChecksum(); err != nil {
		return nil, errors.Join(&vfs.CorruptError{File: dir, What: "the job catalog: " + err.Error()}, c.close())
	}
	return c, nil
}

// copyFiles copies files into a new directory. What is zeros stays a hole: Badger's
// logs are mostly that.
func copyFiles(fsys vfs.FS, from, to string, names []string) error {
	if err := fsys.MkdirAll(to); err != nil {
		return err
	}
	for _, name := range names {
		if name == lockName {
			continue
		}
		if err := copyFile(fsys, path.Join(from, name), path.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(fsys vfs.FS, from, to string) error {
	in, err := fsys.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() // only read from
	out, err := fsys.Create(to)
	if err != nil {
		return err
	}
	bytes, err := in.Bytes()
	if err == nil {
		err = out.Truncate(bytes)
	}
	block := make([]byte, copyBlockBytes)
	for at := int64(0); err == nil && at < bytes; at += int64(len(block)) {
		block = block[:min(int64(len(block)), bytes-at)]
		var n int
		if n, err = in.ReadAt(block, at); n < len(block) {
			err = errors.Join(err, fs.ErrInvalid)
			break
		}
		if err = nil; !isZeros(block) {
			_, err = out.WriteAt(block, at)
		}
	}
	return errors.Join(err, out.Close())
}

// copyBlockBytes are read at once, and left out when they are zeros.
const copyBlockBytes = 256 << 10

func isZeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
