package main

// benchNotes tell readers of a report what they need to judge a benchmark: above all what
// each side has on disk when it is done.
var benchNotes = map[string]string{
	"import": "Kiln's job is done when its runs, its log and its error files are synced to disk, with every search parameter of R4 indexed. " +
		"PostgreSQL's COPY ends with a commit whose log is synced; its GIN index (jsonb_path_ops) finds whole values. " +
		"DuckDB's loads end with a checkpoint, which syncs its file, and have no index: the raw load of the goal stores the lines as text; as JSON it parses them as well. " +
		"The floors do the least with the same bytes; the written file is synced.",
	"export": "Kiln's files are synced before the job is done. PostgreSQL's and DuckDB's COPY TO leave theirs to the page cache: " +
		"the goals take them so; further rows add a sync of their file. The floor's file is synced.",
	"read": "Clients and servers share the cores. The bare handler is the same HTTP library in a process of its own, which answers one body from memory.",
	"write": "A create is answered when its log record is synced (fdatasync); those that wait together share a sync. PostgreSQL is as it comes: " +
		"fsync and synchronous_commit on, each insert a transaction of its own; those that wait together share a sync, too.",
	"bundle":  "A transaction is answered when all of it is synced.",
	"crud":    "Each client has resources of its own. Writes are answered when they are synced.",
	"history": "Each of the chosen resources has the same number of versions.",
	"search": "All answers are compared. PostgreSQL has what is asked for in columns with b-tree indexes made for these questions, and GIN; statements prepared, over a Unix socket, " +
		"everything in its buffers. DuckDB runs inside the process that asks, on sorted tables. Kiln answers over HTTP. A ratio is the fastest of their statements to Kiln.",
	"grow":   "A store of N times the data has it N times under new ids, references too. Each round measures on copies. The cache of blocks is 128 MiB.",
	"mixed":  "32 clients create, update, read, page through histories and search, by turns alone and beside incremental imports.",
	"merge":  "Requests come at a fixed rate, whatever their answers take. Both servers begin with the same runs; one of them merges.",
	"secure": "Each way has a server of its own with the same data. The clients' share of TLS is in the rates.",
}
