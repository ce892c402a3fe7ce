package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
	"kiln/wal"
)

// repairedRun is a run of the store that a repair makes.
type repairedRun struct {
	meta       index.RunMeta
	publishLSN uint64
	kind       ingestKind
	rank       index.RunID
	// known are the rows that were superseded as far as anybody knows; superseded are
	// those that are, which settleKeys finds out.
	known, superseded, void *roaring.Bitmap
	dir                     string // where the file is now
	run                     *index.Run
	lost                    *roaring.Bitmap // rows that are gaps
}

// chooseRuns finds out which runs are the store's: those that the checkpoint and the
// log name, and those of records that were lost, where something proves them.
func (p *repair) chooseRuns() error {
	files, err := p.runFiles()
	if err != nil {
		return err
	}
	p.nextRun = p.r.nextRun
	for id := range files {
		p.nextRun = max(p.nextRun, uint64(id)+1)
	}
	for _, id := range slices.Sorted(maps.Keys(files)) {
		if _, known := p.r.metas[id]; known {
			continue
		}
		adopted, err := p.adopt(id, files)
		if err != nil {
			return err
		}
		if !adopted {
			if err := p.setAside(path.Join(runsDir, runFileName(uint64(id))), "no record and no checkpoint names the run"); err != nil {
				return err
			}
		}
	}
	for id, rows := range p.r.lenient.purgedRows {
		if run := p.r.runs[id]; run != nil {
			run.purge(p.r.lastLSN, rows)
		}
	}
	return nil
}

