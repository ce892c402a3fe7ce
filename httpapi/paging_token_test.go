package httpapi

import (
	"bytes"
	"context"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"kiln/bulk"
	"kiln/engine"
	"kiln/internal/vfs"
)

func testKey() []byte { return bytes.Repeat([]byte{7}, pagingKeyBytes) }

func sampleToken() pagingToken {
	return pagingToken{
		earlier: []engine.HistoryCursor{{Milli: 1700000009999, LSN: 8, Last: 1<<64 - 1}, {Milli: -1, LSN: 1<<64 - 1, Skip: 1<<32 - 1}, {}},
		count:   10, lsn: 7, sinceMilli: -5, beforeMilli: 1 << 40,
		cursor: engine.HistoryCursor{Milli: 1700000000123, LSN: 6, Skip: 3, Last: 1 << 62}, total: 99, scope: 1 << 63,
	}
}

func TestPagingTokenComesBack(t *testing.T) {
	key := testKey()
	for _, oldestFirst := range []bool{false, true} {
		want := sampleToken()
		want.oldestFirst = oldestFirst
		got, err := decodePagingToken(key, want.encode(key))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
}

func TestChangedPagingTokenIsRefused(t *testing.T) {
	key := testKey()
	token := sampleToken()
	good := token.encode(key)
	for i := range good {
		bad := []byte(good)
		bad[i] = 'A'
		if bad[i] == good[i] {
			bad[i] = 'B'
		}
		if _, err := decodePagingToken(key, string(bad)); err == nil {
			t.Errorf("accepted with another character at %d", i)
		}
	}
	if _, err := decodePagingToken(bytes.Repeat([]byte{8}, pagingKeyBytes), good); err == nil {
		t.Error("accepted with another key")
	}
	for _, bad := range []string{"", "x", good + "A", good[1:]} {
		if _, err := decodePagingToken(key, bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func FuzzPagingToken(f *testing.F) {
	key := testKey()
	token := sampleToken()
	f.Add(token.encode(key))
	f.Add("")
	f.Add(strings.Repeat("\n", len(token.encode(key))))
	f.Add(token.encode(key)[:60] + strings.Repeat("\r", 30))
	f.Fuzz(func(t *testing.T, text string) {
		token, err := decodePagingToken(key, text)
		if err == nil && token.encode(key) != text {
			t.Errorf("%q means the same as %q", text, token.encode(key))
		}
		search, searchErr := decodeSearchToken(key, text)
		if searchErr == nil && search.encode(key) != text {
			t.Errorf("%q means the same as %q", text, search.encode(key))
		}
		if err == nil && searchErr == nil {
			t.Errorf("%q is a token of a history and of a search", text)
		}
	})
}

func TestPagingLinksOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	open := func() (*testServer, func()) {
		store, err := engine.Open(context.Background(), engine.Options{FS: vfs.OS(), Dir: dir, Now: time.Now, NewID: rand.Uint64})
		if err != nil {
			t.Fatal(err)
		}
		jobs, err := bulk.NewManager(context.Background(), bulk.Options{Store: store, Now: time.Now, NewID: rand.Uint64})
		if err != nil {
			t.Fatal(err)
		}
		s := newBareServer(t, func(o *Options) { o.Store, o.Jobs, o.PagingKey = store, jobs, nil })
		return s, func() {
			if err := jobs.Close(); err != nil {
				t.Error(err)
			}
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	s, stop := open()
	s.put(t, "a", "")
	s.put(t, "a", `,"active":true`)
	s.do(t, "PUT", "/fhir/List/l", listOf("Patient/a"), typeHeader).expect(t, "list", 201, "-")
	following := map[string]string{"": "a/1", "&_sort=_lastUpdated": "a/2", "&_list=l&_sort=_lastUpdated": "a/2"}
	next := map[string]string{}
	for query := range following {
		link := s.do(t, "GET", "/fhir/Patient/_history?_count=1"+query, "").bundle(t).link("next")
		_, next[query], _ = strings.Cut(link, "?")
	}
	stop()
	again, stop := open()
	defer stop()
	for query, want := range following {
		if got := again.do(t, "GET", "/fhir/Patient/_history?"+next[query], "").bundle(t).versions(); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
}
