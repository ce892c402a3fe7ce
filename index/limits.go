package index

// FormatVersion is written into every run. A reader refuses any other. 2 has
// the terms of search parameters, and says by which rules they were made.
const FormatVersion = 2

const (
	// bodyBlockBytes is the raw size at which a body block is closed: with its
	// entries it still is one block of zstd's, which has 128 KiB at most. Measured on
	// Synthea in arrival order with zstd fastest, bytes a resource and the time to
	// decode a block: 131 and 32 µs with 64 KiB, 114 and 52 with 128, 104 and 92 with 256.
	// A random read decodes a block; better levels than fastest save 4 bytes and
	// take four times as long.
	bodyBlockBytes = 120 << 10

	// BodyBytesMax bounds one body. An import line may have 64 MiB; the rest
	// is room for a body to be larger than what clients may send.
	BodyBytesMax = 128 << 20

	// blockBytesMax bounds what one block of any kind may hold, before and
	// after decoding; a length beyond it is damage. The largest legitimate
	// block is a body of BodyBytesMax with its header, or the index of a run
	// of billions of rows.
	blockBytesMax = 1 << 30

	// tableBlockBytes is the size at which a block of the key or term table is
	// closed: about 190 keys, one page of the disk's cache.
	tableBlockBytes = 4 << 10

	// tableRestartEvery is how many entries of a table block share prefixes
	// before a full key restarts them: a lookup decodes at most that many.
	tableRestartEvery = 16

	// postingBlockBytes is the size at which a block of bitmaps is closed.
	postingBlockBytes = 32 << 10

	// postingInlineMax is how many ordinals a term keeps inside the
	// dictionary; more become a bitmap, which costs about 50 bytes at that size.
	postingInlineMax = 16

	// columnBlockRows is how many rows share one frame of reference.
	columnBlockRows = 4096

	// TermBytesMax bounds a term's value in the table. Longer values are kept
	// as their first TermPrefixBytes and a SHA-256, see appendTermValue.
	TermBytesMax = 1024
	// TermPrefixBytes of a longer value keep their order.
	TermPrefixBytes = TermBytesMax - 32

	// TermCost is at most what a term takes in memory beside its value: a record
	// of 32 bytes, up to 21 of the hash table, 18 of the sorted lists, or a chunk
	// of postings.
	TermCost = 80
	// TermsCostMax bounds the terms of one resource, TermCost and value of each.
	// Composites and the types of identifiers multiply what a resource has; those
	// of real ones cost less than its text does. 5 times the largest record.
	TermsCostMax = 256 << 20

	// RowsMax bounds the rows of a run. Far above what one builder holds; it
	// keeps ordinals, block counts and arena offsets inside 32 bits.
	RowsMax = 1 << 30

	// MergeRowsMax is how many rows a merge should make at most: 16 such runs
	// hold 1e9 rows, whose filters a lookup asks in about a microsecond, and
	// what an open run keeps in memory (filter, indexes, dropped rows) stays
	// about 200 MB.
	MergeRowsMax = 64 << 20

	// mergeFuseKeysMax: above so many keys a merge makes a Bloom filter, which
	// is built in its own memory; a binary fuse filter takes 40 bytes a key
	// while it is built, 40 MB here.
	mergeFuseKeysMax = 1 << 20

	// mergeStepBytes lie between two calls of MergeOptions.Pace: 200 µs of work at
	// most, so that who paces may let requests in soon.
	mergeStepBytes = 32 << 10

	// mergeReadBytes of bodies a merge reads at once where blocks are neighbours, and
	// mergeWriteBytes is how much it collects for one write call: copied in 100 µs,
	// and more at once gains nothing.
	mergeReadBytes  = 128 << 10
	mergeWriteBytes = 128 << 10

	// mergeWriteBackBytes of the file that a merge writes are handed to the disk
	// together, so that neither its sync nor the log's has many of them to wait for.
	mergeWriteBackBytes = 512 << 10

	// checkStepBytes lie between two calls of a check's Pace.
	checkStepBytes = 1 << 20

	// arenaBytesMax bounds each arena of a Builder, whose offsets are uint32.
	arenaBytesMax = 2 << 30

	// writeBufferBytes is how much a builder collects for one write call.
	writeBufferBytes = 1 << 20

	// scanReadBytes is how much a scan reads at once where blocks are neighbours.
	scanReadBytes = 1 << 20
)
