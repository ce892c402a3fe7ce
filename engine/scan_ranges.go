package engine

import (
	"cmp"
	"fmt"
	"slices"
)

// ScanRange is a stretch of LSNs: From <= lsn < To. A merge does not change them,
// so a range has the same versions as long as they are there.
type ScanRange struct {
	From uint64 // 0: no bound
	To   uint64 // 0: no bound
}

// ordinalsOf is the rows of a source that a range has: from <= row < end.
func (src *source) ordinalsOf(r ScanRange) (from, end uint32, err error) {
	end = src.rows
	if r.From > 0 {
		if from, err = src.behind(r.From - 1); err != nil {
			return 0, 0, err
		}
	}
	if r.To > 0 {
		if end, err = src.behind(r.To - 1); err != nil {
			return 0, 0, err
		}
	}
	return from, min(end, src.rows), nil
}

// scanSampleRows is how far apart the rows are whose LSN Ranges asks for: a
// range is off by that much for each source.
const scanSampleRows = 16 << 10

// scanSample says that so many rows lie at about one LSN.
type scanSample struct{ lsn, rows uint64 }

// Ranges cuts the scan into ranges in LSN order that have about rows versions
// each, and more where there would be over most ranges. What one record
// published is never cut: an import's round is in one range. No versions, no ranges.
func (c *Scan) Ranges(rows uint64, most int) ([]ScanRange, error) {
	var samples []scanSample
	for i := range c.chosen {
		var err error
		if samples, err = c.chosen[i].samples(samples); err != nil {
			return nil, fmt.Errorf("cannot cut a scan: %w", err)
		}
	}
	if len(samples) == 0 {
		return nil, nil
	}
	slices.SortFunc(samples, func(a, b scanSample) int { return cmp.Compare(a.lsn, b.lsn) })
	rows = max(rows, 1+c.Rows()/uint64(most))
	ranges, held := []ScanRange{{}}, uint64(0)
	for i, at := range samples {
		held += at.rows
		if held >= rows && i+1 < len(samples) && samples[i+1].lsn > at.lsn {
			ranges[len(ranges)-1].To = at.lsn + 1
			ranges, held = append(ranges, ScanRange{From: at.lsn + 1}), 0
		}
	}
	return ranges, nil
}

// samples adds what is known of the LSNs of a source's rows.
func (of *scanRows) samples(to []scanSample) ([]scanSample, error) {
	count := of.rows.GetCardinality()
	step := uint64(scanSampleRows)
	if of.src.run != nil && of.src.run.kind == ingestImport {
		step = count // all have the same
	}
	for first := uint64(0); first < count; first += step {
		last := min(first+step, count) - 1
		row, err := of.rows.Select(uint32(last))
		if err != nil {
			return nil, err
		}
		lsn, err := of.src.lsn(row)
		if err != nil {
			return nil, err
		}
		to = append(to, scanSample{lsn: lsn, rows: last + 1 - first})
	}
	return to, nil
}
