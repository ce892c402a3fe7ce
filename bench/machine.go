package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// machine is what the figures were measured on.
type machine struct {
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	MemoryBytes uint64 `json:"memoryBytes"`
	Kernel      string `json:"kernel"`
	FileSystem  string `json:"fileSystem"` // of the work directory
	Go          string `json:"go"`
}

// text is the machine in one line.
func (m *machine) text() string {
	return fmt.Sprintf("%s, %d cores, %d MiB of memory, %s, %s, %s", m.CPU, m.Cores, m.MemoryBytes>>20, m.Kernel, m.FileSystem, m.Go)
}

// loadAverage is that of the last minute; 0 where there is no /proc.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// commit is the checked-out one, with a plus when files differ from it.
func commit() string {
	hash, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	text := strings.TrimSpace(string(hash))
	if changed, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output(); err == nil && len(changed) > 0 {
		text += "+"
	}
	return text
}
