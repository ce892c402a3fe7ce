package main

import "testing"

func TestByteSizes(t *testing.T) {
	f := func(text string, want int64) {
		t.Helper()
		var b byteSize
		err := b.UnmarshalText([]byte(text))
		if want < 0 != (err != nil) || err == nil && int64(b) != want {
			t.Errorf("%q is %d, %v", text, b, err)
		}
	}
	f("0", 0)
	f("1048576", 1<<20)
	f("64KiB", 64<<10)
	f("16 MiB", 16<<20)
	f("2GiB", 2<<30)
	f("1TiB", 1<<40)
	f("", -1)
	f("-1", -1)
	f("1.5GiB", -1)
	f("16MB", -1)
	f("MiB", -1)
	f("9000000TiB", -1)
}
