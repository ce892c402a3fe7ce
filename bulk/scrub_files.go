package bulk

import (
	"bytes"
	"context"
	"errors"

	"kiln/engine"
	"kiln/internal/vfs"
)

// scrubFiles is what the store's scrub reads of jobs: the files of ended exports and
// the error files of imports, as fsck does, while jobs go on. A file whose job's record
// changed while it was read is left to the next pass: an export is taken out of the
// catalog before its files are removed, and an import cuts its files before it goes on.
func (m *Manager) scrubFiles(ctx context.Context, fsys vfs.FS, report func(error)) error {
	check := &FilesCheck{
		Dir: m.opts.Store.Dir(), ExportDir: m.opts.ExportDir,
		Damage: func(p engine.Problem) { report(&vfs.CorruptError{File: p.File, Offset: p.Offset, What: p.What}) },
		Note:   func(engine.Problem) {}, // fsck tells
		is:     jobsView{fs: fsys, list: m.listInUse, stands: m.stands},
	}
	check.is.progress = func(job uint64) ([]byte, bool) { return m.opts.Store.Progress(job), true }
	return check.run(ctx)
}

// listInUse is CatalogList for who takes long with each value: none is kept from
// changing meanwhile, and what is gone by then is passed over.
func (m *Manager) listInUse(prefix string, fn func(key string, value []byte) error) error {
	var keys []string
	err := m.opts.Store.CatalogList(prefix, func(key string, _ []byte) error {
		keys = append(keys, key)
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		value, err := m.opts.Store.CatalogGet(key)
		if errors.Is(err, engine.ErrNotFound) {
			continue
		}
		if err == nil {
			err = fn(key, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) stands(key string, value []byte) bool {
	now, err := m.opts.Store.CatalogGet(key)
	return err == nil && bytes.Equal(now, value)
}
