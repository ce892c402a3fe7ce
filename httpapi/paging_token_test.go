package httpapi

import (
	"strings"
	"testing"

	"kiln/engine"
)

func sampleToken() pagingToken {
	return pagingToken{
		count: 10, lsn: 7, sinceMilli: -5, beforeMilli: 1 << 40,
		cursor: engine.HistoryCursor{Milli: 1700000000123, LSN: 6, Skip: 3}, total: 99, scope: 1 << 63,
	}
}

func TestPagingTokenComesBack(t *testing.T) {
	want := sampleToken()
	got, err := decodePagingToken(want.encode())
	if err != nil || got != want {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestChangedPagingTokenIsRefused(t *testing.T) {
	token := sampleToken()
	good := token.encode()
	for i := range good {
		bad := []byte(good)
		bad[i] = 'A'
		if bad[i] == good[i] {
			bad[i] = 'B'
		}
		if _, err := decodePagingToken(string(bad)); err == nil {
			t.Errorf("accepted with another character at %d", i)
		}
	}
	for _, bad := range []string{"", "x", good + "A", good[1:]} {
		if _, err := decodePagingToken(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func FuzzPagingToken(f *testing.F) {
	token := sampleToken()
	f.Add(token.encode())
	f.Add("")
	f.Add(strings.Repeat("\n", len(token.encode())))
	f.Add(token.encode()[:60] + strings.Repeat("\r", 30))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := decodePagingToken(text)
		if err == nil && token.encode() != text {
			t.Errorf("%q means the same as %q", text, token.encode())
		}
	})
}
