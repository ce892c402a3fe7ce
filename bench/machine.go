package main

import (
	"os/exec"
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
