package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is the release; the commit comes from the build.
const version = "0.1.0"

// commit is set by the linker (-X main.commit=...); without that it is what
// the Go tool recorded.
var commit string

type versionCmd struct{}

func (versionCmd) Run(std streams) error {
	_, err := fmt.Fprintf(std.out, "kiln %s\ncommit %s\n%s %s/%s\n", version, builtFrom(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

func builtFrom() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				return setting.Value
			}
		}
	}
	return "unknown"
}
