package vfs

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
)

const (
	// memPageBytes is the unit of the page cache.
	memPageBytes = 4096
	// memSectorBytes is the unit a disk writes whole: what a power cut tears.
	memSectorBytes = 512
)

type memPage [memPageBytes]byte

// memNode is a file or directory. A nil page is zeros. A page that is not in
// dirty may be shared with the durable state and is never written in place.
type memNode struct {
	isDir       bool
	linked      bool // has a name, so its pages count as used space
	size        int64
	pages       []*memPage
	durableSize int64
	durable     []*memPage
	dirty       map[int]struct{}
}

func (n *memNode) pageBytes() int64 { return pagesOf(n.size) * memPageBytes }

func pagesOf(size int64) int64 { return (size + memPageBytes - 1) / memPageBytes }

func pageAt(pages []*memPage, i int) *memPage {
	if i < len(pages) {
		return pages[i]
	}
	return nil
}

func setPage(pages []*memPage, i int, p *memPage) []*memPage {
	for len(pages) <= i {
		pages = append(pages, nil)
	}
	pages[i] = p
	return pages
}

// dirtyPage returns page i ready to be written in place.
func (n *memNode) dirtyPage(i int) *memPage {
	if _, ok := n.dirty[i]; ok {
		return n.pages[i]
	}
	fresh := new(memPage)
	if p := pageAt(n.pages, i); p != nil {
		*fresh = *p
	}
	n.pages = setPage(n.pages, i, fresh)
	if n.dirty == nil {
		n.dirty = map[int]struct{}{}
	}
	n.dirty[i] = struct{}{}
	return fresh
}

func (n *memNode) write(data []byte, offset int64) {
	n.size = max(n.size, offset+int64(len(data)))
	for len(data) > 0 {
		page := n.dirtyPage(int(offset / memPageBytes))
		done := copy(page[offset%memPageBytes:], data)
		data, offset = data[done:], offset+int64(done)
	}
}

func (n *memNode) read(dst []byte, offset int64) {
	for len(dst) > 0 {
		at := int(offset % memPageBytes)
		chunk := dst[:min(len(dst), memPageBytes-at)]
		if page := pageAt(n.pages, int(offset/memPageBytes)); page != nil {
			copy(chunk, page[at:])
		} else {
			clear(chunk)
		}
		dst, offset = dst[len(chunk):], offset+int64(len(chunk))
	}
}

// resize cuts or extends with zeros; what is past the end reads as zeros when
// the file grows again.
func (n *memNode) resize(size int64) {
	if size < n.size {
		if tail := size % memPageBytes; tail != 0 {
			clear(n.dirtyPage(int(size / memPageBytes))[tail:])
		}
		for i := int(pagesOf(size)); i < max(len(n.pages), len(n.durable)); i++ {
			n.dropPage(i)
		}
	}
	n.size = size
}

// dropPage makes page i zeros. When the disk has other bytes there, the zeros
// are dirty: should the file grow again before a sync, they must reach it.
func (n *memNode) dropPage(i int) {
	if pageAt(n.durable, i) != nil {
		*n.dirtyPage(i) = memPage{}
		return
	}
	delete(n.dirty, i)
	if i < len(n.pages) {
		n.pages[i] = nil
	}
}

// sync makes the current state durable.
func (n *memNode) sync() {
	for i := range n.dirty {
		n.durable = setPage(n.durable, i, n.pages[i])
	}
	clear(n.dirty)
	for i := int(pagesOf(n.size)); i < len(n.durable); i++ {
		n.durable[i] = nil
	}
	n.durableSize = n.size
}

// memFile is one handle. Its state is guarded by the file system's lock.
type memFile struct {
	fs       *Mem
	node     *memNode
	name     string
	writable bool
	closed   bool
}

func (f *memFile) check(write bool) error {
	if f.closed {
		return fs.ErrClosed
	}
	if write && !f.writable {
		return syscall.EBADF
	}
	return nil
}

