// Package engine is the versioned store: commits, imports, snapshots, reads,
// histories and scans over one data directory.
//
// The log is the truth. A COMMIT record holds the versions of one atomic
// write, an INGEST record the runs of an import or of a flush; both hold
// everything that replay needs, the superseded places included, so that
// recovery is pure application and never a lookup. A run is immutable. All
// else (the head, the superseded bitmaps, job progress) is rebuilt from the
// newest checkpoint and the records after it.
//
// Rules that everything rests on:
//
//   - One goroutine at a time, the committer, owns the log and changes the state. A
//     caller looks up and compares outside; the committer only checks again
//     what was written since the caller looked ("the slot").
//   - Append, fsync, apply, publish the LSN, then acknowledge: in this order.
//     A reader sees an LSN only when all of it is applied.
//   - A snapshot is (LSN, view). A view is an immutable list of runs and head
//     generations; it is counted, and what no view holds any more is closed.
//     Supersessions carry the LSN that made them, so an old snapshot does not
//     see newer ones. Lock order: Store.mu, then runState.mu.
//   - A failed append is either "nothing written" (no space: nothing is
//     applied, the store goes on) or "unknown" (the store takes no more
//     writes, and keeps every file that the record may name).
//   - A run file is sealed and durable before the record that names it; a
//     checkpoint is durable before the log below it is trimmed, and the
//     trimming goes only below the older of the two checkpoints that are kept
//     and below every live snapshot's head.
//   - A merge takes neighbours in the order of compareRuns and shifts ordinals
//     by a constant; a REPLACE record puts its run in their place. A run that a
//     synced REPLACE took out is removed with the last view that has it: replay
//     opens runs only at its end and never misses it.
//   - Fields of added search parameters get their numbers from FIELDS records, in
//     one list that only grows. A run tells how much of it it has terms of; a
//     search that needs more is an error, and the run is written again.
//   - Nothing is deleted at open before the whole replay succeeded.
//
// Files: options.go, errors.go; store.go (open, close), format_file.go,
// filenames.go, checkpoint.go, checkpoint_file.go, recovery.go,
// recovery_apply.go; record_version.go, record_commit.go, record_ingest.go,
// record_replace.go, record_checkpoint.go, record_fields.go; committer.go (the slot), commit.go (the caller),
// commit_group.go (group commit); head.go, head_dir.go, head_terms.go;
// run_state.go, view.go, snapshot.go, lookup.go; history*.go, scan.go, query*.go, bodies.go;
// fields.go, reindex.go; flush.go; merge.go, merge_choice.go; ingest.go, conflict.go, publish.go; catalog.go, fsck.go, stats.go.
package engine
