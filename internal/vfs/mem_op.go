package vfs

import (
	"errors"
	"fmt"
)

// OpKind is a kind of file-system call.
type OpKind uint8

const (
	OpCreate OpKind = iota + 1
	OpOpen
	OpRemove
	OpRemoveAll
	OpRename
	OpMkdirAll
	OpList
	OpStat
	OpSyncDir
	OpLock
	OpFreeBytes
	OpRead
	OpWrite
	OpSync
	OpPreallocate
	OpTruncate
	OpClose
)

var opNames = [...]string{
	OpCreate: "create", OpOpen: "open", OpRemove: "remove", OpRemoveAll: "remove all", OpRename: "rename",
	OpMkdirAll: "mkdir", OpList: "list", OpStat: "stat", OpSyncDir: "sync dir", OpLock: "lock",
	OpFreeBytes: "free bytes", OpRead: "read", OpWrite: "write", OpSync: "sync",
	OpPreallocate: "preallocate", OpTruncate: "truncate", OpClose: "close",
}

func (k OpKind) String() string {
	if int(k) < len(opNames) && opNames[k] != "" {
		return opNames[k]
	}
	return fmt.Sprintf("op %d", uint8(k))
}

// Mutates reports whether the call can change what a power cut leaves. Cutting
// before any other call shows nothing new, so only these are counted.
func (k OpKind) Mutates() bool {
	switch k {
	case OpCreate, OpRemove, OpRemoveAll, OpRename, OpMkdirAll, OpSyncDir, OpWrite, OpSync, OpPreallocate, OpTruncate:
		return true
	}
	return false
}

// Op is one call as the hook sees it, before it takes effect.
type Op struct {
	Kind OpKind
	Name string // the file or directory; of a rename, the old name
	// Offset and Bytes are the range of a read or a write, Bytes alone the new
	// length of a preallocation or truncation.
	Offset int64
	Bytes  int64
	// Count numbers the mutating calls from 1; a call that does not mutate has
	// the number of the last one that did.
	Count int64
}

// Hook decides the fate of each call: nil lets it happen, ErrPowerCut cuts the
// power, a *ShortWrite ends a write early, any other error fails the call. A
// failed sync drops the file's dirty pages as the kernel does: what reached the
// disk is up to the seed, and a later sync will not write them. The hook runs
// under the file system's lock and must not call back into it.
type Hook func(Op) error

// ErrPowerCut is returned by every call after the power went.
var ErrPowerCut = errors.New("the power was cut")

// ShortWrite makes a write stop after its first Bytes bytes with Err.
type ShortWrite struct {
	Bytes int
	Err   error
}

func (e *ShortWrite) Error() string {
	return fmt.Sprintf("short write of %d bytes: %v", e.Bytes, e.Err)
}

func (e *ShortWrite) Unwrap() error { return e.Err }
