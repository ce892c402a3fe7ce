package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// A repair in steps, and what a crash after each leaves:
//
//  1. What is left is read: the newest sound checkpoint, every whole record of the
//     log, every whole block of damaged runs. (Nothing has changed.)
//  2. What must be written anew is written below repair.tmp: runs in the place of
//     damaged ones, a run of the head's versions, one of gaps, a checkpoint. (The
//     next repair removes it and begins again.)
//  3. REPAIR, a list of renames, is made durable. (From here on no store opens
//     before a repair has done what it says.)
//  4. Damaged files and the old log go to damaged-LSN, a new log begins behind the
//     LSN, new files take their places. REPAIR goes last. (Done again as a whole.)
//
// A version that is lost and known stays as a gap: a row with FlagLost. Reading it is
// ErrLost, and not an older version; a write goes on from its number.

// RepairOptions are explicit. FS, Dir and NewID are required.
type RepairOptions struct {
	FS    vfs.FS
	Dir   string
	NewID func() uint64
	// DryRun tells what would be done, and leaves nothing behind.
	DryRun bool
	// Terms makes runs anew whose search terms are not those of their bodies.
	Terms bool
	// Report is told what is found, in that order.
	Report func(Finding) error
	// Encode gives a finding as a line of the report file; nil: no such file.
	Encode func(Finding) ([]byte, error)
	// SegmentBytes of the new log; 0: the default.
	SegmentBytes int64
	memoryBytes  int64 // in tests: of a run that is built
	// newExtraction and builders are as in Options.
	newExtraction func([]*search.Field) (*index.Extraction, error)
	builders      *index.BuilderPool
}

// FindingKind says what a Finding is.
type FindingKind string

// The kinds.
const (
	FoundDamage      FindingKind = "damage"       // as fsck tells
	FoundLost        FindingKind = "lost"         // a version that is not there any more
	FoundLostRecords FindingKind = "lost-records" // what records in the log did; which versions is not known beyond what others tell
	FoundDoubt       FindingKind = "doubt"        // something may not be as it was
	FoundRebuilt     FindingKind = "rebuilt"      // a file was made anew, with all that it had but for what is told
	FoundSetAside    FindingKind = "set-aside"    // a file was moved to where What says
)

// Finding is a line of a repair's report. Fields that do not apply are zero.
type Finding struct {
	Kind           FindingKind
	File           string
	Offset         int64
	Type, ID       string
	Version        int64
	FromLSN, ToLSN uint64 // ToLSN 0: nobody knows the last
	What           string
}

// RepairSummary counts what a repair found.
type RepairSummary struct {
	Sound   bool // there was nothing to do
	Resumed bool // an interrupted repair was ended
	Damages int
	// Lost are versions that are known to be lost, LostRecords stretches of the log.
	Lost, LostRecords, Doubts int
	Versions                  uint64 // that the store has now
	SetAside                  string // the folder; "": none
	// Ended is the folder of the repair that was ended, with its report; "": there was none.
	Ended string
}

// ErrRepairUnfinished refuses a directory in which a repair was interrupted.
var ErrRepairUnfinished = errors.New("a repair of the data directory was interrupted; run kiln repair again")

// Repair makes a store that opens of a damaged data directory that no server has
// open. It deletes nothing that was damaged.
func Repair(ctx context.Context, opts RepairOptions) (RepairSummary, error) {
	if opts.FS == nil || opts.Dir == "" || opts.NewID == nil {
		return RepairSummary{}, errors.New("cannot repair: FS, Dir and NewID are required")
	}
	if opts.Report == nil {
		opts.Report = func(Finding) error { return nil }
	}
	if opts.newExtraction == nil {
		opts.newExtraction = index.NewExtraction
	}
	if opts.builders == nil {
		opts.builders = new(index.BuilderPool)
	}
	p := &repair{ctx: ctx, opts: opts}
	if err := p.recognise(); err != nil {
		return p.summary, err
	}
	if err := p.unlock(); err != nil {
		return p.summary, fmt.Errorf("cannot repair %q: %w", opts.Dir, err)
	}
	lock, err := lockDir(opts.FS, opts.Dir)
	if err != nil {
		return p.summary, err
	}
	err = p.run()
	return p.summary, errors.Join(err, lock.Close())
}

