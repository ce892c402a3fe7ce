package index

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

func TestUUIDsPackWithoutLoss(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		text := []byte(uuidFrom(rng))
		want, err := hex.DecodeString(string(bytes.ReplaceAll(text, []byte("-"), nil)))
		if err != nil {
			t.Fatal(err)
		}
		packed, ok := appendUUID(nil, text)
		if !ok || !bytes.Equal(packed, want) || !bytes.Equal(appendUUIDText(nil, packed), text) {
			t.Fatalf("%s packs into %x", text, packed)
		}
	}
}

func TestOnlyLowerCaseUUIDsPack(t *testing.T) {
	good := []byte("0123abcd-4567-89ef-f0e1-d2c3b4a59687")
	for at := range good {
		for c := range 256 {
			text := bytes.Clone(good)
			text[at] = byte(c)
			want := bytes.IndexByte([]byte(hexDigits), byte(c)) >= 0
			if good[at] == '-' {
				want = c == '-'
			}
			packed, ok := appendUUID(nil, text)
			if ok != want || ok && !bytes.Equal(appendUUIDText(nil, packed), text) {
				t.Fatalf("%q packs: %v", text, ok)
			}
		}
	}
}

func BenchmarkAppendUUID(b *testing.B) {
	text, dst := []byte("0123abcd-4567-89ef-f0e1-d2c3b4a59687"), make([]byte, 0, 16)
	for b.Loop() {
		dst, _ = appendUUID(dst[:0], text)
	}
}
