package fhir

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestRepeatedKeyIsFoundAmongMany(t *testing.T) {
	s := NewScanner(ScannerOptions{})
	for _, count := range []int{1, 31, 32, 33, 20_000, 40} {
		var b strings.Builder
		b.WriteString(`{"resourceType":"Patient"`)
		for i := range count {
			fmt.Fprintf(&b, `,"k%d":%d`, i, i)
		}
		if _, err := s.Scan([]byte(b.String()+"}"), nil); err != nil {
			t.Errorf("%d keys: %s", count, err)
		}
		for _, repeated := range []int{0, count / 2, count - 1} {
			src := fmt.Sprintf(`%s,"k%d":0}`, b.String(), repeated)
			if _, err := s.Scan([]byte(src), nil); !errors.Is(err, ErrDuplicateKey) {
				t.Errorf("%d keys, key %d repeated: got error %v", count, repeated, err)
			}
		}
	}
}
