package vfs

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrNotRegular is what OpenBelow returns for a directory, a pipe, a device.
var ErrNotRegular = errors.New("not a regular file")

// OpenBelow opens a regular file of the real file system for reading; name is
// relative to dir. A symbolic link on the way that leads out of dir is an
// error, also one that was put there a moment ago, and so is what is no
// regular file, without waiting for whoever writes to a pipe. The Info is that
// of the open file.
func OpenBelow(dir, name string) (File, Info, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, Info{}, err
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err = errors.Join(err, root.Close()); err != nil {
		return nil, Info{}, err
	}
	stat, err := f.Stat()
	if err != nil {
		return nil, Info{}, errors.Join(err, f.Close())
	}
	if !stat.Mode().IsRegular() {
		return nil, Info{}, errors.Join(fmt.Errorf("cannot read %q below %q: %w", name, dir, ErrNotRegular), f.Close())
	}
	return &osFile{File: f}, infoOf(stat), nil
}
