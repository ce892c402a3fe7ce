package bulk

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"kiln/engine"
	"kiln/fhir"
)

// exportWork is an export while its files are written.
type exportWork struct {
	m      *Manager
	j      *exportJob
	record *exportRecord
	// snapshot shows what is exported.
	snapshot *engine.Snapshot
	out      exportOutput
	passes   []exportPass
	scans    []*engine.Scan // of the passes
	tasks    []exportTask   // in the order of their sections
	// blocks are the parts of files organized by patients that are not finished; of
	// so many in all.
	blocks     []*sectionWork
	blocksPlan int
	next       atomic.Int64 // of the tasks
}

// exportTask is a part of a section's versions.
type exportTask struct {
	section *sectionWork
	part    engine.ScanPart
}

// sectionWork is a section that is not finished.
type sectionWork struct {
	number int // from 1
	pass   *exportPass

	mu    sync.Mutex // guards what follows
	left  int        // tasks whose lines are not in durable files
	begun map[fhir.TypeCode]int
	files []ExportFile
}

// runExport writes what is missing of an export's files: all of them at first,
// after a restart those of the sections that were not finished.
func (m *Manager) runExport(ctx context.Context, j *exportJob, record *exportRecord) error {
	select {
	case m.exporting <- struct{}{}:
		defer func() { <-m.exporting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	snapshot, at, err := m.exportSnapshot(ctx, record)
	if err != nil {
		return err
	}
	defer snapshot.Release()
	w := &exportWork{m: m, j: j, record: record, snapshot: snapshot, out: m.exportOutput(record)}
	if out, ok := w.out.(*localOutput); ok && m.opts.Quotas.ExportBytes+m.opts.Quotas.ClientExportBytes > 0 {
		out.written, out.quota = &j.written, func() (int64, error) { return m.holdQuota(record.Request.Owner, j) }
	}
	if err := w.choose(ctx, snapshot, cmp.Or(record.LSN, snapshot.LSN()), at); err != nil {
		return fmt.Errorf("cannot choose what to export: %w", err)
	}
	if record.LSN == 0 {
		if err := w.plan(snapshot.LSN(), at); err != nil {
			return err
		}
	}
	if err := w.resume(ctx); err != nil {
		return err
	}
	return w.write(ctx)
}

// exportSnapshot takes a snapshot with its instant, or for an export that has its
// own already one that still shows what that did.
func (m *Manager) exportSnapshot(ctx context.Context, record *exportRecord) (*engine.Snapshot, fhir.Instant, error) {
	if record.LSN == 0 {
		snapshot, at, err := m.opts.Store.SnapshotAt(ctx)
		if err != nil {
			return nil, at, fmt.Errorf("cannot take a snapshot: %w", err)
		}
		return snapshot, at, nil
	}
	snapshot, err := m.opts.Store.Snapshot()
	if err != nil {
		return nil, record.At, fmt.Errorf("cannot take a snapshot: %w", err)
	}
	if snapshot.LSN() < record.LSN {
		snapshot.Release()
		return nil, record.At, fmt.Errorf("cannot go on with the export: the store is older than it, at LSN %d and not %d", snapshot.LSN(), record.LSN)
	}
	return snapshot, record.At, nil
}

// choose evaluates the request.
func (w *exportWork) choose(ctx context.Context, snapshot *engine.Snapshot, asOf uint64, at fhir.Instant) error {
	if err := w.m.turns.take(ctx); err != nil {
		return err
	}
	defer w.m.turns.give()
	var err error
	if w.passes, err = w.m.exportPasses(ctx, &w.record.Request, snapshot, asOf, at); err != nil {
		return err
	}
	for i := range w.passes {
		scan, err := snapshot.Scan(ctx, w.passes[i].query)
		if err != nil {
			return err
		}
		w.scans = append(w.scans, scan)
		w.j.total.Add(scan.Rows())
	}
	return nil
}

// plan cuts the export into sections and records them, before anything is written.
func (w *exportWork) plan(lsn uint64, at fhir.Instant) error {
	for pass, scan := range w.scans {
		if w.passes[pass].owners != nil {
			w.planBlocks(pass, scan)
			continue
		}
		ranges, err := scan.Ranges(cmp.Or(w.m.opts.SectionRows, exportSectionRows), exportSectionsMax)
		if err != nil {
			return fmt.Errorf("cannot plan the export: %w", err)
		}
		for _, r := range ranges {
			w.record.Sections = append(w.record.Sections, exportSection{Pass: pass, ScanRange: r})
		}
	}
	w.record.LSN, w.record.At = lsn, at
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	if _, err := w.m.getExport(w.record.ID); err != nil {
		return context.Canceled // it was deleted
	}
	return w.m.putExport(w.record)
}

// resume lists the tasks of the sections that are not finished. What their files
// have of a former process is removed.
func (w *exportWork) resume(ctx context.Context) error {
	finished, err := w.m.finishedSections(w.record.ID)
	if err == nil {
		err = w.out.begin(ctx)
	}
	if err != nil {
		return err
	}
	w.m.mu.Lock()
	shown, err := w.m.listing(w.record.ID)
	w.m.mu.Unlock()
	if err != nil {
		return err
	}
	var kept []ExportFile
	for i, section := range w.record.Sections {
		if w.isBlocks(section) {
			w.blocksPlan++ // they come first
		}
		if files, ok := finished[i+1]; ok {
			if ok, err = w.out.whole(ctx, files); err != nil {
				return err
			}
			if ok {
				kept = append(kept, files...)
				continue
			}
		}
		if slices.Contains(shown.Sections, i+1) {
			return errShownGone
		}
		if err := w.addWork(i, section); err != nil {
			return err
		}
	}
	for _, f := range kept {
		w.j.rows.Add(uint64(f.Count))
		if f.Type == "" {
			w.j.total.Add(uint64(f.Count)) // it is not known which of the scan's they are
		}
	}
	return w.out.keep(ctx, kept)
}

// addWork lists the work of a section. One by type that has none, because all of its
// versions were purged, needs no record.
func (w *exportWork) addWork(i int, section exportSection) error {
	if section.Pass >= len(w.scans) {
		return fmt.Errorf("cannot go on with the export: its request has %d passes and not %d", len(w.scans), section.Pass+1)
	}
	if w.isBlocks(section) {
		w.blocks = append(w.blocks, &sectionWork{number: i + 1, pass: &w.passes[section.Pass], left: 1, begun: make(map[fhir.TypeCode]int)})
		return nil
	}
	parts, err := w.scans[section.Pass].Parts(section.ScanRange)
	if err != nil {
		return err
	}
	s := &sectionWork{number: i + 1, pass: &w.passes[section.Pass], left: len(parts), begun: make(map[fhir.TypeCode]int)}
	for _, part := range parts {
		w.tasks = append(w.tasks, exportTask{section: s, part: part})
	}
	return nil
}

// write lets workers take the tasks in order, each with files of its own.
func (w *exportWork) write(ctx context.Context) error {
	if err := w.writeBlocks(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for range min(w.m.opts.Workers, len(w.tasks)) {
		group.Go(func() error { return w.work(ctx) })
	}
	return group.Wait()
}

// work takes tasks. The files of a section are ended when the next task is of
// another one.
func (w *exportWork) work(ctx context.Context) (err error) {
	var sink *exportSink
	defer func() {
		if sink != nil {
			sink.abort()
		}
	}()
	space := new(exportSpace)
	for of, done := (*sectionWork)(nil), 0; ; done++ {
		i := int(w.next.Add(1) - 1)
		if sink != nil && (i >= len(w.tasks) || w.tasks[i].section != of) {
			if err := w.leave(ctx, of, sink, done); err != nil {
				return err
			}
			sink = nil
		}
		if i >= len(w.tasks) {
			return nil
		}
		if sink == nil {
			of, done = w.tasks[i].section, 0
			sink = w.newSink(of, space)
		}
		if err := w.stream(ctx, sink, &w.tasks[i].part); err != nil {
			return err
		}
	}
}

func (w *exportWork) newSink(of *sectionWork, space *exportSpace) *exportSink {
	format := of.pass.format
	sink := &exportSink{
		out: w.out, space: space, stalled: w.m.stalled, rest: withoutTurn, format: format, maximum: w.record.Request.fileMax(),
		name: func(t fhir.TypeCode) string {
			of.mu.Lock()
			defer of.mu.Unlock()
			of.begun[t]++
			return exportFileName(format.stem(t), of.number, of.begun[t], format.extension())
		},
	}
	sink.closing.SetLimit(exportClosingMax)
	return sink
}

// stream writes the versions of one part. It computes in turns with all other
// jobs of the server.
func (w *exportWork) stream(ctx context.Context, sink *exportSink, part *engine.ScanPart) error {
	turns, rows, taken := &w.m.turns, uint64(0), true
	if err := w.takeTurn(ctx); err != nil {
		return err
	}
	defer func() {
		sink.rest = withoutTurn
		if taken {
			turns.give()
		}
	}()
	sink.rest = func(wait func() error) error {
		turns.give()
		taken = false
		if err := wait(); err != nil {
			return err
		}
		err := w.takeTurn(ctx)
		taken = err == nil
		return err
	}
	err := part.RunWith(ctx, &sink.space.scan, func(v *engine.Version) error {
		if rows++; rows%exportTurnRows == 0 {
			w.count(exportTurnRows)
			if err := sink.rest(func() error { return nil }); err != nil {
				return err
			}
		}
		return sink.write(ctx, v)
	})
	w.count(rows % exportTurnRows)
	if err != nil {
		return fmt.Errorf("cannot export: %w", err)
	}
	return nil
}

// takeTurn waits for a turn at the cores.
func (w *exportWork) takeTurn(ctx context.Context) error {
	defer w.m.stalled(stallTurn)()
	return w.m.turns.take(ctx)
}

// withoutTurn is the rest of a sink whose worker does not compute.
func withoutTurn(wait func() error) error { return wait() }

func (w *exportWork) count(rows uint64) {
	w.j.rows.Add(rows)
	w.m.counters.exportedLines.Add(rows)
}

// leave ends a worker's files of a section, in which it did some tasks. The last
// worker records the section.
func (w *exportWork) leave(ctx context.Context, of *sectionWork, sink *exportSink, tasks int) error {
	if err := sink.close(ctx); err != nil {
		return err
	}
	of.mu.Lock()
	of.files = append(of.files, sink.done...)
	of.left -= tasks
	last := of.left == 0
	of.mu.Unlock()
	for _, f := range sink.done {
		w.m.counters.exportedBytes.Add(uint64(f.Bytes))
	}
	if !last {
		return nil
	}
	slices.SortFunc(of.files, func(a, b ExportFile) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	if err := w.out.settle(ctx); err != nil {
		return err
	}
	return w.m.recordSection(w.record.ID, of.number, of.files)
}
