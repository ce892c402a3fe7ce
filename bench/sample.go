package main

import (
	"bytes"
	"math/rand/v2"

	"kiln/fhir"
)

// sampled is a resource of the data set.
type sampled struct {
	path string // Type/id
	body []byte // nil when only the path was asked for
}

// sampleBytesMax leaves out the few lines that would make a sample of bodies
// large.
const sampleBytesMax = 64 << 10

// sample draws up to n different lines of the data set, each as likely as any
// other (reservoir sampling).
func (d *dataSet) sample(n int, seed uint64, bodies bool) ([]sampled, error) {
	r := rand.New(rand.NewPCG(seed, 0))
	scanner := fhir.NewScanner(fhir.ScannerOptions{})
	var drawn []sampled
	seen := 0
	err := d.eachLine(func(line []byte) error {
		if bodies && len(line) > sampleBytesMax {
			return nil
		}
		at := seen
		if seen++; at >= n {
			if at = r.IntN(seen); at >= n {
				return nil
			}
		}
		resource, err := scanner.Scan(line, nil)
		if err != nil {
			return err
		}
		s := sampled{path: string(resource.TypeName) + "/" + string(resource.ID)}
		if bodies {
			s.body = bytes.Clone(line)
		}
		if at == len(drawn) {
			drawn = append(drawn, s)
		} else {
			drawn[at] = s
		}
		return nil
	})
	return drawn, err
}
