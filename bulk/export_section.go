package bulk

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"kiln/engine"
)

// An export is cut into sections: stretches of the log's numbers, each with files
// of its own. When the files of a section are durable it is recorded in the
// catalog, by itself, so that a restart loses only the sections under way.

// exportSection is what one section holds.
type exportSection struct {
	Pass int `json:"pass"` // of the request's passes
	engine.ScanRange
}

// keyExportSection is followed by the job's number, a slash and the section's.
const keyExportSection = "export-section/"

func sectionKey(id int64, number int) string {
	return sectionsKey(id) + fmt.Sprintf("%06d", number)
}

func sectionsKey(id int64) string { return jobKey(keyExportSection, id) + "/" }

// exportFileName names the n-th file of a type in a section, both from 1.
// isExportFile and sectionOfFile read it.
func exportFileName(typeName string, section, n int, extension string) string {
	return fmt.Sprintf("%s-%d-%d%s", typeName, section, n, extension)
}

// sectionOfFile is the section in a file's name, from 1; 0: it is none.
func sectionOfFile(name string) int {
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return 0
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return 0
	}
	return n
}

// recordSection makes a section finished. A job that was deleted has no sections
// any more.
func (m *Manager) recordSection(id int64, number int, files []ExportFile) error {
	raw, err := json.Marshal(files)
	if err != nil {
		panic("BUG: an export's files cannot be written: " + err.Error())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.getExport(id); err != nil {
		var gone *RequestError
		if errors.As(err, &gone) {
			return context.Canceled
		}
		return err
	}
	if err := m.opts.Store.CatalogPut(sectionKey(id, number), raw); err != nil {
		return fmt.Errorf("cannot record section %d of export %d: %w", number, id, err)
	}
	return nil
}

// finishedSections gives the files of a job's finished sections by number.
func (m *Manager) finishedSections(id int64) (map[int][]ExportFile, error) {
	prefix, finished := sectionsKey(id), make(map[int][]ExportFile)
	err := m.opts.Store.CatalogList(prefix, func(key string, value []byte) error {
		number, err := strconv.Atoi(strings.TrimPrefix(key, prefix))
		if err != nil {
			return err
		}
		finished[number], err = parseSection(value)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the sections of export %d: %w", id, err)
	}
	return finished, nil
}

func parseSection(value []byte) (files []ExportFile, err error) {
	if err := ParseRecord(value, &files); err != nil {
		return nil, fmt.Errorf("cannot read a section's record: %w", err)
	}
	return files, nil
}

// exportFiles lists the files of a job by type, then as they were written.
func (m *Manager) exportFiles(r *exportRecord) ([]ExportFile, error) {
	return filesOfExport(m.opts.Store.CatalogList, r)
}

// filesOfExport is exportFiles with the catalog's lists from list.
func filesOfExport(list func(prefix string, fn func(key string, value []byte) error) error, r *exportRecord) ([]ExportFile, error) {
	files := r.Files
	err := list(sectionsKey(r.ID), func(_ string, value []byte) error {
		more, err := parseSection(value)
		files = append(files, more...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the files of export %d: %w", r.ID, err)
	}
	slices.SortStableFunc(files, func(a, b ExportFile) int { return cmp.Compare(a.Type, b.Type) })
	return files, nil
}

// exportFileOf finds a file of a job by its name, and ok.
func (m *Manager) exportFileOf(r *exportRecord, name string) (f ExportFile, ok bool, err error) {
	files := r.Files
	if number := sectionOfFile(name); len(files) == 0 && number > 0 {
		raw, err := m.opts.Store.CatalogGet(sectionKey(r.ID, number))
		if errors.Is(err, engine.ErrNotFound) {
			return f, false, nil
		}
		if err == nil {
			files, err = parseSection(raw)
		}
		if err != nil {
			return f, false, fmt.Errorf("cannot look for a file of export %d: %w", r.ID, err)
		}
	}
	i := slices.IndexFunc(files, func(f ExportFile) bool { return f.Name == name })
	if i < 0 {
		return f, false, nil
	}
	return files[i], true, nil
}

// forgetSections takes the records of a job's sections away, and of what was shown
// of them.
func (m *Manager) forgetSections(id int64) error {
	return errors.Join(
		m.forgetSectionsWhere(keyExportSection, sectionsKey(id), func(int64) bool { return true }),
		m.opts.Store.CatalogDelete(jobKey(keyExportListing, id)),
	)
}

// sweepSections takes the records away that belong to no export.
func (m *Manager) sweepSections(kept map[int64]bool) error {
	gone := func(id int64) bool { return !kept[id] }
	return errors.Join(
		m.forgetSectionsWhere(keyExportSection, keyExportSection, gone),
		m.forgetSectionsWhere(keyExportListing, keyExportListing, gone),
	)
}

// forgetSectionsWhere deletes the records whose keys begin with prefix, and with kind
// and the number of a job that is gone.
func (m *Manager) forgetSectionsWhere(kind, prefix string, gone func(id int64) bool) error {
	var keys []string
	err := m.opts.Store.CatalogList(prefix, func(key string, _ []byte) error {
		number, _, _ := strings.Cut(strings.TrimPrefix(key, kind), "/")
		id, err := strconv.ParseInt(number, 10, 64)
		if err == nil && gone(id) {
			keys = append(keys, key)
		}
		return err
	})
	for _, key := range keys {
		err = errors.Join(err, m.opts.Store.CatalogDelete(key))
	}
	if err != nil {
		return fmt.Errorf("cannot forget the sections of an export: %w", err)
	}
	return nil
}
