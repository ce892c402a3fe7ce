package engine

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"kiln/internal/vfs"
	"kiln/wal"
)

// The REPAIR file says what is left to do of a repair, in lines:
//
//	kiln-repair 1
//	store <store id, 16 hex digits>
//	lsn <the LSN that the store is at, decimal>
//	aside <file>          a file that goes to the folder, each
//	move <file> <file>    a new file that takes its place, each
//	<CRC32C of the lines above, 8 hex digits>
//
// Files are named from the data directory; no name has a space in it. What is done
// already shows in the files, so that all of it can be done again.
const (
	repairName    = "REPAIR"
	repairTemp    = "repair.tmp"
	damagedPrefix = "damaged-"
	// RepairReportName is the report in the folder of what was set aside.
	RepairReportName = "report.ndjson"
	repairWord       = "kiln-repair 1"
	// repairBytesMax is far above a million lines.
	repairBytesMax = 256 << 20
)

// repairPlan is what REPAIR says.
type repairPlan struct {
	storeID uint64
	lsn     uint64
	aside   []string
	moves   []move
	err     error // of reporting, while it is made
}

type move struct{ from, to string }

// folder is where damaged files go.
func (p *repairPlan) folder() string { return damagedPrefix + strconv.FormatUint(p.lsn, 10) }

func (p *repairPlan) marshal() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nstore %016x\nlsn %d\n", repairWord, p.storeID, p.lsn)
	for _, name := range p.aside {
		fmt.Fprintf(&b, "aside %s\n", name)
	}
	for _, m := range p.moves {
		fmt.Fprintf(&b, "move %s %s\n", m.from, m.to)
	}
	text := b.String()
	return []byte(text + fmt.Sprintf("%08x\n", crc32.Checksum([]byte(text), castagnoli)))
}

func parseRepairPlan(name string, data []byte) (repairPlan, error) {
	var p repairPlan
	lines := strings.Split(string(data), "\n")
	for _, line := range lines {
		words := strings.Split(line, " ")
		switch {
		case len(words) == 2 && words[0] == "store":
			p.storeID, _ = strconv.ParseUint(words[1], 16, 64)
		case len(words) == 2 && words[0] == "lsn":
			p.lsn, _ = strconv.ParseUint(words[1], 10, 64)
		case len(words) == 2 && words[0] == "aside":
			p.aside = append(p.aside, words[1])
		case len(words) == 3 && words[0] == "move":
			p.moves = append(p.moves, move{from: words[1], to: words[2]})
		}
	}
	if string(p.marshal()) != string(data) {
		return p, &vfs.CorruptError{File: name, What: "not a valid list of what a repair has to do"}
	}
	return p, nil
}

