package bulk

// Every limit of a job. Memory is bounded by bytes; the sums are in the
// comments so that a change can be judged.
const (
	// UnitBytesDefault is the batch size when processingUnitBytesToRead is 0
	// or absent, as Microsoft's server has it.
	UnitBytesDefault = 10_000_000
	// UnitBytesMax bounds a batch: a unit is resolved whole, so its rows and
	// refusals are in memory together. Bigger requests get this size.
	UnitBytesMax = 32 << 20
	// LineBytesMax is the longest line that is read; longer lines are refused
	// one by one. The largest R4 example Bundle has 29.7 MB.
	LineBytesMax = 64 << 20
	// chunkBytes is what a worker takes at a time: large enough that handing
	// it over costs nothing, small enough that workers end a round together.
	chunkBytes = 1 << 20
	// chunksPerReader buffers are filled ahead by each input reader; as many
	// wait for the next reader.
	chunksPerReader = 4
	// readersMax inputs are open at a time; later ones are read ahead while
	// the first is consumed.
	readersMax = 4
	// longBytesMax bounds all chunks that were grown for long lines: two
	// lines of the greatest length, or one and its next doubling.
	longBytesMax = 3 * LineBytesMax
	// builderBytesMax ends a round when the builders hold this much in memory
	// on average per worker: about 100,000 resources of a kilobyte with their
	// terms. Twice as much makes half as many runs and costs the same.
	builderBytesMax = 80 << 20
	// roundBytesMax bounds all builders of a round, however many workers.
	roundBytesMax = 512 << 20
	// refusalBytesMax ends a round when its refused lines take this much.
	refusalBytesMax = 16 << 20
	// lookupBatchKeys are looked for in the store together: enough that
	// fetching a run's filter is shared by many, 200 KiB of lists.
	lookupBatchKeys = 4096
	// windowBytesMax bounds the keys with older versions that are resolved
	// together, so that the old bodies are read in file order.
	windowBytesMax = 48 << 20
	// decoderWindowBytesMax is the largest zstd window: what `zstd --long`
	// and level 22 write.
	decoderWindowBytesMax = 128 << 20
	// expansionMax and expansionBytesMin stop decompression bombs: an input
	// may grow this many times once it has given this many bytes. Real NDJSON
	// grows 10 to 60 times.
	expansionMax      = 2000
	expansionBytesMin = 1 << 30
	// inputsMax files in one request, the documented limit.
	inputsMax = 10_000
	// probesMax inputs are asked for size and ETag at a time.
	probesMax = 16
	// importsMax and exportsMax jobs run at a time; more are queued.
	importsMax = 2
	exportsMax = 2
	// exportsUnfinishedMax exports run or wait; each is a goroutine and a record.
	exportsUnfinishedMax = 1000
	// futureMilliMax is how far a kept lastUpdated may be ahead of the clock.
	futureMilliMax = 10_000
	// refusedTextMax bounds what a refusal quotes from its line.
	refusedTextMax = 1024
	// refusedIssuesMax bounds what a refusal tells of a misbuilt resource.
	refusedIssuesMax = 3
	// exportLinesMax lines in one export file.
	exportLinesMax = 100_000
	// exportFileBytesMax ends a file before its lines do: 100,000 large resources
	// would be more than one transfer should be.
	exportFileBytesMax = 4 << 30
	// exportBufferBytes is written to a file at a time; one buffer for each
	// type and worker (146 types at most).
	exportBufferBytes = 128 << 10
	// exportBufferKeptMax is what a buffer that had long lines may keep.
	exportBufferKeptMax = 512 << 10
	// exportWriteBackBytes of a file are handed to the disk while the next are
	// written: at the end of an export, when all files are synced, little is left.
	exportWriteBackBytes = 4 << 20
	// exportRoomBytes are written between looks at the free space.
	exportRoomBytes = 4 << 20
	// exportClosingMax files of a worker become durable at a time.
	exportClosingMax = 8
	// exportSectionRows versions are about a section of an export: what a restart
	// does again at most, a few seconds of work. Smaller ones make more files.
	exportSectionRows = 500_000
	// exportSectionsMax bounds an export's record and the files of rare types.
	exportSectionsMax = 256
	// exportBlocksRows versions are about in a part of an export whose files are
	// organized by patients: a part is put in order in memory, some 30 MB.
	exportBlocksRows = 20_000
	// exportBlocksMax bounds the parts: above 80 million versions they get larger.
	exportBlocksMax = 4096
	// exportBlocksBytesMax of a part are in memory at a time, and exportBlocksAtOnce
	// parts, however many cores there are.
	exportBlocksBytesMax = 48 << 20
	exportBlocksAtOnce   = 4
	// spillBytesMax bounds what all parts together hold back in memory before it is
	// written in chunks, which have spillChunkBytesMin to spillChunkBytesMax bytes.
	spillBytesMax      = 32 << 20
	spillChunkBytesMin = spillBytesMax / exportBlocksMax
	spillChunkBytesMax = 256 << 10
	// exportJoinKeys resources and exportJoinBytes of lines wait in a worker until it is
	// looked up together whose they are.
	exportJoinKeys  = 100_000
	exportJoinBytes = 16 << 20
	// exportTurnRows are written between looks at who else wants to compute:
	// a few milliseconds.
	exportTurnRows = 1024
)
