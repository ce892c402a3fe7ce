package index

import "testing"

func TestPrefixEnds(t *testing.T) {
	f := func(prefix, want string, bounded bool) {
		t.Helper()
		end, ok := AppendPrefixEnd(nil, []byte(prefix))
		if string(end) != want || ok != bounded {
			t.Errorf("%q ends at %q, %t", prefix, end, ok)
		}
	}
	f("a", "b", true)
	f("a\x00", "a\x01", true)
	f("a\xff\xff", "b", true)
	f("\xff", "", false)
	f("", "", false)
}