// resume ends a repair that was interrupted behind its step 3.
func (p *repair) resume() (bool, error) {
	name := p.path(repairName)
	data, err := vfs.ReadFile(p.opts.FS, name, repairBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if p.opts.DryRun {
		return false, ErrRepairUnfinished
	}
	if p.plan, err = parseRepairPlan(name, data); err != nil {
		return false, err
	}
	p.summary.SetAside = p.path(p.plan.folder())
	p.summary.Ended = p.summary.SetAside
	err = p.perform()
	p.plan = repairPlan{}
	return true, err
}

// writeCheckpoint ends step 2: the state of the repaired store.
func (p *repair) writeCheckpoint() error {
	c := checkpointFile{
		storeID: p.format.storeID, lsn: p.lastLSN, flushed: p.lastLSN, clock: p.r.clock, nextRun: p.nextRun,
		progress: p.r.progress, fields: p.r.fields,
	}
	for _, x := range p.runs {
		x.superseded.RunOptimize()
		c.runs = append(c.runs, checkpointRun{
			meta: x.meta, publishLSN: x.publishLSN, kind: x.kind, rank: x.rank, superseded: x.superseded, void: x.void,
		})
	}
	data, err := c.marshal()
	if err != nil {
		return err
	}
	name := checkpointFileName(p.lastLSN)
	p.plan.moves = append(p.plan.moves, move{from: path.Join(repairTemp, name), to: path.Join(checkpointsDir, name)})
	return vfs.WriteFileAtomic(p.opts.FS, path.Join(p.path(repairTemp), name), data)
}

// commit makes REPAIR, and does what it says.
func (p *repair) commit() error {
	p.plan.storeID, p.plan.lsn = p.format.storeID, p.lastLSN
	p.summary.SetAside, p.summary.Versions = p.path(p.plan.folder()), p.versions
	if err := p.planOldFiles(); err != nil {
		return err
	}
	if p.opts.Encode != nil {
		from := path.Join(repairTemp, RepairReportName)
		if err := vfs.WriteFileAtomic(p.opts.FS, p.path(from), p.lines); err != nil {
			return err
		}
		p.plan.moves = append(p.plan.moves, move{from: from, to: path.Join(p.plan.folder(), RepairReportName)})
	}
	temp := p.path(repairTemp)
	err := errors.Join(p.opts.FS.SyncDir(path.Join(temp, runsDir)), p.opts.FS.SyncDir(temp))
	if err == nil {
		err = vfs.WriteFileAtomic(p.opts.FS, p.path(repairName), p.plan.marshal())
	}
	if err != nil {
		return fmt.Errorf("cannot write what the repair has to do: %w", err)
	}
	return p.perform()
}

// planOldFiles sets the log, the checkpoints and what else is not used any more aside.
func (p *repair) planOldFiles() error {
	dirs := []string{logDir, checkpointsDir}
	if p.catalogLost {
		dirs = append(dirs, catalogDir)
		if err := p.report(Finding{Kind: FoundLost, File: p.path(catalogDir), What: "the registrations and results of import and export jobs"}); err != nil {
			return err
		}
	}
	for _, dir := range dirs {
		names, err := p.opts.FS.List(p.path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot list %q: %w", p.path(dir), err)
		}
		for _, name := range names {
			p.plan.aside = append(p.plan.aside, path.Join(dir, name))
		}
	}
	if _, err := p.opts.FS.Stat(p.path(catalogMarkName)); err == nil && p.catalogLost {
		p.plan.aside = append(p.plan.aside, catalogMarkName)
	}
	if _, err := p.opts.FS.Stat(p.path(formatName)); err == nil && !p.formatWhole {
		p.plan.aside = append(p.plan.aside, formatName)
	}
	return nil
}

// perform is step 4. Each part is durable before the next begins, and is left out
// where it was done before.
func (p *repair) perform() error {
	for _, step := range []func() error{p.moveAside, p.makeFormat, p.makeLog, p.moveIn, p.tidy} {
		if err := step(); err != nil {
			return fmt.Errorf("cannot finish the repair: %w", err)
		}
	}
	return nil
}

func (p *repair) moveAside() error {
	for _, dir := range []string{logDir, runsDir, checkpointsDir} {
		if err := p.opts.FS.MkdirAll(p.path(dir)); err != nil {
			return err
		}
	}
	var moves []move
	for _, name := range p.plan.aside {
		moves = append(moves, move{from: name, to: path.Join(p.plan.folder(), name)})
	}
	return p.moveAll(moves)
}

func (p *repair) moveIn() error { return p.moveAll(p.plan.moves) }

// moveAll renames files, and makes it durable. One that stands where it goes was
// moved before.
func (p *repair) moveAll(moves []move) error {
	dirs := map[string]bool{}
	for _, m := range moves {
		from, to := p.path(m.from), p.path(m.to)
		dirs[path.Dir(from)], dirs[path.Dir(to)] = true, true
		if err := p.opts.FS.MkdirAll(path.Dir(to)); err != nil {
			return err
		}
		if _, err := p.opts.FS.Stat(to); err == nil {
			continue
		}
		if err := p.opts.FS.Rename(from, to); err != nil {
			return err
		}
	}
	names := make([]string, 0, len(dirs))
	for dir := range dirs {
		names = append(names, dir)
	}
	slices.Sort(names)
	for _, dir := range names {
		if err := p.opts.FS.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// makeFormat writes FORMAT, if it was damaged.
func (p *repair) makeFormat() error {
	name := p.path(formatName)
	if _, err := p.opts.FS.Stat(name); err == nil {
		return nil
	}
	return vfs.WriteFileAtomic(p.opts.FS, name, salvagedFormat(p.plan.storeID, p.opts.FS).marshal())
}

// makeLog begins a log behind the LSN.
func (p *repair) makeLog() error {
	log, err := wal.Open(context.WithoutCancel(p.ctx), wal.Options{
		FS: p.opts.FS, Dir: p.path(logDir), SegmentBytes: p.opts.SegmentBytes, PrepareInline: true,
		NewID: func() uint32 { return uint32(p.opts.NewID()) },
	}, wal.LSN(p.plan.lsn+1), func(wal.Record) error { return nil })
	if err != nil {
		return err
	}
	return log.Close()
}

// tidy removes what the repair was made of.
func (p *repair) tidy() error {
	if err := p.opts.FS.RemoveAll(p.path(repairTemp)); err != nil {
		return err
	}
	if err := p.opts.FS.SyncDir(p.opts.Dir); err != nil {
		return err
	}
	if err := p.opts.FS.Remove(p.path(repairName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.opts.FS.SyncDir(p.opts.Dir)
}
