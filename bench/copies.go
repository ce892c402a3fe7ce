package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"

	"kiln/fhir"
)

// copyOptions say what differs in a copy beside the ids.
type copyOptions struct {
	linked  bool // references name the copy's own resources; otherwise they stay as they are
	changed bool // the content is another one, too
}

// copyAs writes the data set once more into one zstd file, every resource
// under another id, so that an import of it is all news to a store that has the
// original.
func (d *dataSet) copyAs(number int, path string, how copyOptions) (err error) {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buffered := bufio.NewWriterSize(out, 1<<20)
	packed, err := zstd.NewWriter(buffered, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	scanner := fhir.NewScanner(fhir.ScannerOptions{})
	var text []byte
	err = d.eachLine(func(line []byte) error {
		resource, err := scanner.Scan(line, nil)
		if err != nil {
			return err
		}
		appendPart := func(dst, part []byte) []byte { return append(dst, part...) }
		if how.linked {
			appendPart = func(dst, part []byte) []byte { return appendLinked(dst, part, number) }
		}
		text = appendPart(text[:0], resource.Body[:resource.IDAt])
		text = appendOtherID(text, resource.TypeName, resource.ID, number)
		text = appendPart(text, resource.Body[int(resource.IDAt)+len(resource.ID):])
		if how.changed {
			text = changed(text, 1)
		}
		_, err = packed.Write(append(text, '\n'))
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot copy the data: %w", errors.Join(err, packed.Close()))
	}
	return errors.Join(packed.Close(), buffered.Flush())
}

// copies writes n copies below dir and lists them, one file each.
func (d *dataSet) copies(n int, dir string) (paths []string, err error) {
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("copy-%03d.ndjson.zst", i))
		if err := d.copyAs(i, path, copyOptions{}); err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// literalReference is one to a resource of the same server.
var literalReference = regexp.MustCompile(`"reference":"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})"`)

// appendLinked appends text with the references of a copy.
func appendLinked(dst, text []byte, number int) []byte {
	at := 0
	for _, found := range literalReference.FindAllSubmatchIndex(text, -1) {
		dst = append(dst, text[at:found[4]]...)
		dst = appendOtherID(dst, text[found[2]:found[3]], text[found[4]:found[5]], number)
		at = found[5]
	}
	return append(dst, text[at:]...)
}

// pathOfCopy is the Type/id that a resource has in a copy.
func pathOfCopy(path string, number int) string {
	typeName, id, _ := strings.Cut(path, "/")
	return string(appendOtherID([]byte(typeName+"/"), []byte(typeName), []byte(id), number))
}

// appendOtherID appends a UUID that follows from the id and the copy's number.
func appendOtherID(dst, typeName, id []byte, number int) []byte {
	var uuid [16]byte
	seed := fmt.Appendf(nil, "%d %s/%s", number, typeName, id)
	for half := range 2 {
		hash := xxhash.Sum64(append(seed, byte(half)))
		for i := range 8 {
			uuid[8*half+i] = byte(hash >> (8 * i))
		}
	}
	uuid[6], uuid[8] = uuid[6]&0x0f|0x40, uuid[8]&0x3f|0x80
	for i, end := range []int{4, 6, 8, 10, 16} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, uuid[[]int{0, 4, 6, 8, 10}[i]:end])
	}
	return dst
}
