package sealed

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"kiln/internal/vfs"
)

// testKeys gives keys that are told apart by their letters.
func testKeys(t testing.TB, letters string) *Keys {
	t.Helper()
	var words []string
	for _, letter := range letters {
		words = append(words, strings.Repeat(fmt.Sprintf("%02x", letter), KeyBytes))
	}
	keys, err := ParseKeys(strings.Join(words, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func formOf(name string) Form {
	switch path.Ext(name) {
	case ".frames":
		return Frames
	case ".plain":
		return Plain
	}
	return Chunks
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content is what no part of which looks like another.
func content(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func write(t testing.TB, fsys vfs.FS, name string, data []byte, piece int) {
	t.Helper()
	file, err := fsys.Create(name)
	must(t, err)
	for at := 0; at < len(data); at += piece {
		_, err := file.WriteAt(data[at:min(len(data), at+piece)], int64(at))
		must(t, err)
	}
	must(t, file.Sync())
	must(t, file.Close())
}

// read reads a whole file, and ranges of it.
func read(fsys vfs.FS, name string) ([]byte, error) {
	data, err := vfs.ReadFile(fsys, name, 1<<30)
	if err != nil {
		return nil, err
	}
	file, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	r := rand.New(rand.NewPCG(2, uint64(len(data))))
	for range 8 {
		from := r.IntN(len(data) + 1)
		part := make([]byte, r.IntN(len(data)-from+1))
		if _, err := file.ReadAt(part, int64(from)); err != nil && !(err == io.EOF && len(data) == 0) {
			return nil, err
		}
		if !bytes.Equal(part, data[from:from+len(part)]) {
			return nil, errors.New("two reads give other bytes")
		}
	}
	return data, nil
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	f := func(ext string, size, piece int) {
		t.Helper()
		mem := vfs.NewMem(1)
		fsys := New(mem, testKeys(t, "a"), formOf)
		want := content(size)
		write(t, fsys, "f"+ext, want, piece)
		got, err := read(fsys, "f"+ext)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s of %d bytes by %d: %d bytes, %v", ext, size, piece, len(got), err)
		}
		info, err := fsys.Stat("f" + ext)
		if err != nil || info.Bytes != int64(size) {
			t.Errorf("%s of %d bytes has length %d, %v", ext, size, info.Bytes, err)
		}
		stored, err := vfs.ReadFile(mem, "f"+ext, 1<<30)
		must(t, err)
		if size >= 32 && ext != ".plain" && bytes.Contains(stored, want[:32]) {
			t.Errorf("%s: the content is there to be read", ext)
		}
		if ext == ".run" && int64(len(stored)) != SealedBytes(int64(size)) || ext == ".run" && ContentBytes(int64(len(stored))) != int64(size) {
			t.Errorf("%d bytes take %d", size, len(stored))
		}
	}
	for _, size := range []int{0, 1, 100, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3 * chunkBytes, 3*chunkBytes + 7, stepBytes, stepBytes + 5, 2*stepBytes + chunkBytes} {
		for _, piece := range []int{999, chunkBytes, 1 << 20, 1 << 22} {
			for _, ext := range []string{".run", ".frames", ".plain"} {
				f(ext, size, piece)
			}
		}
	}
}

func TestAFileIsReadWhileItIsWritten(t *testing.T) {
	fsys := New(vfs.NewMem(1), testKeys(t, "a"), formOf)
	want := content(5*chunkBytes + 99)
	for _, name := range []string{"a.run", "a.frames"} {
		file, err := fsys.Create(name)
		must(t, err)
		for at := 0; at < len(want); at += 7777 {
			end := min(len(want), at+7777)
			_, err := file.WriteAt(want[at:end], int64(at))
			must(t, err)
			got := make([]byte, end)
			if n, err := file.ReadAt(got, 0); n != end || err != nil && err != io.EOF || !bytes.Equal(got, want[:end]) {
				t.Fatalf("%s: read %d of %d bytes: %v", name, n, end, err)
			}
			if n, err := file.ReadAt(make([]byte, 2), int64(end)-1); n != 1 || err != io.EOF {
				t.Fatalf("%s: at the end: %d, %v", name, n, err)
			}
		}
		must(t, file.Close())
	}
}

// Every byte that changes is an error, or does not matter: never other content.
func TestAFlippedByteIsAnError(t *testing.T) {
	f := func(ext string, size, piece int) {
		t.Helper()
		mem := vfs.NewMem(1)
		fsys := Strict(New(mem, testKeys(t, "a"), formOf))
		want := content(size)
		write(t, fsys, "f"+ext, want, piece)
		raw, err := mem.OpenWrite("f" + ext)
		must(t, err)
		stored, _ := raw.Bytes()
		for at := int64(0); at < stored; at++ {
			if at%4096 > 200 && at < 8192 && at%37 != 0 {
				continue // zeros
			}
			var b [1]byte
			_, err := raw.ReadAt(b[:], at)
			must(t, err)
			for _, flip := range []byte{1, 0x80, 0xff} {
				_, err = raw.WriteAt([]byte{b[0] ^ flip}, at)
				must(t, err)
				got, err := read(fsys, "f"+ext)
				var damage *vfs.CorruptError
				short := ext == ".frames" && len(got) < size && bytes.HasPrefix(want, got) // its owner knows the length
				if err == nil && !short || err != nil && !errors.As(err, &damage) && !errors.Is(err, ErrKey) {
					t.Fatalf("%s, byte %d: %d bytes, %v", ext, at, len(got), err)
				}
			}
			_, err = raw.WriteAt(b[:], at)
			must(t, err)
		}
		if got, err := read(fsys, "f"+ext); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: the test broke the file: %v", ext, err)
		}
	}
	f(".run", 0, 1)
	f(".run", 300, 300)
	f(".frames", 300, 100)
}

func TestACutOrMixedFileIsAnError(t *testing.T) {
	const full = chunkBytes + TagBytes
	f := func(what string, change func(stored, other []byte) []byte) {
		t.Helper()
		mem := vfs.NewMem(1)
		fsys := New(mem, testKeys(t, "a"), formOf)
		write(t, fsys, "f.run", content(3*chunkBytes), 1<<20)
		write(t, fsys, "g.run", content(3*chunkBytes+1), 1<<20)
		stored, err := vfs.ReadFile(mem, "f.run", 1<<30)
		must(t, err)
		other, err := vfs.ReadFile(mem, "g.run", 1<<30)
		must(t, err)
		must(t, vfs.WriteFileAtomic(mem, "f.run", change(stored, other)))
		var damage *vfs.CorruptError
		if got, err := read(fsys, "f.run"); !errors.As(err, &damage) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
		opened := NewOpening(bytes.NewReader(change(stored, other)), "f.run", testKeys(t, "a"))
		if got, err := io.ReadAll(opened); !errors.As(err, &damage) {
			t.Errorf("%s, as a stream: %d bytes, %v", what, len(got), err)
		}
	}
	chunk := func(b []byte, i int) []byte { return b[headerRegionBytes+i*full:][:full] }
	for _, cut := range []int{1, 100, full, full + 1, 2 * full, 3*full - 1, 3 * full, 3*full + 5, 3*full + headerPageBytes} {
		f(fmt.Sprintf("%d bytes cut off", cut), func(b, _ []byte) []byte { return b[:len(b)-cut] })
	}
	f("chunks in another order", func(b, _ []byte) []byte {
		c := bytes.Clone(b)
		copy(chunk(c, 0), chunk(b, 1))
		copy(chunk(c, 1), chunk(b, 0))
		return c
	})
	f("a chunk of another file", func(b, other []byte) []byte {
		c := bytes.Clone(b)
		copy(chunk(c, 1), chunk(other, 1))
		return c
	})
	f("a chunk twice", func(b, _ []byte) []byte {
		c := bytes.Clone(b)
		copy(chunk(c, 1), chunk(b, 0))
		return c
	})
	f("a chunk more", func(b, _ []byte) []byte { return append(bytes.Clone(b), chunk(b, 2)...) })
	f("the header of another file", func(b, other []byte) []byte {
		return append(bytes.Clone(other[:headerRegionBytes]), b[headerRegionBytes:]...)
	})
}

func TestSealedStreams(t *testing.T) {
	keys := testKeys(t, "ba")
	f := func(size int) {
		t.Helper()
		want := content(size)
		stored, err := io.ReadAll(NewSealing(iotest.HalfReader(bytes.NewReader(want)), testKeys(t, "a")))
		must(t, err)
		if int64(len(stored)) != SealedBytes(int64(size)) {
			t.Errorf("%d bytes take %d", size, len(stored))
		}
		got, err := io.ReadAll(NewOpening(iotest.OneByteReader(bytes.NewReader(stored)), "s", keys))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
		mem := vfs.NewMem(1)
		must(t, vfs.WriteFileAtomic(mem, "f.run", stored))
		if got, err := read(New(mem, keys, formOf), "f.run"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes as a file: %d, %v", size, len(got), err)
		}
	}
	for _, size := range []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 2 * chunkBytes, 2*stepBytes + 3} {
		f(size)
	}
	broken := NewSealing(iotest.ErrReader(errors.New("broken")), keys)
	if got, err := io.ReadAll(broken); err == nil {
		t.Errorf("a source that broke gives a whole file of %d bytes", len(got))
	}
}

// A connection that broke is no damage: it is asked again, and damage is not.
func TestAStreamThatBreaksOffIsNoDamage(t *testing.T) {
	stored, err := io.ReadAll(NewSealing(bytes.NewReader(content(3*chunkBytes)), testKeys(t, "a")))
	must(t, err)
	for _, at := range []int{0, 1, headerRegionBytes, headerRegionBytes + 7, headerRegionBytes + chunkBytes + TagBytes, len(stored) - 1} {
		for _, broken := range []error{io.ErrUnexpectedEOF, errors.New("broken")} {
			from := io.MultiReader(bytes.NewReader(stored[:at]), iotest.ErrReader(broken))
			got, err := io.ReadAll(NewOpening(from, "s", testKeys(t, "a")))
			var damage *vfs.CorruptError
			if !errors.Is(err, broken) || errors.As(err, &damage) || !bytes.HasPrefix(content(3*chunkBytes), got) {
				t.Errorf("after %d bytes: %d, %v", at, len(got), err)
			}
		}
	}
}

// No nonce meets two texts: what is sealed has one nonce after the other, however it was
// written, each chunk whole but the last, and nothing is sealed twice.
func TestEveryChunkHasItsOwnNonce(t *testing.T) {
	f := func(size int, pieces ...int) {
		t.Helper()
		spy := &nonceSpy{t: t, seen: map[string]bool{}}
		s := newSealer(testKeys(t, "a"))
		spy.AEAD, s.aead = s.aead, spy
		want, at := content(size), 0
		for i := 0; at < size; i++ {
			n := min(pieces[i%len(pieces)], size-at)
			s.add(want[at : at+n])
			at += n
		}
		s.end()
		if !bytes.Equal(spy.plain, want) || len(spy.seen) != max(1, (size+chunkBytes-1)/chunkBytes) || spy.last != 1 {
			t.Errorf("%d bytes by %v: %d sealed, %d nonces, %d last ones", size, pieces, len(spy.plain), len(spy.seen), spy.last)
		}
	}
	for _, size := range []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 2 * chunkBytes, 2*chunkBytes + 1, 5*chunkBytes + 9} {
		f(size, 1000)
		f(size, chunkBytes)
		f(size, chunkBytes-1, 1, chunkBytes+1)
		f(size, 1, 3*chunkBytes)
		f(size, 1<<20)
	}
}

// nonceSpy fails a test that uses a nonce twice.
type nonceSpy struct {
	cipher.AEAD
	t     *testing.T
	seen  map[string]bool
	plain []byte
	last  int
}

func (s *nonceSpy) Seal(dst, nonce, plain, more []byte) []byte {
	number := binary.LittleEndian.Uint64(nonce)
	if s.seen[string(nonce[:8])] || number != uint64(len(s.seen)) {
		s.t.Errorf("the nonce %x comes as number %d", nonce, len(s.seen))
	}
	if nonce[8] == 0 && len(plain) != chunkBytes {
		s.t.Errorf("chunk %d has %d bytes and is not the last", number, len(plain))
	}
	s.seen[string(nonce[:8])], s.last = true, s.last+int(nonce[8])
	s.plain = append(s.plain, plain...)
	return s.AEAD.Seal(dst, nonce, plain, more)
}

// Files that are written again under one name have keys of their own, so nothing of the
// one opens in the other.
func TestAFileThatIsWrittenAgainHasAnotherKey(t *testing.T) {
	const full = chunkBytes + TagBytes
	mem := vfs.NewMem(1)
	fsys := New(mem, testKeys(t, "a"), formOf)
	var stored [2][]byte
	for i := range stored {
		write(t, fsys, "f.run", content(3*chunkBytes), 1<<20)
		var err error
		stored[i], err = vfs.ReadFile(mem, "f.run", 1<<30)
		must(t, err)
		must(t, mem.Remove("f.run"))
	}
	if bytes.Equal(stored[0][headerRegionBytes:], stored[1][headerRegionBytes:]) {
		t.Error("the same text is sealed to the same bytes")
	}
	copy(stored[1][headerRegionBytes+full:], stored[0][headerRegionBytes+full:][:full])
	must(t, vfs.WriteFileAtomic(mem, "f.run", stored[1]))
	var damage *vfs.CorruptError
	if got, err := read(fsys, "f.run"); !errors.As(err, &damage) {
		t.Errorf("a chunk of the file before: %d bytes, %v", len(got), err)
	}
}

// A chunk's length belongs to the header that the file's key was wrapped with.
func TestTheHeaderIsAuthenticated(t *testing.T) {
	mem := vfs.NewMem(1)
	fsys := New(mem, testKeys(t, "ab"), formOf)
	write(t, fsys, "f.run", content(3*chunkBytes), 1<<20)
	stored, err := vfs.ReadFile(mem, "f.run", 1<<30)
	must(t, err)
	f := func(what string, change func(header []byte)) {
		t.Helper()
		b := bytes.Clone(stored)
		change(b)
		binary.LittleEndian.PutUint32(b[headerCRCAt:], crc32.Checksum(b[:headerCRCAt], castagnoli))
		copy(b[headerPageBytes:], b[:headerBytes])
		must(t, vfs.WriteFileAtomic(mem, "g.run", b))
		for _, of := range []vfs.FS{fsys, Strict(fsys), Lenient(fsys)} {
			if got, err := vfs.ReadFile(of, "g.run", 1<<30); err == nil {
				t.Errorf("%s: %d bytes", what, len(got))
			}
		}
		if got, err := io.ReadAll(NewOpening(bytes.NewReader(b), "g.run", testKeys(t, "ab"))); err == nil {
			t.Errorf("%s, as a stream: %d bytes", what, len(got))
		}
	}
	f("smaller chunks", func(b []byte) { binary.LittleEndian.PutUint32(b[20:], chunkBytes/2) })
	f("frames", func(b []byte) { binary.LittleEndian.PutUint32(b[20:], formFrames) })
	f("another key's id", func(b []byte) { id := testKeys(t, "b").Current(); copy(b[24:], id[:]) })
	f("another nonce", func(b []byte) { b[headerPrefixBytes] ^= 1 })
	f("another file's key", func(b []byte) { b[headerWrappedAt] ^= 1 })
}

// Readers of one file share nothing that they change.
func TestAFileIsReadByMany(t *testing.T) {
	fsys := New(vfs.NewMem(1), testKeys(t, "a"), formOf)
	want := content(9*chunkBytes + 5)
	write(t, fsys, "f.run", want, 1<<20)
	file, err := fsys.Open("f.run")
	must(t, err)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(i)))
			for range 100 {
				from := r.IntN(len(want))
				part := make([]byte, r.IntN(len(want)-from)+1)
				if n, err := file.ReadAt(part, int64(from)); err != nil || !bytes.Equal(part[:n], want[from:from+n]) {
					t.Errorf("%d bytes at %d: %d, %v", len(part), from, n, err)
				}
			}
		})
	}
	all.Wait()
	must(t, file.Close())
}

