package bulk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"golang.org/x/sync/errgroup"

	"kiln/engine"
	"kiln/index"
)

// publish takes a scanned round into the store, whole, in this order: resolve,
// seal the runs and write the refused lines, both durable, then one record.
func (r *round) publish(ctx context.Context) (err error) {
	resolved := r.job.manager.timed(stageResolve)
	if err := r.sortKeys(ctx); err != nil {
		return err
	}
	begun := r.job.manager.timed(stageWaitStore)
	ingest, err := r.job.store.BeginIngest(ctx)
	begun()
	if err != nil {
		return fmt.Errorf("cannot begin to publish: %w", err)
	}
	// After a Publish that came through, Abandon does nothing.
	defer func() { err = errors.Join(err, ingest.Abandon()) }()
	m := r.newMerge(ingest)
	if err := m.run(ctx); err != nil {
		return err
	}
	resolved()
	next := r.job.published.clone()
	if err := r.sealAndWrite(ctx, m, &next); err != nil {
		return err
	}
	if hook := r.job.manager.beforePublish; hook != nil {
		hook()
	}
	published := r.job.manager.timed(stagePublish)
	resolve := func(conflicts []engine.Conflict) error { return m.resolveConflicts(conflicts, &next) }
	err = ingest.Publish(ctx, uint64(r.job.id), resolve, func() []byte {
		m.countLoaded(&next)
		return next.marshal()
	})
	if err != nil {
		return fmt.Errorf("cannot publish: %w", err)
	}
	published()
	r.job.manager.counters.countRound(r.chunks, &r.job.published, &next, m.runs)
	r.job.setPublished(next)
	return nil
}

// sealAndWrite seals all runs while the refused lines are written.
func (r *round) sealAndWrite(ctx context.Context, m *merge, next *progress) error {
	defer r.job.manager.timed(stageSeal)()
	group, ctx := errgroup.WithContext(ctx)
	metas := make([]*index.RunMeta, len(r.workers))
	for i, w := range r.workers {
		group.Go(func() (err error) {
			if err = r.job.manager.turns.take(ctx); err != nil {
				return err
			}
			defer r.job.manager.turns.give()
			metas[i], err = m.seal(ctx, i, w)
			return err
		})
	}
	group.Go(func() error {
		r.count(next)
		return r.writeRefusals(next)
	})
	err := group.Wait()
	for i, meta := range metas {
		if meta == nil {
			continue
		}
		superseded := m.superseded[i]
		if superseded == nil {
			superseded = roaring.New()
		}
		err = errors.Join(err, m.ingest.Add(*meta, superseded))
		m.runs++
	}
	return err
}

// seal finishes one run; a run in which no row is left is dropped.
func (m *merge) seal(ctx context.Context, worker int, w *lineScanner) (*index.RunMeta, error) {
	if m.live[worker] == 0 {
		return nil, w.builder.Abort()
	}
	if m.live[worker] < len(w.rows)/compactBelow {
		if err := m.compact(worker, w); err != nil {
			return nil, fmt.Errorf("cannot rewrite a run: %w", err)
		}
	}
	meta, err := w.builder.Seal(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot seal a run: %w", err)
	}
	return &meta, nil
}

// count adds the round's lines to the progress: everything but loaded rows and
// the lengths of error files.
func (r *round) count(next *progress) {
	for _, info := range r.chunks {
		entry := next.at(info.input)
		info.linesUp = entry[progressLines]
		entry[progressLines] += info.lines
	}
	next.at(r.end.input)
	probed := r.job.inputs[r.end.input]
	next.Done, next.Offset, next.Stored = r.end.last, r.end.offset, r.end.stored
	next.Bytes, next.Etag, next.Hash = probed.bytes, probed.etag, r.job.hash
}

// countLoaded makes loaded what the merge found, on top of what was published.
func (m *merge) countLoaded(next *progress) {
	for input := range next.Inputs {
		before := int64(0)
		if input < len(m.round.job.published.Inputs) {
			before = m.round.job.published.Inputs[input][progressLoaded]
		}
		next.Inputs[input][progressLoaded] = before + m.loadedRows[input]
	}
}

// writeRefusals writes the round's refused lines behind what the error files
// had when the round began, and counts them.
func (r *round) writeRefusals(next *progress) error {
	for from := 0; from < len(r.chunks); {
		input := r.chunks[from].input
		to := from
		var lines []refusal
		for to < len(r.chunks) && r.chunks[to].input == input {
			lines = append(lines, r.chunks[to].inFile()...)
			to++
		}
		from = to
		if len(lines) == 0 {
			continue
		}
		var before inputProgress
		if input < len(r.job.published.Inputs) {
			before = r.job.published.Inputs[input]
		}
		name := errorFileName(r.job.id, input, r.job.request.Inputs[input].Type)
		end, sums, err := r.job.errorFiles.append(name, before[progressErrorBytes], r.job.published.Sums[input], lines)
		if err != nil {
			return err
		}
		entry := next.at(input)
		entry[progressErrorBytes] = end
		next.setSums(input, sums)
		entry[progressRefused] = before[progressRefused] + int64(len(lines))
	}
	return nil
}

// inFile gives a chunk's refusals in line order, counted in the input.
func (c *chunkInfo) inFile() []refusal {
	lines := slices.Clone(c.refusals)
	slices.SortFunc(lines, func(a, b refusal) int { return cmp.Compare(a.line, b.line) })
	for i := range lines {
		lines[i].line += c.linesUp
		lines[i].offset += c.start
	}
	return lines
}
