package bulk

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"kiln/engine"
	"kiln/fhir"
)

// sweepExports removes the files of exports that are not kept: a crash while an
// export was being deleted, or while it failed, leaves them. Only what looks in every way like a directory of this server
// goes, since the directory of exports may be one that the operator chose. What
// cannot be removed keeps nobody from starting.
func (m *Manager) sweepExports(kept map[int64]bool) {
	names, err := m.opts.Store.FS().List(m.opts.ExportDir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var next int64
	if err == nil {
		next, err = m.jobsGiven()
	}
	if err != nil {
		m.logger.Warn("cannot look for the remains of exports", "error", err)
		return
	}
	for _, name := range names {
		id, err := strconv.ParseInt(name, 10, 64)
		if err != nil || id <= 0 || id >= next || kept[id] || name != strconv.FormatInt(id, 10) {
			continue
		}
		if err := m.sweepExport(id); err != nil {
			m.logger.Warn("cannot remove the remains of an export", "export", id, "error", err)
		}
	}
}

// jobsGiven is the number after the last job's; 0 before the first job.
func (m *Manager) jobsGiven() (int64, error) {
	raw, err := m.opts.Store.CatalogGet(keyNextJob)
	if errors.Is(err, engine.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(raw), 10, 64)
}

// sweepExport removes one directory when it holds export files only.
func (m *Manager) sweepExport(id int64) error {
	fsys, dir := m.opts.Store.FS(), m.exportDir(id)
	if info, err := fsys.Stat(dir); err != nil || !info.IsDir {
		return err
	}
	files, err := fsys.List(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if info, err := fsys.Stat(path.Join(dir, file)); err != nil || !info.Regular || !isExportFile(file) {
			return errors.Join(err, fmt.Errorf("%q is no export file", path.Join(dir, file)))
		}
	}
	m.logger.Info("removing what an export left", "export", id, "files", len(files))
	return fsys.RemoveAll(dir)
}

// isExportFile knows the names that exportFileName gives, and those of files that
// were being written.
func isExportFile(name string) bool {
	if name == exportSpillName {
		return true
	}
	name = strings.TrimSuffix(name, exportTempSuffix)
	stem, _, ok := strings.Cut(name, ".")
	ok = ok && slices.Contains([]string{".ndjson", deletedExtension, parquetExtension}, name[len(stem):])
	parts := strings.Split(stem, "-")
	if !ok || len(parts) != 3 || parts[0] != exportBlocksStem && fhir.TypeByName([]byte(parts[0])) == 0 {
		return false
	}
	for _, number := range parts[1:] {
		if n, err := strconv.Atoi(number); err != nil || n <= 0 {
			return false
		}
	}
	return true
}
