package engine

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"kiln/internal/vfs"
)

// Names inside the data directory.
const (
	lockName       = "LOCK"
	formatName     = "FORMAT"
	logDir         = "log"
	runsDir        = "runs"
	checkpointsDir = "checkpoint"
	catalogDir     = "catalog"
	// catalogMarkName is the file of catalog_sum.go.
	catalogMarkName = "CATALOG"

	runSuffix        = ".run"
	checkpointSuffix = ".checkpoint"
	hexDigits        = 16
)

func (s *Store) path(name string) string { return path.Join(s.opts.Dir, name) }

func checkpointFileName(lsn uint64) string {
	return fmt.Sprintf("%016x%s", lsn, checkpointSuffix)
}

func runFileName(id uint64) string { return fmt.Sprintf("%016x%s", id, runSuffix) }

// parseHexName returns the number of a "%016x<suffix>" name.
func parseHexName(name, suffix string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) != hexDigits || strings.ToLower(digits) != digits {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 64)
	return n, err == nil
}

// isTempName says that a file was never published and may be removed.
func isTempName(name string) bool { return strings.HasSuffix(name, vfs.TempSuffix) }
