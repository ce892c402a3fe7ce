package engine

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"kiln/internal/vfs"
)

// The FORMAT file marks a data directory and names its layout. Three lines:
//
//	kiln-data 1
//	<store id, 16 hex digits>
//	<CRC32C of the lines above, 8 hex digits>
//
// It is written first. A directory with a FORMAT but without a checkpoint is
// one whose making was interrupted; nothing was ever acknowledged in it.
const (
	formatWord    = "kiln-data"
	formatVersion = 1
	// formatBytesMax is far above the 45 bytes of version 1, for later lines.
	formatBytesMax = 4096
)

type formatFile struct {
	storeID uint64
}

func (f formatFile) marshal() []byte {
	text := fmt.Sprintf("%s %d\n%016x\n", formatWord, formatVersion, f.storeID)
	return []byte(text + fmt.Sprintf("%08x\n", crc32.Checksum([]byte(text), castagnoli)))
}

func parseFormatFile(name string, data []byte) (formatFile, error) {
	text := string(data)
	first, rest, _ := strings.Cut(text, "\n")
	number, ok := strings.CutPrefix(first, formatWord+" ")
	if !ok {
		return formatFile{}, fmt.Errorf("cannot use %q: %w", name, ErrForeign)
	}
	if version, err := strconv.ParseUint(number, 10, 32); err == nil && version > formatVersion {
		return formatFile{}, fmt.Errorf("cannot use %q: %w: format %d, this Kiln knows %d", name, ErrNewerFormat, version, formatVersion)
	}
	id, _, _ := strings.Cut(rest, "\n")
	storeID, err := strconv.ParseUint(id, 16, 64)
	f := formatFile{storeID: storeID}
	if err != nil || text != string(f.marshal()) {
		return formatFile{}, &vfs.CorruptError{File: name, What: "not a valid FORMAT file"}
	}
	return f, nil
}

// inspectDir looks at the directory without touching it. fresh is true for a
// directory that is missing, empty, or was left before its FORMAT was written.
func inspectDir(fsys vfs.FS, dir string) (f formatFile, fresh bool, err error) {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return f, true, nil
	}
	if err != nil {
		return f, false, fmt.Errorf("cannot list %q: %w", dir, err)
	}
	if slices.Contains(names, repairName) {
		return f, false, fmt.Errorf("cannot use %q: %w", dir, ErrRepairUnfinished)
	}
	fresh = true
	for _, name := range names {
		if name == formatName {
			file := path.Join(dir, formatName)
			data, err := vfs.ReadFile(fsys, file, formatBytesMax)
			if errors.Is(err, vfs.ErrFileTooLarge) {
				return f, false, fmt.Errorf("cannot use %q: %w", file, ErrForeign)
			}
			if err != nil {
				return f, false, err
			}
			f, err = parseFormatFile(file, data)
			return f, false, err
		}
		if name != lockName && name != formatName+vfs.TempSuffix && name != restoringName+vfs.TempSuffix {
			fresh = false
		}
	}
	if slices.Contains(names, restoringName) {
		return f, false, fmt.Errorf("cannot use %q: %w", dir, ErrUnfinished)
	}
	if !fresh {
		return f, false, fmt.Errorf("cannot use %q: %w", dir, ErrForeign)
	}
	return f, true, nil
}
