package sealed

import (
	"encoding/hex"
	"testing"

	"kiln/internal/vfs"
)

// Files as they were written once are read for ever.
func TestGoldenFiles(t *testing.T) {
	f := func(name, head, rest string) {
		t.Helper()
		header, err := hex.DecodeString(head)
		must(t, err)
		content, err := hex.DecodeString(rest)
		must(t, err)
		stored := append((&header96{header}).region(), content...)
		mem := vfs.NewMem(1)
		must(t, vfs.WriteFileAtomic(mem, name, stored))
		if got, err := read(Strict(New(mem, testKeys(t, "a"), formOf)), name); err != nil || string(got) != "golden content" {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	f("f.run", goldenChunksHeader, "d27f4dacdace22b12ba81c824ddb367ade5e51ea8fc2e7cf063bd8ae7161")
	f("f.frames", goldenFramesHeader, "00000000000000000700000000bc97d2a2e0ded140a411a21c4b63d57a84569f2133d1451efe7453054c8bf6362d7588ee44b2"+
		"07000000000000000700000028149c1f539ec4209d6926220637ee7c11061d415ea37b7f1f0f4dbcad1aeea245231a4baf19ae")
}

type header96 struct{ raw []byte }

func (h *header96) region() []byte {
	b := make([]byte, headerRegionBytes)
	copy(b, h.raw)
	copy(b[headerPageBytes:], h.raw)
	return b
}

const (
	goldenChunksHeader = "8b5345414c45440d0a1a0a006b696c6e01000000004000006baafd372a653a2cd7737a465061211723a6a97aa0293299" +
		"732044c7b1a1740ad23894d87d487b5caad8de12939c58b0ccd6cd394f1bb8c7e39a6d58b3560866849ced185be14979"
	goldenFramesHeader = "8b5345414c45440d0a1a0a006b696c6e01000000000000006baafd372a653a2c7b8fe7ed9c1a155f2374502518d97d2b" +
		"37e55012240779e9e580d3357180eea104be6b891df3ea919f02a559958934fbe0f8b095c814ffb1cdd12c50a7357208"
)
