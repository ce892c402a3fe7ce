// Package index is the run: an immutable file of resource versions with
// everything needed to find them, its builder and its reader.
//
// A run is written once, front to back, synced, renamed, and becomes part of
// a store only when the log says so. It never changes afterwards. Invariants:
//
//   - Every byte of a run lies under a checksum that also covers the run's id
//     and the byte's place, and every read verifies it. Damage is a
//     *vfs.CorruptError; it is never "not found" and never a wrong answer.
//   - The bytes of a run depend only on what was given to the Builder, in
//     which order; not on time, chance or the machine.
//   - Nothing read from a file sizes an allocation before it was bounded.
//   - The import's path (AddTerm, Append, Seal) keeps its state in a few
//     large slices without pointers, so that the collector has nothing to walk.
//
// File map: limits and names (limits.go, filenames.go); what callers speak in
// (row.go, key.go, term.go, reference.go); the parts of the file, one each:
// header.go, block.go, body_block.go, table_block.go, posting.go,
// posting_block.go, column_block.go, block_index.go, filter.go, bloom_filter.go, footer.go;
// writing (builder.go, builder_keys.go, builder_seal.go, builder_terms.go,
// builder_memory.go, term_set.go, radix.go, file_writer.go, extractor.go); merging runs into one (merge.go,
// merge_table.go, merge_columns.go); reading (run.go,
// run_keys.go, run_rows.go, run_scan.go, run_terms.go, cache.go, codec.go);
// checking and showing whole files (verify.go, check.go, dump.go); what is left of a
// damaged one (salvage.go and salvage_*.go).
package index
