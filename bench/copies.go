package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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

// beforeReference stands before a literal reference, whose lines are minified.
var beforeReference = []byte(`"reference":"`)

// appendLinked appends text with the references of a copy, where they are literal: Type/id.
// Looking for them takes most of the time of a copy, so there is no regular expression.
func appendLinked(dst, text []byte, number int) []byte {
	for {
		at := bytes.Index(text, beforeReference)
		if at < 0 {
			return append(dst, text...)
		}
		at += len(beforeReference)
		dst, text = append(dst, text[:at]...), text[at:]
		end := bytes.IndexByte(text, '"')
		typeName, id, found := bytes.Cut(text[:max(end, 0)], []byte{'/'})
		if !found || !fhir.ValidID(id) || fhir.TypeByName(typeName) == 0 {
			continue
		}
		dst = append(append(dst, typeName...), '/')
		dst, text = appendOtherID(dst, typeName, id, number), text[end:]
	}
}

// pathOfCopy is the Type/id that a resource has in a copy.
func pathOfCopy(path string, number int) string {
	typeName, id, _ := strings.Cut(path, "/")
	return string(appendOtherID([]byte(typeName+"/"), []byte(typeName), []byte(id), number))
}

// appendOtherID appends a UUID that follows from the id and the copy's number.
func appendOtherID(dst, typeName, id []byte, number int) []byte {
	var uuid [16]byte
	var buf [128]byte // enough for most
	seed := append(strconv.AppendInt(buf[:0], int64(number), 10), ' ')
	seed = append(append(append(seed, typeName...), '/'), id...)
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
