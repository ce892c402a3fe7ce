// Package bulk runs the $import and $export jobs of one store.
//
// An import reads its inputs in request order, cuts their decompressed bytes
// into units and the units into chunks of whole lines, scans every line once in
// parallel workers that each fill one run, and then resolves the rows of the
// round key by key against the store: which version a line becomes, which
// lines are refused, which rows write nothing. A round is published whole,
// with the job's progress in the same record. Invariants:
//
//   - the result is that of reading the lines one by one in request order,
//     where a unit resolves as one batch; it never depends on how many workers
//     there are or where rounds end;
//   - a line is counted exactly once, as loaded or as refused, and a refused
//     line is in the error file of its input, in line order, before the round
//     that counts it is published;
//   - memory is bounded by bytes: chunk buffers, builders, refusals of a round.
//
// Files: options, limits · parameters, manifest, import_request, import_address
// (what a request may say) · source, dialer, source_http, source_azure, azure_account, readahead, decompress
// (where bytes come from) · splitter, feed (chunks in order) · line, refusal,
// error_file, error_blob (what lines are refused) · resolve, resolve_dated,
// resolve_history (pure: versions of one key) · round, round_merge, round_compare, round_publish · progress,
// registration, import_job, manager, metrics · export_request, export_scope (what a request takes),
// export_job (records), export_section (what is recorded piece by piece), export_listing (what was shown of it), export_run (the work),
// export_organize, export_owners, export_spill, export_blocks (files organized by patients),
// export_sink, export_format, export_output, export_output_local (files), export_sweep · download.
package bulk
