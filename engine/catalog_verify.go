package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// checkCatalog opens the catalog for reading and checks its tables. A catalog
// that was not closed has logs, which only an opening for writing can cut to
// their last whole entry, so it is left to that.
func (f *fsck) checkCatalog() error {
	dir := path.Join(f.dir, catalogDir)
	names, err := f.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot list the job catalog: %w", err)
	}
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".mem") {
			return nil
		}
	}
	switch err := verifyCatalog(dir); {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("cannot read the job catalog: %w", err)
	case err != nil:
		f.report(Problem{File: dir, What: "the job catalog cannot be read: " + err.Error()})
	}
	return nil
}

func verifyCatalog(dir string) error {
	db, err := badger.Open(catalogOptions(dir).WithReadOnly(true))
	if err != nil {
		return err
	}
	return errors.Join(db.VerifyChecksum(), db.Close())
}
