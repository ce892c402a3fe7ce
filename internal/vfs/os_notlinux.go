//go:build !linux

package vfs

import (
	"errors"
	"os"
)

// fallocate has no portable form; writing zeros takes the same space.
func fallocate(*os.File, int64, int64) error { return errors.ErrUnsupported }

// writeBack has no portable form; Sync does it all.
func writeBack(*os.File, int64, int64) {}

// syncData is the full fsync: only Linux has an fdatasync worth telling apart.
func syncData(f *os.File) error { return f.Sync() }
