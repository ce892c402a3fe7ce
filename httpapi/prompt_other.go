//go:build !linux || race

package httpapi

import "syscall"

const canBePrompt = false

func syscallRead(uintptr, []byte) (int, syscall.Errno)  { return 0, syscall.ENOSYS }
func syscallWrite(uintptr, []byte) (int, syscall.Errno) { return 0, syscall.ENOSYS }