// repair is one Repair.
type repair struct {
	ctx     context.Context
	opts    RepairOptions
	summary RepairSummary
	lines   []byte // of the report file

	format       formatFile
	formatWhole  bool
	noCheckpoint bool // none is sound
	distrusted   bool // the newest is not what the one before and the log give
	rivals       rivals
	adoptAll     bool // and the log does not reach back to the beginning
	firstLost    uint64
	r            *recovery
	lastLSN      uint64 // the highest seen
	damaged      []damagedRecord
	gaps         []gapVersion
	runs         []*repairedRun // by age, then what is written for the head and gaps
	catalogLost  bool
	nextRun      uint64
	versions     uint64
	plan         repairPlan
}

func (p *repair) path(name string) string { return path.Join(p.opts.Dir, name) }

// recognise refuses what is no data directory: locking makes a file.
func (p *repair) recognise() error {
	names, err := p.opts.FS.List(p.opts.Dir)
	if err != nil {
		return fmt.Errorf("cannot repair %q: %w", p.opts.Dir, err)
	}
	if slices.Contains(names, restoringName) {
		return fmt.Errorf("cannot repair %q: %w", p.opts.Dir, ErrUnfinished)
	}
	if slices.Contains(names, formatName) || slices.Contains(names, repairName) ||
		slices.Contains(names, logDir) && slices.Contains(names, checkpointsDir) {
		return nil
	}
	return fmt.Errorf("cannot repair %q: %w", p.opts.Dir, ErrForeign)
}

// unlock refuses to take what is encrypted for damage: every key must be there, those
// that files name where FORMAT does not tell.
func (p *repair) unlock() error {
	name, keys := p.path(formatName), sealed.KeysOf(p.opts.FS)
	data, err := vfs.ReadFile(p.opts.FS, name, formatBytesMax)
	var format formatFile
	if err == nil {
		format, err = parseFormatFile(name, data)
	}
	if err == nil {
		p.opts.FS = format.strictly(p.opts.FS)
		return format.unlock(p.opts.Dir, keys)
	}
	for _, dir := range []string{runsDir, checkpointsDir} {
		names, err := p.opts.FS.List(p.path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, base := range names {
			stored, err := sealed.Inspect(sealed.Inner(p.opts.FS), path.Join(p.path(dir), base))
			switch {
			case err != nil || stored.Plain || keys.Has(stored.Key):
			case keys == nil:
				return fmt.Errorf("%w: %q needs key %s", ErrEncrypted, base, stored.Key)
			default:
				return fmt.Errorf("%w: %q needs key %s", sealed.ErrKey, base, stored.Key)
			}
		}
	}
	return nil
}

func (p *repair) run() error {
	resumed, err := p.resume()
	if err != nil {
		return err
	}
	p.summary.Resumed = resumed
	if err := p.opts.FS.RemoveAll(p.path(repairTemp)); err != nil {
		return fmt.Errorf("cannot remove what an interrupted repair left: %w", err)
	}
	if err := p.identify(); err != nil {
		return err
	}
	if err := p.survey(); err != nil {
		return err
	}
	if p.summary.Damages == 0 {
		p.summary.Sound = true
		return p.discard()
	}
	err = p.rebuild()
	p.closeRuns()
	if err == nil && !p.opts.DryRun {
		err = p.commit()
	}
	if err != nil || p.opts.DryRun {
		err = errors.Join(err, p.discard())
	}
	return err
}

// discard removes what was written, unless REPAIR already says where it goes.
func (p *repair) discard() error {
	if _, err := p.opts.FS.Stat(p.path(repairName)); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return p.opts.FS.RemoveAll(p.path(repairTemp))
}

// identify reads FORMAT, or finds the store's id in a checkpoint.
func (p *repair) identify() error {
	var err error
	name := p.path(formatName)
	data, err := vfs.ReadFile(p.opts.FS, name, formatBytesMax)
	if err == nil {
		p.format, err = parseFormatFile(name, data)
	}
	if err == nil {
		p.formatWhole = true
		return nil
	}
	if errors.Is(err, ErrNewerFormat) {
		if ids := storeIDs(p.opts.FS, p.path(checkpointsDir)); len(ids) == 0 {
			return err
		}
	}
	if found := p.report(Finding{Kind: FoundDamage, File: name, What: problemOf(err).What}); found != nil {
		return found
	}
	ids := storeIDs(p.opts.FS, p.path(checkpointsDir))
	if len(ids) == 0 {
		p.format.storeID = p.opts.NewID()
		return nil
	}
	p.format.storeID = ids[len(ids)-1]
	return nil
}

// storeIDs are those of the sound checkpoints in a directory, the newest last.
func storeIDs(fsys vfs.FS, dir string) (ids []uint64) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil
	}
	for _, base := range names {
		if _, ok := parseHexName(base, checkpointSuffix); !ok {
			continue
		}
		name := path.Join(dir, base)
		if data, err := vfs.ReadFile(fsys, name, checkpointBytesMax); err == nil {
			if c, err := parseCheckpoint(name, data); err == nil {
				ids = append(ids, c.storeID)
			}
		}
	}
	return ids
}

