package engine

import (
	"errors"
	"path"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// FsckJobs is what a check knows of the jobs of a store: FsckOptions.Jobs holds it
// against the jobs' files, of which the engine knows nothing.
type FsckJobs struct {
	// FS refuses plain files where all of the store are encrypted.
	FS       vfs.FS
	catalog  *catalog
	progress map[uint64][]byte
	logRead  bool
}

// List is Store.CatalogList for a copy of the catalog, in which nothing is missing.
func (j *FsckJobs) List(prefix string, fn func(key string, value []byte) error) error {
	return j.catalog.list(prefix, fn)
}

// Progress is Store.Progress. It is not known where the log is damaged.
func (j *FsckJobs) Progress(job uint64) (progress []byte, known bool) {
	return j.progress[job], j.logRead
}

// checkJobs has the jobs' files checked, if there is a catalog. A value of it that
// cannot be read is damage.
func (f *fsck) checkJobs(c *catalog, progress map[uint64][]byte, logRead bool) error {
	if c == nil || f.jobs == nil {
		return nil
	}
	dir := path.Join(f.dir, catalogDir)
	err := f.jobs(&FsckJobs{FS: f.fs, catalog: c, progress: progress, logRead: logRead})
	if errors.Is(err, sealed.ErrKey) { // FORMAT is damaged, and names no keys
		f.report(Problem{File: dir, What: err.Error()})
		return nil
	}
	return f.catalogDamage(dir, err)
}

// dropCatalog takes the copy away that checkCatalog made.
func (f *fsck) dropCatalog(c *catalog) error {
	if c == nil {
		return nil
	}
	return errors.Join(c.close(), f.fs.RemoveAll(path.Join(f.temp, catalogDir)))
}
