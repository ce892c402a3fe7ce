package bulk

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"kiln/engine"
)

// A client that takes partial manifests (HL7 Bulk Data Access 3.0,
// allowPartialManifests) is shown the files that are there while the export goes
// on. What it was shown may not change: the pages of a manifest are recorded before
// they are shown, and only grow in number.

// exportListing is what was shown of a job's files.
type exportListing struct {
	// Sections are those whose files were shown, in that order.
	Sections []int `json:"sections"`
	// Ends is for each page how many files it and those before it have.
	Ends []int `json:"ends"`
}

// keyExportListing is followed by the job's number.
const keyExportListing = "export-listing/"

// listing is what was shown of a job; empty: nothing. The caller holds m.mu.
func (m *Manager) listing(id int64) (l exportListing, err error) {
	raw, err := m.opts.Store.CatalogGet(jobKey(keyExportListing, id))
	if errors.Is(err, engine.ErrNotFound) {
		return l, nil
	}
	if err == nil {
		err = ParseRecord(raw, &l)
	}
	if err != nil {
		return l, fmt.Errorf("cannot read which files of export %d were shown: %w", id, err)
	}
	return l, nil
}

// listed gives the files of the sections that were shown, in that order, and
// behind them those that were not. The caller holds m.mu.
func (m *Manager) listed(r *exportRecord) (l exportListing, shown, rest []ExportFile, unshown []int, err error) {
	if l, err = m.listing(r.ID); err != nil {
		return l, nil, nil, nil, err
	}
	finished, err := m.finishedSections(r.ID)
	if err != nil {
		return l, nil, nil, nil, err
	}
	for _, number := range l.Sections {
		shown = append(shown, finished[number]...)
	}
	for number := range r.Sections {
		files, ok := finished[number+1]
		if ok && !slices.Contains(l.Sections, number+1) {
			rest, unshown = append(rest, files...), append(unshown, number+1)
		}
	}
	return l, shown, rest, unshown, nil
}

// ShowExport is ExportStatus for a client that reads the manifest in pages of so
// many files at most. While an export runs whose client takes partial manifests,
// what is there is put into pages, which are recorded: each goes on with what came
// since the one before was shown. A store that is opened for reading adds none.
func (m *Manager) ShowExport(id int64, pageFiles int) (*ExportStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.liveExport(id)
	if err != nil {
		return nil, err
	}
	if r.State != Running || !r.Request.Partial || m.readOnly {
		return m.exportStatus(r)
	}
	l, shown, rest, unshown, err := m.listed(r)
	if err != nil {
		return nil, err
	}
	l.Sections = append(l.Sections, unshown...)
	for n := len(shown); len(rest) > 0; {
		page := min(len(rest), pageFiles)
		rest, n = rest[page:], n+page
		l.Ends = append(l.Ends, n)
	}
	if len(unshown) > 0 {
		if err := m.recordListing(id, l); err != nil {
			return nil, err
		}
	}
	return m.exportStatus(r)
}

// filesToShow are the files of a job in the order in which its manifest names them,
// and where pages that were shown already end. The caller holds m.mu.
func (m *Manager) filesToShow(r *exportRecord) (files []ExportFile, ends []int, err error) {
	if !r.Request.Partial {
		files, err = m.exportFiles(r)
		return files, nil, err
	}
	l, files, rest, _, err := m.listed(r)
	if r.State == Completed {
		files = append(files, rest...)
	}
	return files, l.Ends, err
}

func (m *Manager) recordListing(id int64, l exportListing) error {
	raw, err := json.Marshal(l)
	if err != nil {
		panic("BUG: a listing cannot be written: " + err.Error())
	}
	if err := m.opts.Store.CatalogPut(jobKey(keyExportListing, id), raw); err != nil {
		return fmt.Errorf("cannot record which files of export %d are shown: %w", id, err)
	}
	return nil
}

// errShownGone is not changed. It fails an export that would have to write files again that a client
// was told of: what it was told of may not change.
var errShownGone = &RequestError{Status: 500, Code: "incomplete", Text: "files that its manifest named already are not there any more; start it again"}
