package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func thisMachine(dir string) machine {
	m := machine{CPU: runtime.GOARCH, Cores: runtime.GOMAXPROCS(0), Kernel: runtime.GOOS, Go: runtime.Version()}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(info), "model name\t: "); ok {
			m.CPU, _, _ = strings.Cut(rest, "\n")
		}
	}
	var system unix.Sysinfo_t
	if unix.Sysinfo(&system) == nil {
		m.MemoryBytes = system.Totalram * uint64(system.Unit)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	m.FileSystem = fileSystem(dir)
	return m
}

// fileSystem names the kinds that make a difference: a memory disk makes every
// figure of durability worthless.
func fileSystem(dir string) string {
	var stat unix.Statfs_t
	if unix.Statfs(dir, &stat) != nil {
		return "unknown file system"
	}
	switch stat.Type {
	case unix.TMPFS_MAGIC:
		return "tmpfs (no real disk)"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("file system %#x", stat.Type)
}

// blockBytes is what a file takes on disk, preallocated blocks included.
func blockBytes(info os.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Blocks * 512 // POSIX counts in units of 512
	}
	return info.Size()
}
