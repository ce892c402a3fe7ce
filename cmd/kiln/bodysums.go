package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cespare/xxhash/v2"

	"kiln/fhir"
)

// lineBytesMax bounds a line of the demo's files.
const lineBytesMax = 64 << 20

// bodySums holds a checksum of every resource's body (its text without what
// the server sets), by Type/id.
type bodySums struct {
	scanner      *fhir.Scanner
	byKey        map[string]uint64
	bytes        int64
	firstPatient string // Patient/id
}

func newBodySums() *bodySums {
	return &bodySums{scanner: fhir.NewScanner(fhir.ScannerOptions{}), byKey: map[string]uint64{}}
}

// add notes one resource; a later one with the same key replaces it.
func (b *bodySums) add(line []byte) error {
	resource, err := b.scanner.Scan(line, nil)
	if err != nil {
		return fmt.Errorf("cannot read a resource: %w", err)
	}
	key := resource.Type.String() + "/" + string(resource.ID)
	if b.firstPatient == "" && resource.Type.String() == "Patient" {
		b.firstPatient = key
	}
	b.byKey[key] = bodySum(resource)
	b.bytes += int64(len(line)) + 1
	return nil
}

// bodySum is the checksum of a body. An empty meta counts as none: it is what
// remains of the server's members in a resource that came without meta.
func bodySum(resource *fhir.Resource) uint64 {
	body := resource.Body
	if resource.Splice.Kind != fhir.SpliceEmptyMeta {
		return xxhash.Sum64(body)
	}
	end := int(resource.Splice.At) + len("}")
	start := bytes.LastIndex(body[:end], []byte(`"meta"`))
	if start < 0 {
		return xxhash.Sum64(body) // the name is written with escapes: not by this server
	}
	if body[start-1] == ',' {
		start--
	} else if body[end] == ',' {
		end++
	}
	sum := xxhash.New()
	_, _ = sum.Write(body[:start]) // a hash takes everything
	_, _ = sum.Write(body[end:])
	return sum.Sum64()
}

// addFiles notes every line of the *.ndjson of a directory.
func (b *bodySums) addFiles(dir string) error {
	files, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.ndjson"))
	if err != nil {
		return fmt.Errorf("cannot list %q: %w", dir, err)
	}
	for _, file := range files {
		if err := b.addFile(file); err != nil {
			return err
		}
	}
	return nil
}

func (b *bodySums) addFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read lines: %w", err)
	}
	scanner := bufio.NewScanner(file)
	scanner.Buffer(make([]byte, copyBytes), lineBytesMax)
	for err == nil && scanner.Scan() {
		err = b.add(scanner.Bytes())
	}
	if err = errors.Join(err, scanner.Err(), file.Close()); err != nil {
		return fmt.Errorf("cannot read the lines of %q: %w", path, err)
	}
	return nil
}

// compareFiles finds the first resource of a directory that differs from what
// was noted, is missing, or was never noted.
func (b *bodySums) compareFiles(dir string) error {
	other := newBodySums()
	if err := other.addFiles(dir); err != nil {
		return err
	}
	for key, sum := range b.byKey {
		switch back, ok := other.byKey[key]; {
		case !ok:
			return fmt.Errorf("%s did not come back", key)
		case back != sum:
			return fmt.Errorf("%s came back with another text", key)
		}
	}
	for key := range other.byKey {
		if _, ok := b.byKey[key]; !ok {
			return fmt.Errorf("%s was invented", key)
		}
	}
	return nil
}
