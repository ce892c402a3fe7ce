// Package sealed keeps files encrypted: a file system over another one whose files
// cannot be read, or changed unnoticed, without a key.
//
// Every file has a random key of its own, which its header holds wrapped by the
// operator's key (AES-256-GCM). The content is sealed in pieces with AES-256-GCM, so
// that any of it can be read alone. Two forms:
//
//   - chunks, for files that are written once from front to back and then synced:
//     runs, checkpoints, exports. The nonce is the chunk's number, and the last chunk
//     says that it is the last.
//   - frames, for files that go on after a sync or are written in any order: error
//     files, spills. Each has a random nonce, and none is ever written twice.
//
// What a sealed file does not hide: its name, its length, when it was written, and under
// which key. Whoever can write to the disk can put an older copy of a whole file in a
// file's place; nothing but what the file itself says of its place would tell.
//
// Files:
//
//	keys.go    the operator's keys
//	header.go  the first bytes of a file
//	chunks.go  files written once; chunks_read.go reads them
//	frames.go  files that are added to
//	fs.go      the file system
//	stream.go  the same bytes as chunks.go, from and to streams
package sealed
