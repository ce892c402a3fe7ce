package bulk

import (
	"cmp"
	"context"

	"kiln/engine"
)

// exportPass is one walk through the store: the versions of a query, in files of
// one form. A request always gives the same passes in the same order.
type exportPass struct {
	query  engine.ScanQuery
	format exportFormat
}

// passes is what a request asks of the store as of an LSN.
func (r *ExportRequest) passes(_ context.Context, _ *engine.Snapshot, asOf uint64) ([]exportPass, error) {
	q := engine.ScanQuery{SinceMilli: r.Since.Milli, Versions: r.Versions, AsOf: asOf}
	if len(r.Types) > 0 {
		q.Of = []engine.ScanOf{{Types: r.Types}}
	}
	return []exportPass{{query: q, format: ndjsonFormat{}}}, nil
}

// fileMax is where the request's files end.
func (r *ExportRequest) fileMax() exportFileMax {
	return exportFileMax{lines: cmp.Or(r.FileLines, exportLinesMax), bytes: cmp.Or(r.FileBytes, exportFileBytesMax)}
}