func (f *memFile) ReadAt(dst []byte, offset int64) (int, error) {
	m := f.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.enter(Op{Kind: OpRead, Name: f.name, Offset: offset, Bytes: int64(len(dst))}); err != nil {
		return 0, opError(OpRead, f.name, err)
	}
	if err := f.check(false); err != nil {
		return 0, opError(OpRead, f.name, err)
	}
	if offset < 0 {
		return 0, opError(OpRead, f.name, fs.ErrInvalid)
	}
	n := int(min(int64(len(dst)), max(0, f.node.size-offset)))
	f.node.read(dst[:n], offset)
	if n < len(dst) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(data []byte, offset int64) (int, error) {
	m := f.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	half, hookErr := m.enter(Op{Kind: OpWrite, Name: f.name, Offset: offset, Bytes: int64(len(data))})
	if err := f.check(true); err != nil {
		return 0, opError(OpWrite, f.name, err)
	}
	if offset < 0 {
		return 0, opError(OpWrite, f.name, fs.ErrInvalid)
	}
	allowed := len(data)
	if hookErr != nil {
		allowed = writeAllowed(hookErr, half, len(data))
	}
	n, err := f.writeWithin(data[:allowed], offset)
	if hookErr != nil {
		err = hookErr
	}
	return n, opError(OpWrite, f.name, err)
}

// writeAllowed is how much of a failing write happens.
func writeAllowed(err error, half bool, length int) int {
	var short *ShortWrite
	if errors.As(err, &short) {
		return min(short.Bytes, length)
	}
	if half {
		return length
	}
	return 0
}

// writeWithin writes as much as the capacity has room for, in whole pages.
func (f *memFile) writeWithin(data []byte, offset int64) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	n := len(data)
	for n > 0 && !f.grow(offset+int64(n)) {
		end := (offset + int64(n) - 1) / memPageBytes * memPageBytes
		n = int(max(0, end-offset))
	}
	f.node.write(data[:n], offset)
	if n < len(data) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// grow accounts for a file of at least size bytes and reports whether it fits.
func (f *memFile) grow(size int64) bool {
	m, extra := f.fs, pagesOf(size)*memPageBytes-f.node.pageBytes()
	if extra <= 0 || !f.node.linked {
		return true
	}
	if m.capacity > 0 && m.used+extra > m.capacity {
		return false
	}
	m.used += extra
	f.node.size = max(f.node.size, size)
	return true
}

func (f *memFile) Sync() error { return f.sync() }

// WriteBack is nothing here: a crash may keep any page that was written.
func (f *memFile) WriteBack(int64, int64) {}

func (f *memFile) SyncData() error { return f.sync() }

func (f *memFile) sync() error {
	m := f.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	wasCut := m.cut
	_, err := m.enter(Op{Kind: OpSync, Name: f.name})
	if err != nil {
		if !wasCut && !f.closed {
			f.node.failSync(m.rng)
		}
		return opError(OpSync, f.name, err)
	}
	if err := f.check(false); err != nil {
		return opError(OpSync, f.name, err)
	}
	f.node.sync()
	return nil
}

func (f *memFile) Preallocate(bytes int64) error {
	return f.resize(OpPreallocate, bytes, func() error {
		if bytes <= f.node.size {
			return nil
		}
		if !f.grow(bytes) {
			f.growSome()
			return syscall.ENOSPC
		}
		f.node.resize(bytes)
		return nil
	})
}

// growSome is what a failed preallocation may leave behind: the file extended
// by a part of the room there was.
func (f *memFile) growSome() {
	m := f.fs
	if room := (m.capacity - m.used) / memPageBytes; room > 0 {
		f.grow((pagesOf(f.node.size) + m.rng.Int64N(room+1)) * memPageBytes)
	}
}

func (f *memFile) Truncate(bytes int64) error {
	return f.resize(OpTruncate, bytes, func() error {
		if bytes < 0 {
			return fs.ErrInvalid
		}
		// A longer file is sparse: it takes no space until it is written; the
		// account is kept simple and charges it at once.
		if !f.grow(bytes) {
			return syscall.ENOSPC
		}
		if shrunk := f.node.pageBytes() - pagesOf(bytes)*memPageBytes; shrunk > 0 && f.node.linked {
			f.fs.used -= shrunk
		}
		f.node.resize(bytes)
		return nil
	})
}

func (f *memFile) resize(kind OpKind, bytes int64, effect func() error) error {
	m := f.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	half, err := m.enter(Op{Kind: kind, Name: f.name, Bytes: bytes})
	if checkErr := f.check(true); checkErr != nil {
		return opError(kind, f.name, checkErr)
	}
	if err == nil {
		return opError(kind, f.name, effect())
	}
	if half {
		_ = effect() // the caller is told of the power cut
	}
	return opError(kind, f.name, err)
}

func (f *memFile) Bytes() (int64, error) {
	m := f.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.enter(Op{Kind: OpStat, Name: f.name}); err != nil {
		return 0, opError(OpStat, f.name, err)
	}
	if err := f.check(false); err != nil {
		return 0, opError(OpStat, f.name, err)
	}
	return f.node.size, nil
}

func (f *memFile) Close() error {
	m := f.fs
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.enter(Op{Kind: OpClose, Name: f.name})
	if err == nil && f.closed {
		err = fs.ErrClosed
	}
	f.closed = true
	return opError(OpClose, f.name, err)
}
