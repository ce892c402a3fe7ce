package bulk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"kiln/engine"
	"kiln/fhir"
	"kiln/index"
)

// Files organized by patients (HL7 Bulk Data Access 3.0, organizeOutputBy). What is
// exported is read once in file order, as ever; each line goes to the patients in
// whose compartments it is, who are dealt into parts by their ids and set aside (see spill).
// Then each part, which is a section of the export, is put in order and written.
// The cost follows what is exported, however the resources of a patient are strewn
// over the store.

// exportTurn is a worker's turn at the cores while it computes.
type exportTurn struct {
	turns *turns
	ctx   context.Context
	taken bool
}

func (t *exportTurn) take() error {
	err := t.turns.take(t.ctx)
	t.taken = err == nil
	return err
}

// rest lets others compute while something is waited for.
func (t *exportTurn) rest(wait func() error) error {
	t.give()
	if err := wait(); err != nil {
		return err
	}
	return t.take()
}

func (t *exportTurn) give() {
	if t.taken {
		t.turns.give()
		t.taken = false
	}
}

// planBlocks adds the sections of a pass whose files are organized by patients.
func (w *exportWork) planBlocks(pass int, scan *engine.Scan) {
	rows := cmp.Or(w.m.opts.SectionRows, exportBlocksRows)
	for range min((scan.Rows()+rows-1)/rows, exportBlocksMax) {
		w.record.Sections = append(w.record.Sections, exportSection{Pass: pass})
	}
}

func (w *exportWork) isBlocks(section exportSection) bool {
	return section.Pass < len(w.passes) && w.passes[section.Pass].owners != nil
}

// blocksBytes of a part are in memory at a time.
func (w *exportWork) blocksBytes() int64 { return cmp.Or(w.m.opts.BlocksBytes, exportBlocksBytesMax) }

// writeBlocks writes the parts of files organized by patients that are not finished.
func (w *exportWork) writeBlocks(ctx context.Context) error {
	if len(w.blocks) == 0 {
		return nil
	}
	dir := w.m.exportDir(w.record.ID)
	s := newSpill(w.m.opts.Store.FS(), dir, func() error { return w.m.opts.Store.CheckRoom(dir) }, w.blocksPlan, w.blocksBytes())
	err := w.deal(ctx, s)
	if err == nil {
		err = w.writeParts(ctx, s)
	}
	err = errors.Join(err, s.close())
	if w.record.Folder != "" {
		w.m.dropSpill(w.record.ID)
	}
	return err
}

