// Package wal is the log: the one total order of all commits and the only thing
// a write waits for. It is a directory of preallocated segment files holding
// records, each with an LSN, a header checksum and a payload checksum.
//
// Invariants:
//
//   - LSNs are consecutive, over all segments.
//   - A segment gets its name only when everything before it is durable, so
//     only the newest segment can have a torn tail.
//   - Bytes after the last record of a segment are zeros, reserved or written
//     ahead: nobody can tell which. A segment file is never used twice.
//   - Each record promises an offset of its segment that was durable when it was
//     framed. Damage below a promise is never taken for a torn tail.
//   - After a failed write or sync the log takes nothing more until it is opened
//     again: what is in the page cache then may not be what is on the disk.
//
// Recovery tells a torn tail, which it cuts, from damage, which it refuses, by
// the table in recovery.go.
//
// Files:
//
//	wal.go        LSN, Record, Options, Log: open, close, look up
//	filenames.go  the names in the log's directory
//	segment.go    the segment header on disk
//	record.go     the record header on disk
//	append.go     framing, group write, sync, rolling to the next segment
//	prepare.go    segments made ahead
//	reader.go     walking the records of one segment
//	recovery.go   the decision table and the repair of a torn tail
//	tail.go       reading back what is durable; trimming
//	dump.go       reading and checking a log without opening it for writing
//	salvage.go    every whole record of a damaged log
package wal