func (p *repair) runFiles() (map[index.RunID]bool, error) {
	names, err := p.opts.FS.List(p.path(runsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list the runs: %w", err)
	}
	files := map[index.RunID]bool{}
	for _, name := range names {
		if id, ok := parseHexName(name, runSuffix); ok {
			files[index.RunID(id)] = true
		}
	}
	return files, nil
}

// adopt makes a run that no record names one of the store's, where a record that is
// damaged still shows its description, a later record names it, or it can only be
// what a merge made of runs of which one is gone. Nobody else's run has the hash of
// its description by chance.
func (p *repair) adopt(id index.RunID, files map[index.RunID]bool) (bool, error) {
	dir := p.path(runsDir)
	run, err := index.OpenRunAsItIs(p.opts.FS, dir, id)
	if err != nil {
		return false, refusal(err)
	}
	defer run.Close()
	meta := run.Meta()
	in := p.shownIn(meta)
	mentioned := p.r.lenient.mentioned[id] && !p.r.lenient.replaced[id]
	inputs, err := p.mergedInto(run, files, in != nil && in.typ == wal.TypeReplace || mentioned)
	if err != nil {
		return false, err
	}
	if inputs != nil {
		p.takeMerged(meta, inputs, in)
		return true, p.adopted(id, "a lost record put it in the place of others")
	}
	if !mentioned && !p.adoptAll && (in == nil || in.typ != wal.TypeIngest) || p.r.lenient.replaced[id] {
		return false, p.lateRows(run)
	}
	state, err := p.asPublished(run, in)
	if err != nil {
		return false, err
	}
	why := "a lost record published it: rows that a race took out are back"
	if p.adoptAll {
		why = "no checkpoint is left: whether it was the store's, when it was published, and what was purged of it is not known"
	}
	return true, joined(p.r.addRun(meta, state, p.r.lastLSN), func() error { return p.adopted(id, why) })
}

// lateRows reports an end of the log that is gone without a trace in the log: a run
// that nobody published has versions from there.
func (p *repair) lateRows(run *index.Run) error {
	last, err := highestLSN(run)
	if err != nil || last <= max(p.r.lastLSN, p.lastLSN) {
		return err
	}
	from := p.r.lastLSN + 1
	p.lastLSN = last
	return p.lostRecords(from, 0, p.path(logDir), 0, fmt.Sprintf("the log ends before LSN %d, of which run %016x has a version", last, uint64(run.Meta().ID)))
}

// highestLSN is that of the rows that can be read.
func highestLSN(run *index.Run) (last uint64, err error) {
	for it := run.Live().Iterator(); it.HasNext(); {
		row, err := run.Row(index.Ordinal(it.Next()))
		var damage *vfs.CorruptError
		if errors.As(err, &damage) {
			continue
		}
		if err != nil {
			return 0, err
		}
		last = max(last, row.LSN)
	}
	return last, nil
}

func (p *repair) adopted(id index.RunID, why string) error {
	return p.report(Finding{Kind: FoundDoubt, File: path.Join(p.path(runsDir), runFileName(uint64(id))), What: "the run is taken for the store's: " + why})
}

// shownIn is the damaged record that holds a run's description; nil: none does.
func (p *repair) shownIn(meta index.RunMeta) *damagedRecord {
	description := appendRunMeta(nil, meta)
	for i := range p.damaged {
		if bytes.Contains(p.damaged[i].payload, description) {
			return &p.damaged[i]
		}
	}
	return nil
}

// mergedInto is the neighbours that a merged run can only be made of: together they
// have what is in it, and one's file is gone, or there is other proof.
func (p *repair) mergedInto(run *index.Run, files map[index.RunID]bool, proof bool) ([]index.RunID, error) {
	meta := run.Meta()
	byAge := p.byAge()
	for from := range byAge {
		rows, gone := uint64(0), proof
		for to := from; to < len(byAge) && rows < uint64(meta.Rows); to++ {
			id := byAge[to]
			if p.r.runs[id].fromFlush() != p.r.runs[byAge[from]].fromFlush() {
				break
			}
			rows += uint64(p.r.metas[id].Rows)
			gone = gone || !files[id]
			if inputs := byAge[from : to+1]; rows == uint64(meta.Rows) && gone && p.couldBecome(meta, inputs) {
				if same, err := p.hasRowsOf(run, inputs, files); same || err != nil {
					return inputs, err
				}
			}
		}
	}
	return nil, nil
}

// couldBecome tells whether a merge of these runs can have made a run with that meta.
// As many rows alone are no proof: what a crash left of an import that never was may
// have them by chance. A merge keeps each row's time and body, and leaves out only
// those that are void.
func (p *repair) couldBecome(meta index.RunMeta, ids []index.RunID) bool {
	all, void := index.RunMeta{}, uint64(0)
	for _, id := range ids {
		if id > meta.ID { // it was begun later
			return false
		}
		one := p.r.metas[id]
		if one.Live > 0 && (all.Live == 0 || one.MilliMin < all.MilliMin) {
			all.MilliMin = one.MilliMin
		}
		if one.Live > 0 && (all.Live == 0 || one.MilliMax > all.MilliMax) {
			all.MilliMax = one.MilliMax
		}
		if rows := p.r.runs[id].voidAt(math.MaxUint64); rows != nil {
			void += rows.GetCardinality()
		}
		all.Live += one.Live
		all.BodyBytesRaw += one.BodyBytesRaw
	}
	switch {
	case meta.Live == all.Live:
		return meta.MilliMin == all.MilliMin && meta.MilliMax == all.MilliMax && meta.BodyBytesRaw == all.BodyBytesRaw
	case meta.Live > all.Live || p.firstLost == 0 && uint64(all.Live-meta.Live) > void: // no record of a purge is lost
		return false
	case meta.Live == 0:
		return meta.BodyBytesRaw <= all.BodyBytesRaw
	}
	return meta.MilliMin >= all.MilliMin && meta.MilliMax <= all.MilliMax && meta.BodyBytesRaw <= all.BodyBytesRaw
}

// hasRowsOf tells whether the rows of a run, as far as they can be read, are those that
// a merge of these runs makes: with the LSNs that it gives them, those of an import have
// its own, and each that lies in a file which is still there is the same in it.
func (p *repair) hasRowsOf(run *index.Run, ids []index.RunID, files map[index.RunID]bool) (same bool, err error) {
	base := uint32(0)
	for _, id := range ids {
		end := base + p.r.metas[id].Rows
		var input *index.Run
		if files[id] {
			if input, err = index.OpenRunAsItIs(p.opts.FS, p.path(runsDir), id); refusal(err) != nil {
				return false, refusal(err)
			}
		}
		same, err := p.hasRowsFrom(run, base, end, p.r.runs[id], input)
		if input != nil {
			err = errors.Join(err, input.Close())
		}
		if !same || err != nil {
			return false, err
		}
		base = end
	}
	return true, nil
}

// hasRowsFrom does it for the rows of one input, which is nil where it cannot be read.
func (p *repair) hasRowsFrom(run *index.Run, base, end uint32, from *runState, input *index.Run) (same bool, err error) {
	var damage *vfs.CorruptError
	it := run.Live().Iterator()
	for it.AdvanceIfNeeded(base); it.HasNext() && it.PeekNext() < end; {
		ordinal := it.Next()
		row, err := run.Row(index.Ordinal(ordinal))
		if errors.As(err, &damage) {
			continue
		}
		if err != nil {
			return false, err
		}
		if row.LSN > from.publishLSN || from.kind == ingestImport && row.LSN != 0 && row.LSN != from.publishLSN {
			return false, nil
		}
		if input == nil {
			continue
		}
		theirs, err := input.Row(index.Ordinal(ordinal - base))
		switch {
		case errors.As(err, &damage):
		case errors.Is(err, index.ErrNoRow): // the input dropped it
			return false, nil
		case err != nil:
			return false, err
		case theirs.Type != row.Type || theirs.VersionID != row.VersionID || theirs.LastUpdated != row.LastUpdated || theirs.Flags != row.Flags:
			return false, nil
		}
	}
	return true, nil
}

// byAge is the ids of the store's runs in the order of compareRuns.
func (p *repair) byAge() []index.RunID {
	return slices.SortedFunc(maps.Keys(p.r.runs), func(a, b index.RunID) int { return compareRuns(p.r.runs[a], p.r.runs[b]) })
}

func (p *repair) takeMerged(meta index.RunMeta, ids []index.RunID, in *damagedRecord) {
	var inputs []*runState
	var rows []uint32
	for _, id := range ids {
		inputs, rows = append(inputs, p.r.runs[id]), append(rows, p.r.metas[id].Rows)
	}
	lsn := p.r.lastLSN
	if in != nil {
		lsn = in.lsn
	}
	state := mergedState(inputs, rows, nil, lsn)
	for _, id := range ids {
		delete(p.r.runs, id)
		delete(p.r.metas, id)
	}
	p.r.runs[meta.ID], p.r.metas[meta.ID] = state, meta
}

// asPublished is the state of a run whose INGEST is lost. Rows without an LSN of
// their own are an import's; only the head's rows say how they were written.
func (p *repair) asPublished(run *index.Run, in *damagedRecord) (*checkpointRun, error) {
	own, written, last := false, false, uint64(0)
	for it := run.Live().Iterator(); it.HasNext(); {
		row, err := run.Row(index.Ordinal(it.Next()))
		var damage *vfs.CorruptError
		if errors.As(err, &damage) {
			continue
		}
		if err != nil {
			return nil, err
		}
		own, last = own || row.LSN != 0, max(last, row.LSN)
		written = written || row.Flags&(index.FlagCreated|index.FlagPosted) != 0
	}
	state := &checkpointRun{publishLSN: p.firstLost, kind: ingestImport, rank: run.Meta().ID}
	if in != nil {
		state.publishLSN = in.lsn
	}
	switch {
	case own && (!p.adoptAll || written):
		state.kind = ingestFlush
	case own:
		state.kind = ingestMerged
	}
	if state.publishLSN = max(state.publishLSN, last, 1); p.adoptAll {
		p.firstLost = state.publishLSN // runs are numbered in the order in which they were begun
	}
	return state, nil
}

// setAside plans to move a file into the folder.
func (p *repair) setAside(name, why string) error {
	p.plan.aside = append(p.plan.aside, name)
	return p.report(Finding{Kind: FoundSetAside, File: p.path(name), What: why})
}

// writeRuns keeps the runs that are sound and writes the others anew.
func (p *repair) writeRuns() error {
	floor := uint64(1)
	for _, id := range p.byAge() {
		state, meta := p.r.runs[id], p.r.metas[id]
		x := &repairedRun{
			meta: meta, publishLSN: state.publishLSN, kind: state.kind, rank: state.rank,
			known: state.superseded(p.lastLSN), void: state.voidAt(p.lastLSN), dir: p.path(runsDir),
		}
		whole, err := p.isWhole(x)
		if err == nil && !whole {
			err = p.writeAnew(x, floor)
		}
		if err != nil {
			return err
		}
		floor = state.publishLSN
	}
	return nil
}

// isWhole takes a run as it is when it is sound and has no terms of fields that are
// lost, whose numbers others will get.
func (p *repair) isWhole(x *repairedRun) (bool, error) {
	run, err := index.OpenRun(p.opts.FS, x.dir, x.meta, 0, p.r.cache)
	if err != nil {
		return false, refusal(err)
	}
	sound := run.Custom() <= len(p.r.fields)
	if err := run.Close(); err != nil {
		return false, err
	}
	report := func(*vfs.CorruptError) { sound = false }
	err = index.Verify(p.ctx, p.opts.FS, x.dir, x.meta.ID, report)
	if sound && err == nil && p.opts.Terms {
		err = index.VerifyTerms(p.ctx, p.opts.FS, x.dir, x.meta.ID, p.r.fields, report)
	}
	if sound && err == nil {
		p.runs = append(p.runs, x)
	}
	return sound && err == nil, err
}

// writeAnew salvages a damaged run into one new one.
func (p *repair) writeAnew(x *repairedRun, floor uint64) error {
	name := path.Join(runsDir, runFileName(uint64(x.meta.ID)))
	if _, err := p.opts.FS.Stat(p.path(name)); errors.Is(err, fs.ErrNotExist) {
		return p.lostRecords(0, 0, p.path(name), 0, fmt.Sprintf("the file is gone, with %d versions", x.meta.Live))
	}
	extraction, err := p.opts.newExtraction(p.r.fields)
	if err != nil {
		return err
	}
	out := path.Join(p.path(repairTemp), runsDir)
	var failed error
	pieces, err := index.Salvage(p.ctx, index.SalvageOptions{
		FS: sealed.Lenient(p.opts.FS), Dir: x.dir, ID: x.meta.ID, Meta: &x.meta, Out: out, NewID: p.newID, MemoryBytes: p.opts.memoryBytes,
		Extraction: extraction, Pool: p.opts.builders, Void: x.void, Superseded: x.known, OwnLSN: x.kind != ingestImport, FloorLSN: floor,
		Lost: func(v index.LostVersion) { failed = errors.Join(failed, p.lostRow(name, v)) },
		Doubt: func(d index.Doubtful) {
			failed = errors.Join(failed, p.report(Finding{Kind: FoundDoubt, File: p.path(name), Type: d.Type.String(), ID: string(d.ID), Version: d.VersionID, What: d.What}))
		},
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	x.dir, x.void = out, nil
	if err := p.join(x, pieces); err != nil {
		return err
	}
	if len(pieces) > 0 {
		p.addNew(x)
		what := "a run of the versions that are left"
		err = p.report(Finding{Kind: FoundRebuilt, File: p.path(path.Join(runsDir, runFileName(uint64(x.meta.ID)))), What: what})
	}
	return joined(err, func() error { return p.setAside(name, "the run is damaged") })
}

func (p *repair) lostRow(name string, v index.LostVersion) error {
	f := Finding{Kind: FoundLost, File: p.path(name), What: "its content lay in a damaged block"}
	if v.Known {
		f.Type, f.ID, f.Version = v.Type.String(), string(v.ID), v.VersionID
	} else {
		f.What = fmt.Sprintf("row %d of the run; which version that was is not known", v.Ordinal)
	}
	return p.report(f)
}

func (p *repair) newID() index.RunID {
	p.nextRun++
	return index.RunID(p.nextRun - 1)
}

// addNew takes up a run that was written, and plans where it goes.
func (p *repair) addNew(x *repairedRun) {
	p.runs = append(p.runs, x)
	name := path.Join(runsDir, runFileName(uint64(x.meta.ID)))
	p.plan.moves = append(p.plan.moves, move{from: path.Join(repairTemp, name), to: name})
}

// join makes one run of the pieces, which is ordered among the others as the damaged
// one was.
func (p *repair) join(x *repairedRun, pieces []index.SalvagedRun) error {
	x.known = roaring.New()
	if len(pieces) == 0 {
		return nil
	}
	rows := uint32(0)
	var inputs []index.MergeInput
	defer func() {
		for _, in := range inputs {
			_ = in.Run.Close() // only read from
		}
	}()
	for _, piece := range pieces {
		x.known.Or(roaring.AddOffset(piece.Superseded, rows))
		rows += piece.Meta.Rows
		if len(pieces) == 1 {
			x.meta = piece.Meta
			return nil
		}
		run, err := index.OpenRun(p.opts.FS, x.dir, piece.Meta, 0, p.r.cache)
		if err != nil {
			return err
		}
		inputs = append(inputs, index.MergeInput{Run: run, PublishLSN: x.publishLSN})
	}
	meta, err := index.Merge(p.ctx, index.MergeOptions{FS: p.opts.FS, Dir: x.dir, ID: p.newID(), Inputs: inputs})
	if err != nil {
		return err
	}
	x.meta = meta
	for _, piece := range pieces {
		if err := p.opts.FS.Remove(path.Join(x.dir, runFileName(uint64(piece.Meta.ID)))); err != nil {
			return fmt.Errorf("cannot remove a piece of a run: %w", err)
		}
	}
	return nil
}