// A read goes nowhere but into what it was given, also where it fails.
func TestAReadStaysInItsRoom(t *testing.T) {
	mem := vfs.NewMem(1)
	fsys := New(mem, testKeys(t, "a"), formOf)
	write(t, fsys, "f.run", content(4*chunkBytes+5), 1<<20)
	raw, err := mem.OpenWrite("f.run")
	must(t, err)
	_, err = raw.WriteAt([]byte{0}, headerRegionBytes+2*(chunkBytes+TagBytes)+9)
	must(t, err)
	for _, of := range []vfs.FS{fsys, Lenient(fsys)} {
		file, err := of.Open("f.run")
		must(t, err)
		for _, at := range []int{0, 1, chunkBytes, chunkBytes + 1, 2 * chunkBytes, 3 * chunkBytes, 4 * chunkBytes} {
			for _, n := range []int{0, 1, 5, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3 * chunkBytes} {
				room := bytes.Repeat([]byte{0xee}, n+64)
				_, _ = file.ReadAt(room[:n], int64(at))
				if !bytes.Equal(room[n:], bytes.Repeat([]byte{0xee}, 64)) {
					t.Errorf("%d bytes at %d: something was written behind them", n, at)
				}
			}
		}
		must(t, file.Close())
	}
}

func TestKeys(t *testing.T) {
	refuse := func(text string) {
		t.Helper()
		keys, err := ParseKeys(text)
		if err == nil {
			t.Errorf("%q gives %v", text, keys.IDs())
		} else if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	hexKey := strings.Repeat("0f", KeyBytes)
	refuse("")
	refuse("secret")
	refuse(hexKey[2:])
	refuse(hexKey + "00")
	refuse(hexKey + "\n" + strings.ToUpper(hexKey))
	for _, text := range []string{"Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8=", "Dw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8", strings.ToUpper(hexKey), " " + hexKey + "\n"} {
		keys, err := ParseKeys(text)
		if err != nil || keys.Current() != testKeys(t, "\x0f").Current() {
			t.Errorf("%q: %v", text, err)
		}
	}
	id := testKeys(t, "a").Current()
	if again, err := ParseKeyID(id.String()); err != nil || again != id {
		t.Errorf("%s: %v, %v", id, again, err)
	}
}

func TestOnlyTheRightKeyOpens(t *testing.T) {
	mem := vfs.NewMem(1)
	for _, name := range []string{"f.run", "f.frames"} {
		write(t, New(mem, testKeys(t, "a"), formOf), name, content(100), 100)
		if _, err := read(New(mem, testKeys(t, "b"), formOf), name); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), testKeys(t, "a").Current().String()) {
			t.Errorf("%s, another key: %v", name, err)
		}
		if got, err := read(New(mem, testKeys(t, "ba"), formOf), name); err != nil || !bytes.Equal(got, content(100)) {
			t.Errorf("%s, one of two keys: %v", name, err)
		}
		s, err := Inspect(mem, name)
		if err != nil || s.Key != testKeys(t, "a").Current() || s.Plain {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
}

func TestPlainFilesAreReadUnlessAllAreSealed(t *testing.T) {
	mem := vfs.NewMem(1)
	fsys := New(mem, testKeys(t, "a"), formOf)
	must(t, vfs.WriteFileAtomic(mem, "old.run", []byte("plain")))
	if got, err := read(fsys, "old.run"); err != nil || string(got) != "plain" {
		t.Errorf("%q, %v", got, err)
	}
	var damage *vfs.CorruptError
	if got, err := read(Strict(fsys), "old.run"); !errors.As(err, &damage) {
		t.Errorf("where all are sealed: %q, %v", got, err)
	}
	if s, err := Inspect(mem, "old.run"); err != nil || !s.Plain || s.Bytes != 5 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestOneSoundHeaderIsEnoughForARepair(t *testing.T) {
	for page := range 2 {
		mem := vfs.NewMem(1)
		fsys := Strict(New(mem, testKeys(t, "a"), formOf))
		write(t, fsys, "f.run", content(100), 100)
		raw, err := mem.OpenWrite("f.run")
		must(t, err)
		_, err = raw.WriteAt(make([]byte, headerPageBytes), int64(page)*headerPageBytes)
		must(t, err)
		var damage *vfs.CorruptError
		if _, err := read(fsys, "f.run"); !errors.As(err, &damage) {
			t.Errorf("page %d: %v", page, err)
		}
		if got, err := read(Lenient(fsys), "f.run"); err != nil || !bytes.Equal(got, content(100)) {
			t.Errorf("page %d, lenient: %v", page, err)
		}
	}
}

// Where bytes are lost a repair reads zeros, and all else as it was.
func TestALenientReadGoesOnAroundDamage(t *testing.T) {
	const full = chunkBytes + TagBytes
	f := func(what string, lost int, change func(stored []byte) []byte) {
		t.Helper()
		mem := vfs.NewMem(1)
		fsys := Strict(New(mem, testKeys(t, "a"), formOf))
		want := content(3*chunkBytes + 100)
		write(t, fsys, "f.run", want, 1<<20)
		stored, err := vfs.ReadFile(mem, "f.run", 1<<30)
		must(t, err)
		must(t, vfs.WriteFileAtomic(mem, "f.run", change(stored)))
		got, err := read(Lenient(fsys), "f.run")
		must(t, err)
		for i := range want[:len(got)] {
			if in := i / chunkBytes; in == lost && got[i] != 0 || in != lost && got[i] != want[i] {
				t.Fatalf("%s: byte %d", what, i)
			}
		}
	}
	f("a byte", 1, func(b []byte) []byte { b[headerRegionBytes+full+7] ^= 1; return b })
	f("the last chunk's tag", 3, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	f("cut behind a chunk", -1, func(b []byte) []byte { return b[:headerRegionBytes+2*full] })
	f("cut within a chunk", 1, func(b []byte) []byte { return b[:headerRegionBytes+full+100] })
}

func TestChunksAreWrittenOnce(t *testing.T) {
	fsys := New(vfs.NewMem(1), testKeys(t, "a"), formOf)
	file, err := fsys.Create("f.run")
	must(t, err)
	_, err = file.WriteAt(content(10), 0)
	must(t, err)
	for _, at := range []int64{0, 9, 11} {
		if _, err := file.WriteAt([]byte{1}, at); !errors.Is(err, errOrder) {
			t.Errorf("at %d: %v", at, err)
		}
	}
	must(t, file.Sync())
	must(t, file.Sync())
	if _, err := file.WriteAt([]byte{1}, 10); !errors.Is(err, errEnded) {
		t.Errorf("behind a sync: %v", err)
	}
	if _, err := fsys.OpenWrite("f.run"); !errors.Is(err, errEnded) {
		t.Errorf("opened again: %v", err)
	}
}

// Frames go on behind a sync, are cut back, and a crash leaves what was synced.
func TestFramesSurviveACrashAndGoOn(t *testing.T) {
	want := content(300 << 10)
	for op := int64(1); op < 40; op++ {
		mem := vfs.NewMem(uint64(op))
		must(t, mem.MkdirAll("d"))
		mem.CutPowerAt(mem.Ops() + op)
		fsys := New(mem, testKeys(t, "a"), formOf)
		synced := appendPieces(fsys, want)
		after := New(mem.CrashClone(uint64(op)), testKeys(t, "a"), formOf)
		if synced == 0 {
			continue
		}
		file, err := after.OpenWrite("d/f.frames")
		must(t, err)
		if size, err := file.Bytes(); err != nil || size < synced {
			t.Fatalf("cut at %d: %d bytes of %d: %v", op, size, synced, err)
		}
		must(t, file.Truncate(synced))
		_, err = file.WriteAt(want[synced:], synced)
		must(t, errors.Join(err, file.Sync(), file.Close()))
		if got, err := read(after, "d/f.frames"); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("cut at %d: %d bytes, %v", op, len(got), err)
		}
	}
}

// appendPieces writes until something fails, and tells how much was synced.
func appendPieces(fsys vfs.FS, want []byte) (synced int64) {
	file, err := fsys.Create("d/f.frames")
	if err != nil || fsys.SyncDir("d") != nil {
		return 0
	}
	for at := int64(0); at < int64(len(want)); {
		piece := min(int64(len(want))-at, 20_000+at/2)
		if _, err := file.WriteAt(want[at:at+piece], at); err != nil || file.Sync() != nil {
			return synced
		}
		at += piece
		synced = at
	}
	return synced
}

func TestFramesInAnyOrder(t *testing.T) {
	fsys := New(vfs.NewMem(1), testKeys(t, "a"), formOf)
	want := content(100_000)
	file, err := fsys.Create("f.frames")
	must(t, err)
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(100) {
		_, err := file.WriteAt(want[i*1000:][:1000], int64(i)*1000)
		must(t, err)
	}
	got := make([]byte, len(want))
	if _, err := file.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read back: %v", err)
	}
	if _, err := file.WriteAt([]byte{1}, 500); !errors.Is(err, errOrder) {
		t.Errorf("twice: %v", err)
	}
}

func TestNoNonceTwice(t *testing.T) {
	mem := vfs.NewMem(1)
	fsys := New(mem, testKeys(t, "a"), formOf)
	seen := map[string]bool{}
	for i := range 50 {
		name := fmt.Sprintf("%d.run", i)
		write(t, fsys, name, make([]byte, 2*chunkBytes), 1<<20)
		stored, err := vfs.ReadFile(mem, name, 1<<20)
		must(t, err)
		for at := 0; at+TagBytes <= len(stored)-headerRegionBytes; at += chunkBytes + TagBytes {
			piece := string(stored[headerRegionBytes+at:][:64])
			if seen[piece] {
				t.Fatalf("%s: the same content was sealed to the same bytes", name)
			}
			seen[piece] = true
		}
	}
}

func TestUncheckedIsWhatWasSealed(t *testing.T) {
	var salt [SaltBytes]byte
	d, err := testKeys(t, "a").Derive(testKeys(t, "a").Current(), "test", salt)
	must(t, err)
	want, nonce := content(100), [nonceBytes]byte{7}
	stored := d.AEAD.Seal(nil, nonce[:], want, nil)
	if got := d.Unchecked(nil, nonce, stored[:100]); !bytes.Equal(got, want) {
		t.Error("other bytes")
	}
}

func FuzzOpen(f *testing.F) {
	mem := vfs.NewMem(1)
	fsys := New(mem, testKeys(f, "a"), formOf)
	for _, name := range []string{"a.run", "a.frames"} {
		write(f, fsys, name, content(100), 30)
		stored, err := vfs.ReadFile(mem, name, 1<<20)
		must(f, err)
		f.Add(stored)
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		mem := vfs.NewMem(1)
		must(t, vfs.WriteFileAtomic(mem, "f.run", stored))
		got, err := read(Strict(New(mem, testKeys(t, "a"), formOf)), "f.run")
		if err == nil && !bytes.Equal(got, content(100)) {
			t.Errorf("%d bytes that nobody sealed", len(got))
		}
		got, err = io.ReadAll(NewOpening(bytes.NewReader(stored), "f", testKeys(t, "a")))
		if err == nil && !bytes.Equal(got, content(100)) {
			t.Errorf("%d bytes of a stream that nobody sealed", len(got))
		}
	})
}

func BenchmarkRead(b *testing.B) {
	fsys := New(vfs.NewMem(1), testKeys(b, "a"), formOf)
	write(b, fsys, "f.run", make([]byte, 16<<20), 1<<20)
	file, err := fsys.Open("f.run")
	must(b, err)
	for _, size := range []int{1 << 10, 8 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			buf, r := make([]byte, size), rand.New(rand.NewPCG(1, 1))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				_, err := file.ReadAt(buf, r.Int64N(16<<20-int64(size)))
				must(b, err)
			}
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	data := make([]byte, 16<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		fsys := New(vfs.NewMem(1), testKeys(b, "a"), formOf)
		write(b, fsys, "f.run", data, 1<<20)
	}
}
