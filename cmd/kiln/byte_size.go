package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteSize is a flag that counts bytes: 1048576, 1024KiB, 1MiB, 1GiB, 1TiB.
type byteSize int64

// UnmarshalText reads what the user typed.
func (b *byteSize) UnmarshalText(text []byte) error {
	digits, unit := string(text), int64(1)
	for i, suffix := range [...]string{"KiB", "MiB", "GiB", "TiB"} {
		if rest, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = rest, 1<<(10*(i+1))
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is no number of bytes such as 1048576, 64KiB, 16MiB or 1GiB", text)
	}
	*b = byteSize(n * unit)
	return nil
}