// deal reads what is exported and deals it into the parts.
func (w *exportWork) deal(ctx context.Context, s *spill) error {
	pass := w.blocks[0].pass
	scan := w.scans[slices.IndexFunc(w.passes, func(p exportPass) bool { return p.owners != nil })]
	parts, err := scan.Parts(engine.ScanRange{})
	if err != nil {
		return err
	}
	rows := scan.Rows()
	w.j.total.Add(rows) // each is written, too: once, as far as is known
	wanted := make([]bool, w.blocksPlan)
	for _, of := range w.blocks {
		wanted[of.number-1] = true
	}
	var next, dealt atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(w.m.opts.Workers, len(parts)) {
		group.Go(func() error {
			d := newDealer(w, pass, s, wanted)
			for i := next.Add(1) - 1; i < int64(len(parts)); i = next.Add(1) - 1 {
				if err := d.deal(ctx, &parts[i]); err != nil {
					return fmt.Errorf("cannot export: %w", err)
				}
			}
			defer func() { dealt.Add(d.dealt) }()
			return d.join(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	w.j.total.Add(uint64(dealt.Load()) - rows)
	return nil
}

// dealer is one worker that deals lines to patients.
type dealer struct {
	w      *exportWork
	pass   *exportPass
	spill  *spill
	wanted []bool // parts that are not finished
	reader *ownerReader
	lines  map[fhir.TypeCode]func(dst []byte, v *engine.Version) ([]byte, error)
	line   []byte
	turn   exportTurn
	// scan and joins are the memory of scans, which run inside each other.
	scan, joins index.ScanSpace
	dealt       int64 // lines
	// waiting are lines of which it is to be looked up whose they are.
	waiting []waitingLine
	keys    int   // of them
	bytes   int64 // of them
}

// waitingLine belongs to its owners and to those of other resources.
type waitingLine struct {
	typ    fhir.TypeCode
	text   []byte
	owners [][]byte
	others []string
}

func newDealer(w *exportWork, pass *exportPass, s *spill, wanted []bool) *dealer {
	return &dealer{
		w: w, pass: pass, spill: s, wanted: wanted, reader: pass.owners.reader(),
		lines: map[fhir.TypeCode]func([]byte, *engine.Version) ([]byte, error){},
	}
}

// deal deals the versions of one part of the scan.
func (d *dealer) deal(ctx context.Context, part *engine.ScanPart) error {
	return d.read(ctx, part, &d.scan, func(v *engine.Version) error {
		if err := d.take(v); err != nil {
			return err
		}
		if d.keys < exportJoinKeys && d.bytes < exportJoinBytes {
			return nil
		}
		return d.turn.rest(func() error { return d.join(ctx) })
	}, func(rows uint64) { d.w.j.rows.Add(rows) })
}

// read calls fn for the versions of a part while it has a turn, and tells how many
// there were.
func (d *dealer) read(ctx context.Context, part *engine.ScanPart, space *index.ScanSpace, fn func(v *engine.Version) error, tell func(rows uint64)) error {
	before := d.turn
	defer func() { d.turn = before }()
	d.turn = exportTurn{turns: &d.w.m.turns, ctx: ctx}
	if err := d.turn.take(); err != nil {
		return err
	}
	defer func() { d.turn.give() }()
	rows := uint64(0)
	err := part.RunWith(ctx, space, func(v *engine.Version) error {
		if rows++; rows%exportTurnRows == 0 {
			tell(exportTurnRows)
			if err := d.turn.rest(func() error { return nil }); err != nil {
				return err
			}
		}
		return fn(v)
	})
	tell(rows % exportTurnRows)
	return err
}

// take deals one version, or lets it wait.
func (d *dealer) take(v *engine.Version) error {
	if err := d.reader.read(v); err != nil {
		return err
	}
	line := d.lines[v.Type]
	if line == nil {
		line = d.pass.format.(blockFormat).appender(v.Type)
		d.lines[v.Type] = line
	}
	var err error
	if d.line, err = line(d.line[:0], v); err != nil {
		return err
	}
	d.line = append(d.line, '\n')
	switch {
	case len(d.reader.others) > 0:
		d.wait(v.Type)
		return nil
	case len(d.reader.owners) == 0 && d.pass.owners.strict && v.Type != provenanceType():
		return fmt.Errorf("cannot tell whose %v/%s is: it was found by a reference that it does not have", v.Type, v.ID)
	}
	return d.give(v.Type, d.line, d.reader.owners)
}

// give deals a line to its patients.
func (d *dealer) give(t fhir.TypeCode, text []byte, owners [][]byte) error {
	for _, owner := range owners {
		part := d.spill.partOf(owner)
		if !d.wanted[part] {
			continue
		}
		d.dealt++
		if err := d.spill.add(part, owner, t, text); err != nil {
			return err
		}
	}
	return nil
}

func (d *dealer) wait(t fhir.TypeCode) {
	l := waitingLine{typ: t, text: slices.Clone(d.line)}
	for _, owner := range d.reader.owners {
		l.owners = append(l.owners, slices.Clone(owner))
	}
	for _, key := range d.reader.others {
		l.others = append(l.others, keyText(key.Type, key.ID))
	}
	d.waiting = append(d.waiting, l)
	d.keys += len(l.others)
	d.bytes += int64(len(l.text))
}

// join looks up whose the waiting lines are, all together, and deals them. It is
// called without a turn.
func (d *dealer) join(ctx context.Context) error {
	waiting := d.waiting
	d.waiting, d.keys, d.bytes = nil, 0, 0
	if len(waiting) == 0 {
		return nil
	}
	owners := map[string][][]byte{}
	for _, l := range waiting {
		for _, key := range l.others {
			owners[key] = nil
		}
	}
	if err := d.lookUp(ctx, owners); err != nil {
		return fmt.Errorf("cannot look up whose resources are: %w", err)
	}
	if err := d.w.m.turns.take(ctx); err != nil {
		return err
	}
	defer d.w.m.turns.give()
	for _, l := range waiting {
		all := l.owners
		for _, key := range l.others {
			for _, owner := range owners[key] {
				all = addOwner(all, owner)
			}
		}
		if err := d.give(l.typ, l.text, all); err != nil {
			return err
		}
	}
	return nil
}

func addOwner(all [][]byte, owner []byte) [][]byte {
	if slices.ContainsFunc(all, func(known []byte) bool { return string(known) == string(owner) }) {
		return all
	}
	return append(all, owner)
}

// lookUp fills in whose the resources are that the keys of owners name.
func (d *dealer) lookUp(ctx context.Context, owners map[string][][]byte) error {
	keys := make([]engine.Key, 0, len(owners))
	for text := range owners {
		keys = append(keys, keyOf(text))
	}
	q := engine.ScanQuery{Of: []engine.ScanOf{{Where: anyKey(keys)}}, Versions: d.pass.owners.versions, AsOf: d.pass.query.AsOf}
	parts, err := d.w.snapshot.ScanParts(ctx, q)
	if err != nil {
		return err
	}
	for i := range parts {
		err := d.read(ctx, &parts[i], &d.joins, func(v *engine.Version) error {
			if err := d.reader.read(v); err != nil {
				return err
			}
			key := keyText(v.Type, v.ID)
			for _, owner := range d.reader.owners {
				owners[key] = addOwner(owners[key], slices.Clone(owner))
			}
			return nil
		}, func(uint64) {})
		if err != nil {
			return err
		}
	}
	return nil
}

// writeParts writes the files of the parts, each by one worker, who goes on with the
// next while they become durable.
func (w *exportWork) writeParts(ctx context.Context, s *spill) error {
	var next atomic.Int64
	ending := make(chan struct{}, exportClosingMax)
	group, ctx := errgroup.WithContext(ctx)
	for range min(w.m.opts.Workers, len(w.blocks), exportBlocksAtOnce) {
		group.Go(func() error {
			space := new(exportSpace)
			for i := next.Add(1) - 1; i < int64(len(w.blocks)); i = next.Add(1) - 1 {
				sink := w.newSink(w.blocks[i], space)
				if err := w.writePart(ctx, s, w.blocks[i], sink); err != nil {
					sink.abort()
					return err
				}
				ending <- struct{}{}
				group.Go(func() error {
					defer func() { <-ending }()
					return w.leave(ctx, w.blocks[i], sink, 1)
				})
			}
			return nil
		})
	}
	return group.Wait()
}

func (w *exportWork) writePart(ctx context.Context, s *spill, of *sectionWork, sink *exportSink) error {
	turn := exportTurn{turns: &w.m.turns, ctx: ctx}
	if err := turn.take(); err != nil {
		return err
	}
	defer turn.give()
	sink.rest = turn.rest
	defer func() { sink.rest = withoutTurn }()
	b := &blockWriter{sink: sink, wrote: w.count}
	err := b.blocks(ctx, s, of.number-1, w.blocksBytes())
	if err == nil {
		err = b.end(ctx)
	}
	w.count(uint64(b.asked))
	if err != nil {
		return fmt.Errorf("cannot export: %w", err)
	}
	return nil
}
