package bulk

import (
	"encoding/json"
	"fmt"
	"maps"
)

// progress is what a job has published: it is written into the same log record
// as the round that it counts, so the two can never differ.
type progress struct {
	// Inputs that were begun, in request order; all but the last are finished.
	Inputs []inputProgress `json:"inputs"`
	Hash   string          `json:"hash"` // of the request
	Done   bool            `json:"done"` // the last one is finished, and no more follow
	// Of the last input: where the next unit starts, stored bytes read, and
	// what the file was when it was read.
	Offset int64  `json:"offset"`
	Stored int64  `json:"stored"`
	Bytes  int64  `json:"bytes"`
	Etag   string `json:"etag"`
	// Sums are those of the pieces (pieces.go) of error files, by input. None for a file that a
	// build which made none has written to. What is in the map is never changed.
	Sums map[int][]byte `json:"sums,omitempty"`
}

// inputProgress is loaded lines, refused lines, lines in all and the length of
// the error file.
type inputProgress [4]int64

const (
	progressLoaded = iota
	progressRefused
	progressLines
	progressErrorBytes
)

func (p *progress) marshal() []byte {
	raw, err := json.Marshal(p)
	if err != nil {
		panic("BUG: progress cannot be written: " + err.Error())
	}
	return raw
}

func parseProgress(raw []byte, inputs int) (progress, error) {
	var p progress
	if raw == nil {
		return p, nil
	}
	if err := ParseRecord(raw, &p); err != nil {
		return p, fmt.Errorf("cannot read the progress of an import: %w", err)
	}
	if len(p.Inputs) > inputs {
		return p, fmt.Errorf("the progress of an import tells of %d inputs of %d", len(p.Inputs), inputs)
	}
	return p, nil
}

// at gives the entry of an input, adding those that are missing.
func (p *progress) at(input int) *inputProgress {
	for len(p.Inputs) <= input {
		p.Inputs = append(p.Inputs, inputProgress{})
	}
	return &p.Inputs[input]
}

// clone is independent of p.
func (p *progress) clone() progress {
	c := *p
	c.Inputs = append([]inputProgress(nil), p.Inputs...)
	c.Sums = maps.Clone(p.Sums)
	return c
}

// setSums takes the sums of an input's error file; nil: there are none.
func (p *progress) setSums(input int, sums []byte) {
	if sums == nil {
		return
	}
	if p.Sums == nil {
		p.Sums = make(map[int][]byte)
	}
	p.Sums[input] = sums
}
