// Command bench measures a whole server: it builds the kiln binary, starts it
// on a fresh data directory, feeds it, and reads its figures from outside.
//
//	go run ./bench import --data DIR --compare-postgres --compare-duckdb --json out.json
//	go run ./bench report --html report.html out.json
//	go run ./bench all --data DIR --results bench/RESULTS.md
//
// Everything goes through HTTP to a separate process; nothing runs inside the
// harness but the making of the data (package bench/synth) and the clients.
// The clients share the machine's cores with the server, so the figures of
// read, write and history are lower bounds.
//
// What bench merge tells is a ratio of 99th percentiles, which other programs spoil
// most: run it with the processor to itself (chrt -r 1), and look at the bare handler
// and the bare fdatasync beside it before blaming the server.
//
// What is compared takes turns, and a ratio is one of a single round: the machine was
// the same for both. Kiln gets no more than the others: PostgreSQL has the memory that
// a bulk load wants, DuckDB both cores and no order to keep, and their data is in their
// caches.
//
// Bench secure starts a server for each of what it compares, all with the same data, and
// they take turns: an open one over plain HTTP; limits of clients; audit; bearer tokens
// (ES256 and RS256, and more of them than a server knows); TLS and mTLS over connections
// that are kept, and over new ones. The clients' own share of TLS is in the rates: look at
// the server's processor time a request. The certificates have P-256 keys. A server with
// an audit refuses requests while a disk takes half a second for a sync, as 8 MiB of events
// are made in that time; the benchmark ends then.
//
// A report says which machine, which commit and which data, because a figure
// without them means nothing.
//
//	main.go      the command line
//	all.go       bench all: the others one after the other, a short set or everything,
//	             and the report of them
//	data.go      data sets: a directory of NDJSON files, or generated patients
//	server.go    build, start and stop the binary; memory and processor time
//	job.go       kick-off and following of $import and $export
//	turns.go     one way to serve a store, and to let clients take turns with it
//	import.go    bench import, with the comparisons; import_duckdb.go has DuckDB's loads,
//	             import_versions.go dated versions
//	export.go    bench export; export_duckdb.go has what it is compared with,
//	             export_parts.go a type, a filter and _since
//	read.go      bench read
//	bare.go      the bare handler that reads are compared with
//	write.go     bench write; write_compare.go compares creates with inserts and with
//	             bare syncs
//	bundle.go    bench bundle: transactions
//	crud.go      bench crud: creates, reads, updates and deletes, mixed
//	history.go   bench history; pages.go follows the links of pages
//	grow.go      bench grow: a store that grows, kept at some sizes; grow_rounds.go
//	             measures imports, reads, searches and starts at each of them
//	mixed.go     bench mixed: clients without and beside an import
//	merge.go     bench merge: clients without and beside merges; merge_store.go
//	             has the store with many runs, merge_watch.go looks at merges
//	secure.go    bench secure: what proofs, TLS, audit and limits cost;
//	             secure_proofs.go makes certificates and tokens
//	paced.go     clients that send at a fixed rate, whatever the answers take
//	search.go    bench search: counts and first pages, with the comparison;
//	             search_questions.go has the questions and their SQL,
//	             search_values.go draws what they ask for, search_ask.go asks,
//	             search_duckdb.go asks DuckDB
//	copies.go    a data set once more, under other ids
//	reshape.go   a data set in one file, or in very many
//	load.go      the load generator: clients, latencies
//	sample.go    draws resources of the data set
//	postgres.go  COPY into PostgreSQL; postgres.sh makes the private cluster;
//	             postgres_insert.go inserts row by row
//	duckdb.go    statements in DuckDB, a Node program (folder duckdb) that npm installs
//	floor.go     the least that can be done with the same bytes
//	report.go    figures, as text and JSON
//	processor.go who took the processors meanwhile
//	summary.go   medians and spread over the runs of many reports; goals.go has what
//	             figures should be
//	published.go what others tell of their servers; notes.go what readers have to know
//	report_command.go  bench report: tables; page.go is the page, with the plots of plot.go
//	machine.go   what the figures were measured on (machine_linux.go asks the system)
package main