// survey finds what is damaged, as fsck does.
func (p *repair) survey() error {
	f := &fsck{fs: p.opts.FS, dir: p.opts.Dir, temp: p.path(repairTemp), terms: p.opts.Terms, report: func(problem Problem) {
		p.catalogLost = p.catalogLost || strings.HasPrefix(problem.File, p.path(catalogDir)) || problem.File == p.path(catalogMarkName)
		if err := p.report(Finding{Kind: FoundDamage, File: problem.File, Offset: problem.Offset, What: problem.What}); err != nil {
			p.plan.err = errors.Join(p.plan.err, err)
		}
	}}
	err := f.check(p.ctx, p.format)
	p.distrusted = f.disagrees
	var corrupt *vfs.CorruptError
	if errors.As(err, &corrupt) {
		f.report(problemOf(err))
		err = nil
	}
	return errors.Join(err, p.plan.err)
}

// report tells a finding, and counts it.
func (p *repair) report(f Finding) error {
	switch f.Kind {
	case FoundDamage:
		p.summary.Damages++
	case FoundLost:
		p.summary.Lost++
	case FoundLostRecords:
		p.summary.LostRecords++
	case FoundDoubt:
		p.summary.Doubts++
	}
	if p.opts.Encode != nil {
		line, err := p.opts.Encode(f)
		if err != nil {
			return fmt.Errorf("cannot write the report: %w", err)
		}
		p.lines = append(append(p.lines, line...), '\n')
	}
	if err := p.opts.Report(f); err != nil {
		return fmt.Errorf("cannot report: %w", err)
	}
	return nil
}

func (p *repair) lostRecords(from, to uint64, file string, offset int64, what string) error {
	if p.firstLost == 0 {
		p.firstLost = from
	}
	return p.report(Finding{Kind: FoundLostRecords, File: file, Offset: offset, FromLSN: from, ToLSN: to, What: what})
}

// refusal is an error that a repair cannot go on from: a newer format, say.
func refusal(err error) error {
	if errors.Is(err, ErrNewerFormat) || errors.Is(err, index.ErrNewerFormat) || errors.Is(err, context.Canceled) || errors.Is(err, sealed.ErrKey) {
		return err
	}
	return nil
}

// rebuild reads what is left and writes what is needed below repair.tmp.
func (p *repair) rebuild() error {
	p.r = &recovery{fs: sealed.Lenient(p.opts.FS), dir: p.opts.Dir, cache: index.NewCache(fsckCacheBytes), lenient: newLeniency()}
	if err := p.loadCheckpoint(); err != nil {
		return err
	}
	if err := p.distrust(); err != nil {
		return err
	}
	if err := p.r.begin(); err != nil {
		return err
	}
	for _, step := range []func() error{p.readLog, p.settleRivals, p.chooseRuns, p.makeDirs, p.writeRuns, p.writeHead, p.settleKeys, p.writeGaps, p.writeCheckpoint} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// loadCheckpoint takes the newest sound checkpoint, or none.
func (p *repair) loadCheckpoint() error {
	_, err := p.r.loadCheckpoint(p.format.storeID)
	if errors.Is(err, ErrNewerFormat) {
		return err
	}
	if len(p.r.checkpoints) > 0 {
		return nil
	}
	p.noCheckpoint = true
	p.r.checkpoint = checkpointFile{storeID: p.format.storeID, nextRun: 1}
	return nil
}

func (p *repair) makeDirs() error {
	p.pruneGaps()
	p.lastLSN = max(p.lastLSN, p.r.lastLSN) + repairLSNGap
	return p.opts.FS.MkdirAll(path.Join(p.path(repairTemp), runsDir))
}

// repairLSNGap lies between the highest LSN that is left and the next one: LSNs that
// were given out, and of which nothing is left, are not given again.
const repairLSNGap = 1 << 20
