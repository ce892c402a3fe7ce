//go:build !(linux || darwin || freebsd)

package vfs

import (
	"errors"
	"fmt"
)

func freeBytes(dir string) (int64, error) {
	return 0, fmt.Errorf("cannot read the free space of %q: %w", dir, errors.ErrUnsupported)
}
