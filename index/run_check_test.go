package index

import (
	"math/rand/v2"
	"path"
	"testing"

	"kiln/internal/vfs"
)

// Any byte that changed is seen, however the file comes in pieces.
func TestRunCheckSeesEveryChangedByte(t *testing.T) {
	data, meta := smallRun(t)
	f := func(what string, data []byte, piece int, sound bool) {
		t.Helper()
		c := NewRunCheck(meta)
		for rest := data; len(rest) > 0; {
			n := min(piece, len(rest))
			_, _ = c.Write(rest[:n])
			rest = rest[n:]
		}
		if err := c.Err(); (err == nil) != sound {
			t.Errorf("%s in pieces of %d: %v", what, piece, err)
		}
	}
	for _, piece := range []int{1, 7, 200, 255, 256, 257, 4096, len(data)} {
		f("the run", data, piece, true)
		f("a shorter file", data[:len(data)-1], piece, false)
		f("a longer file", append(data[:len(data):len(data)], 0), piece, false)
	}
	f("nothing", nil, 1, false)
	for i := range data {
		data[i] ^= 4
		f("a changed byte", data, 4096, false)
		data[i] ^= 4
	}
}

// smallRun is the bytes of a run file.
func smallRun(t *testing.T) ([]byte, RunMeta) {
	t.Helper()
	fs := newTestFS(t)
	meta := randomModel(rand.New(rand.NewPCG(1, 1)), 12).build(t, fs, 7)
	data, err := vfs.ReadFile(fs, path.Join(testDir, "0000000000000007.run"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return data, meta
}
