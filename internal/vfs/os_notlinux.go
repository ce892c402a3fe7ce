//go:build !linux

package vfs

import (
	"errors"
	"os"
)

// fallocate has no portable form; writing zeros takes the same space.
func fallocate(*os.File, int64, int64) error { return errors.ErrUnsupported }

// syncData is the full fsync: only Linux has an fdatasync worth telling apart.
func syncData(f *os.File) error { return f.Sync() }
