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
	"kiln/internal/vfs/sealed"
)

// The FORMAT file marks a data directory and names its layout. Three lines:
//
//	kiln-data 1
//	<store id, 16 hex digits>
//	<CRC32C of the lines above, 8 hex digits>
//
// An encrypted store has format 2, with one line more behind the id: "keys", the ids of
// the keys that something may be encrypted under, and "plain" where plain files may be
// left, each behind a space.
//
// It is written first. A directory with a FORMAT but without a checkpoint is
// one whose making was interrupted; nothing was ever acknowledged in it.
const (
	formatWord    = "kiln-data"
	formatVersion = 2
	formatPlain   = 1 // without keys
	formatKeys    = "keys"
	formatAnd     = "plain"
	// formatBytesMax is far above the 45 bytes of version 1, and has room for 200 keys.
	formatBytesMax = 4096
)

type formatFile struct {
	storeID uint64
	keys    []sealed.KeyID // none: it is not encrypted
	plain   bool           // and plain files may be left
}

func (f formatFile) marshal() []byte {
	version, line := formatPlain, ""
	if len(f.keys) > 0 {
		version, line = formatVersion, formatKeys+" "+idsText(f.keys)
		if f.plain {
			line += " " + formatAnd
		}
		line += "\n"
	}
	text := fmt.Sprintf("%s %d\n%016x\n%s", formatWord, version, f.storeID, line)
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
	id, rest, _ := strings.Cut(rest, "\n")
	storeID, err := strconv.ParseUint(id, 16, 64)
	f := formatFile{storeID: storeID}
	if number != strconv.Itoa(formatPlain) {
		line, _, _ := strings.Cut(rest, "\n")
		f.parseKeys(strings.Fields(line))
	}
	if err != nil || text != string(f.marshal()) {
		return formatFile{}, &vfs.CorruptError{File: name, What: "not a valid FORMAT file"}
	}
	return f, nil
}

// parseKeys takes what it understands; the whole is checked by writing it again.
func (f *formatFile) parseKeys(words []string) {
	for i, word := range words {
		id, err := sealed.ParseKeyID(word)
		if i > 0 && err == nil {
			f.keys = append(f.keys, id)
		}
		f.plain = f.plain || word == formatAnd
	}
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
			if f, err = parseFormatFile(file, data); err == nil {
				err = f.unlock(dir, sealed.KeysOf(fsys))
			}
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
