// Package vfs is the only door to files. Everything Kiln keeps goes through an
// FS, so that tests can cut the power at any operation, fail any call, and
// flip any bit (see Mem), and production code has one place where fsync,
// directory fsync, preallocation and locking are done right (see OS).
//
// Two promises hold for every implementation, and only these two survive a
// power cut: the bytes that were in a file when its Sync returned nil, and the
// directory entries that were there when SyncDir returned nil. A file that was
// synced under a name that was not is gone.
//
// Files:
//
//	fs.go      the interfaces and the errors
//	atomic.go  whole-file reads and atomic replacement on top of an FS
//	os.go      the real file system; os_*.go hold what differs by platform
//	mem.go     the simulated file system: tree, capacity, hooks
//	mem_op.go  the operations a hook sees and what it can do to them
//	mem_file.go   a simulated file: pages, dirty pages, failed syncs
//	mem_crash.go  what a power cut leaves
package vfs
