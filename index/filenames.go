package index

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

const (
	runSuffix  = ".run"
	tempSuffix = ".run.tmp"
)

// RunName is the base name of a run's file.
func RunName(id RunID) string { return fmt.Sprintf("%016x%s", uint64(id), runSuffix) }

// TempName is the base name of a run that is being built.
func TempName(id RunID) string { return fmt.Sprintf("%016x%s", uint64(id), tempSuffix) }

// ParseRunName undoes RunName and TempName; ok is false for other names.
func ParseRunName(name string) (id RunID, temp, ok bool) {
	hex, found := strings.CutSuffix(name, runSuffix)
	if !found {
		hex, temp = strings.CutSuffix(name, tempSuffix)
		if !temp {
			return 0, false, false
		}
	}
	if len(hex) != 16 || strings.ToLower(hex) != hex {
		return 0, false, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return RunID(n), temp, err == nil
}

func runPath(dir string, id RunID) string  { return path.Join(dir, RunName(id)) }
func tempPath(dir string, id RunID) string { return path.Join(dir, TempName(id)) }
