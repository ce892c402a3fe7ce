package vfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// fallocate reserves and zero-extends. The error is errors.ErrUnsupported where
// the file system has no such call (some network and overlay file systems).
func fallocate(f *os.File, offset, bytes int64) error {
	err := onFD(f, func(fd int) error { return unix.Fallocate(fd, 0, offset, bytes) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return errors.ErrUnsupported
	}
	if err != nil {
		return fmt.Errorf("cannot preallocate %d bytes of %q: %w", bytes, f.Name(), err)
	}
	return nil
}

func syncData(f *os.File) error {
	if err := onFD(f, unix.Fdatasync); err != nil {
		return fmt.Errorf("cannot sync %q: %w", f.Name(), err)
	}
	return nil
}

// writeBack starts the kernel's writing without waiting for it. What fails then
// is told to the fsync that follows.
func writeBack(f *os.File, from, bytes int64) {
	_ = onFD(f, func(fd int) error { return unix.SyncFileRange(fd, from, bytes, unix.SYNC_FILE_RANGE_WRITE) })
}

// onFD runs a system call on the file's descriptor, again when a signal
// interrupted it; the descriptor cannot be closed meanwhile.
func onFD(f *os.File, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if callErr = call(int(fd)); callErr != unix.EINTR {
				return
			}
		}
	})
	return errors.Join(err, callErr)
}
