//go:build !race

package httpapi

import (
	"syscall"
	"unsafe"
)

// canBePrompt: not under the race detector, which learns from Go's own calls what
// happens before what.
const canBePrompt = true

// syscallRead and syscallWrite are for sockets that do not block; p is not empty.
func syscallRead(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

func syscallWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}
