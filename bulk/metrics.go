package bulk

import (
	"sync/atomic"
	"time"
)

// Metrics counts what the imports of this process did, stage by stage. What is
// read and scanned counts when it happens, again when a job repeats a round;
// what became of the lines counts when its round is published.
type Metrics struct {
	StoredBytes  uint64 // read from inputs, as stored
	ScannedBytes uint64 // decompressed
	Lines        uint64 // scanned, empty ones left out
	Loaded       uint64
	Refused      []RefusedLines // every reason there is
	Rounds       uint64         // published
	Runs         uint64         // published
	// Error files of blob inputs: copied to the account, or refused by it and
	// kept here only.
	ErrorFilesStored, ErrorFilesKept uint64
	// Time on the clock of a round's stages; scanning includes waiting for input.
	Scan, Resolve, Seal, Publish time.Duration
	// Time that jobs did nothing but wait: for bytes of an input (or for room to
	// read a long line), for a turn at the cores (all workers together, those of
	// exports too), for the store to let a round begin.
	WaitSource, WaitTurn, WaitStore time.Duration

	ImportsRunning, ImportsWaiting int
	ExportsRunning, ExportsWaiting int

	// What exports wrote; lines count when they are read, again when a section
	// is repeated, bytes when their file is durable.
	ExportedLines, ExportedBytes    uint64
	ExportsCompleted, ExportsFailed uint64
	ExportsExpired                  uint64 // removed since nobody deleted them
	// Time that workers of exports did nothing but wait, all together: for a turn at
	// the cores (in WaitTurn too), for the blob account to take blocks, for files to
	// become durable.
	ExportWaitTurn, ExportWaitAccount, ExportWaitDurable time.Duration
	ExportAccountStalls                                  uint64 // how often a worker waited for the account
	// Blocks for the blob account: those that it took, those of them that became part
	// of a file, those that are sent or wait for it now.
	BlocksStaged, BlocksCommitted, BlocksWaiting uint64
	BlockBytesStaged, BlockBytesWaiting          uint64
}

// RefusedLines is how many lines were refused for a reason.
type RefusedLines struct {
	Reason string
	Lines  uint64
}

// importStage is a part of a round's way into the store.
type importStage uint8

const (
	stageScan importStage = iota
	stageResolve
	stageSeal
	stagePublish
	stageWaitSource
	stageWaitStore
	importStages // how many there are
)

// exportStall is what a worker of an export waits for.
type exportStall uint8

const (
	stallTurn exportStall = iota
	stallAccount
	stallDurable
	exportStalls // how many there are
)

// importCounters are what Metrics tells, since the manager was made.
type importCounters struct {
	stored, scanned, lines, loaded, rounds, runs atomic.Uint64
	refused                                      [refusalKinds]atomic.Uint64
	errorFilesStored, errorFilesKept             atomic.Uint64
	nanos                                        [importStages]atomic.Int64
	exportedLines, exportedBytes                 atomic.Uint64
	exportsCompleted, exportsFailed              atomic.Uint64
	exportsExpired                               atomic.Uint64
	exportNanos                                  [exportStalls]atomic.Int64
	exportAccountStalls                          atomic.Uint64
}

// timed adds how long a stage takes: call the result at its end.
func (m *Manager) timed(stage importStage) (end func()) {
	begin := m.opts.Now()
	return func() { m.counters.nanos[stage].Add(max(0, int64(m.opts.Now().Sub(begin)))) }
}

// stalled adds how long a worker of an export waits: call the result at its end.
func (m *Manager) stalled(on exportStall) (end func()) {
	if on == stallAccount {
		m.counters.exportAccountStalls.Add(1)
	}
	begin := m.opts.Now()
	return func() { m.counters.exportNanos[on].Add(max(0, int64(m.opts.Now().Sub(begin)))) }
}

// countRound counts what became of a published round's lines.
func (c *importCounters) countRound(chunks []*chunkInfo, before, after *progress, runs int) {
	c.rounds.Add(1)
	c.runs.Add(uint64(runs))
	for i := range after.Inputs {
		loaded := after.Inputs[i][progressLoaded]
		if i < len(before.Inputs) {
			loaded -= before.Inputs[i][progressLoaded]
		}
		c.loaded.Add(uint64(loaded))
	}
	for _, info := range chunks {
		for i := range info.refusals {
			c.refused[info.refusals[i].kind].Add(1)
		}
	}
}

// Metrics reads the counters, each by itself.
func (m *Manager) Metrics() Metrics {
	c := &m.counters
	stage := func(s importStage) time.Duration { return time.Duration(c.nanos[s].Load()) }
	out := Metrics{
		StoredBytes: c.stored.Load(), ScannedBytes: c.scanned.Load(), Lines: c.lines.Load(), Loaded: c.loaded.Load(),
		Rounds: c.rounds.Load(), Runs: c.runs.Load(),
		ErrorFilesStored: c.errorFilesStored.Load(), ErrorFilesKept: c.errorFilesKept.Load(),
		Scan: stage(stageScan), Resolve: stage(stageResolve), Seal: stage(stageSeal), Publish: stage(stagePublish),
		WaitSource: stage(stageWaitSource), WaitTurn: time.Duration(m.turns.waited.Load()), WaitStore: stage(stageWaitStore),
		ExportedLines: c.exportedLines.Load(), ExportedBytes: c.exportedBytes.Load(),
		ExportsCompleted: c.exportsCompleted.Load(), ExportsFailed: c.exportsFailed.Load(), ExportsExpired: c.exportsExpired.Load(),
	}
	waited := func(s exportStall) time.Duration { return time.Duration(c.exportNanos[s].Load()) }
	out.ExportWaitTurn, out.ExportWaitAccount, out.ExportWaitDurable = waited(stallTurn), waited(stallAccount), waited(stallDurable)
	out.ExportAccountStalls = c.exportAccountStalls.Load()
	m.staging.tell(&out)
	for kind := range refusalKinds {
		out.Refused = append(out.Refused, RefusedLines{kind.reason(), c.refused[kind].Load()})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out.ImportsRunning, out.ExportsRunning = len(m.importing), len(m.exporting)
	out.ImportsWaiting = max(0, len(m.imports)-out.ImportsRunning)
	out.ExportsWaiting = max(0, len(m.exports)-out.ExportsRunning)
	return out
}

// reason is a kind's name in metrics.
func (k refusalKind) reason() string {
	switch k {
	case refusedText:
		return "not-a-resource"
	case refusedID:
		return "bad-id"
	case refusedNoID:
		return "no-id"
	case refusedConditional:
		return "conditional-reference"
	case refusedInstant:
		return "bad-last-updated"
	case refusedFuture:
		return "future-last-updated"
	case refusedType:
		return "other-type"
	case refusedSearchParam:
		return "search-parameter"
	case refusedStructure:
		return "bad-structure"
	case refusedRequired:
		return "missing-element"
	case refusedValue:
		return "bad-value"
	case refusedTooLong:
		return "too-long"
	case refusedDuplicate:
		return "duplicate"
	case refusedVersion:
		return "version-conflict"
	}
	panic("BUG: a refusal of an unknown kind")
}
