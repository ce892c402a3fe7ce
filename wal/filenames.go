package wal

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"kiln/internal/vfs"
)

const (
	segmentSuffix = ".log"
	// segmentDigits is enough for 1e16 segments; names sort as numbers do.
	segmentDigits  = 16
	preparedPrefix = "prepared-"
)

func segmentName(number uint64) string {
	return fmt.Sprintf("%0*d%s", segmentDigits, number, segmentSuffix)
}

func segmentPath(dir string, number uint64) string { return path.Join(dir, segmentName(number)) }

// parseSegmentName is the inverse of segmentName, and nothing more lenient: two
// names must never mean the same segment.
func parseSegmentName(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != segmentDigits {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil && number > 0 && segmentName(number) == name
}

// preparedName is a segment made ahead. It holds nothing until it is renamed.
func preparedName(n int) string { return preparedPrefix + strconv.Itoa(n) + vfs.TempSuffix }

func isPreparedName(name string) bool {
	return strings.HasPrefix(name, preparedPrefix) && strings.HasSuffix(name, vfs.TempSuffix)
}
