// Command kiln is the whole product in one binary: the server, and the
// commands that feed it, empty it and look inside it.
//
// Invariants:
//   - results go to stdout, everything else to stderr;
//   - exit codes: 0 done, 1 failed, 2 usage, 3 done with refused lines,
//     4 damage found;
//   - a flag can also be given by environment (KILN_DATA_DIR for --data-dir)
//     and in the YAML file of --config; the command line wins over the
//     environment, the environment over the file;
//   - a command that talks to a server (import, export) uses only what any
//     other client could: the HTTP interface.
//
// Files:
//
//	main.go       the command tree, exit codes, signals
//	config.go     the YAML file of --config
//	instance.go   an open data directory with its jobs
//	serve.go      kiln serve
//	client.go     HTTP requests, job status, error texts
//	import.go     kiln import; inputs.go: what PATH|URL stand for;
//	              result.go: the result object of an import
//	load.go       kiln load
//	export.go     kiln export; download.go: one file, with resume
//	fsck.go, dump.go, version.go
//	demo.go       kiln demo; bodysums.go: its comparison of what went in and out
//	progress.go   the progress bar
package main
