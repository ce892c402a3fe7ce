package httpapi

import "time"

const (
	// bodyBytesDefault bounds a request body. The largest resource of the HL7
	// examples has 29.7 MB; the log takes records of up to 48 MiB.
	bodyBytesDefault = 32 << 20

	// bodiesBytesMax bounds all request bodies in memory together, at least two
	// of the largest; bodies up to bodyBytesUncounted are left out, since
	// connectionsMax of them are 256 MiB.
	bodiesBytesMax     = 256 << 20
	bodyBytesUncounted = 64 << 10

	// headBytesMax bounds request line and headers, and is the read buffer that
	// each connection holds. 4 KiB, the library's default, is too small for
	// long search addresses.
	headBytesMax = 32 << 10

	// writeBufferBytes is what each connection gathers before it writes; most
	// single resources fit.
	writeBufferBytes = 8 << 10

	// connectionsMax times headBytesMax and writeBufferBytes is 160 MiB, the
	// most that idle clients can hold.
	connectionsMax = 4096

	// refusalsMax bounds the connections beyond connectionsMax that are being told
	// so, each for refusalTime at most.
	refusalsMax = 64
	refusalTime = time.Second

	// logLinesPerInterval lines about one status of 500 and more are written in
	// each logInterval.
	logLinesPerInterval = 10
	logInterval         = 10 * time.Second

	// workerIdleTime is how long a goroutine is kept for the next connection.
	workerIdleTime = 10 * time.Second

	// keepAlivePeriod finds clients that vanished.
	keepAlivePeriod = 30 * time.Second

	// bundleEntriesMax bounds the entries of a batch or transaction: the planning
	// of one takes about a kilobyte.
	bundleEntriesMax = 20_000

	// bundleAnswerBytesMax ends the reads of a Bundle, of which each could answer
	// historyPageBytesMax.
	bundleAnswerBytesMax = 64 << 20

	// computedAttemptsMax bounds how often a patch is computed anew because the
	// resource changed meanwhile; each attempt that loses means that another
	// write succeeded.
	computedAttemptsMax = 20

	// drainBytesMax and drainTime bound what is read of a request that is too
	// large or not HTTP, so that the client can finish sending and see the refusal; it is
	// taken to have finished when nothing came for drainIdleTime.
	drainBytesMax = 64 << 20
	drainTime     = 5 * time.Second
	drainIdleTime = 100 * time.Millisecond

	// historyCountDefault and historyCountMax are those of the import contract.
	historyCountDefault = 10
	historyCountMax     = 1000

	// historyJudgedMax bounds the versions that a page of a limited client's history looks
	// at one by one: some 50 µs each, so a quarter of a second. historyCountedMax does so
	// where only their number is asked for.
	historyJudgedMax  = 5_000
	historyCountedMax = 100_000

	// earlierBytesMax bounds what a paging token says of the pages before its own: of
	// about 50 with UUIDs for ids. Further back only the first page has a link. Tokens
	// are in addresses, which headBytesMax bounds, and up to four times in an answer.
	earlierBytesMax = 1 << 10

	// searchCountDefault and searchCountMax are those of histories.
	searchCountDefault = historyCountDefault
	searchCountMax     = historyCountMax

	// conditionalDeletesMax is that of the import contract.
	conditionalDeletesMax = 100

	// conditionLocksCount makes it unlikely that two of some hundred conditions in
	// flight share a lock.
	conditionLocksCount = 4096

	// historyPageBytesMax ends a page early (the next link goes on), because
	// 1,000 versions of the largest resource would be 30 GB.
	historyPageBytesMax = 16 << 20

	// errorFilesNamedMax error files are named in the answer for an import that
	// failed or was cancelled; it may have 10,000.
	errorFilesNamedMax = 20
	// retryAfterSeconds is what a client waits between two looks at a job. A
	// look costs microseconds, and short jobs should not seem long.
	retryAfterSeconds = 1

	// manifestFilesMax files are in a page of an export's manifest, about 200 KB.
	manifestFilesMax = 1000

	// A client may ask for the status of one export every pollInterval, and
	// pollsAhead times faster for a start: many small jobs are over before that,
	// and a client that looks fifty times a second learns nothing from more.
	pollInterval = 20 * time.Millisecond
	pollsAhead   = 1000
	// pollBuckets bounds the memory of that, 32 KiB.
	pollBuckets = 1024

	// compressBytesMin: below it gzip saves nothing after its own header.
	compressBytesMin = 1 << 10

	// zstdWindowBytes is the window that every reader of zstd over HTTP has to
	// have (RFC 9659); larger ones are refused.
	zstdWindowBytes = 8 << 20

	// unpackBytesFirst is the first room for a body in a content coding.
	unpackBytesFirst = 16 << 10

	// requestIDBytesMax bounds a client's X-Request-Id, which is echoed.
	requestIDBytesMax = 64
)
