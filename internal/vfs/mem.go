package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"sort"
	"strings"
	"sync"
	"syscall"
)

// Mem is a file system in memory for tests. It keeps, next to what callers
// see, what the disk would hold if the power went now; CrashClone gives that.
// With one caller at a time its behaviour is a function of the seed alone.
type Mem struct {
	// mu guards everything below, the nodes included. Files take it too.
	mu sync.Mutex
	// rng decides what partial effects leave; it is only used in failures.
	rng     *rand.Rand
	nodes   map[string]*memNode // what callers see, by clean path
	durable map[string]*memNode // the entries a power cut cannot take
	// pending are the entry changes since their directory was synced, in order.
	pending  []memEntryOp
	locked   map[string]bool
	hook     Hook
	ops      int64
	cut      bool
	capacity int64 // 0: unlimited
	used     int64 // bytes of the files callers see, in whole pages
	crashed  CrashCounts
}

// memEntryOp is one change of directory entries: node leaves oldName, if that
// is not empty, and appears under newName, if that is not empty.
type memEntryOp struct {
	oldName, newName string
	node             *memNode
}

// NewMem is an empty file system whose failures follow the seed.
func NewMem(seed uint64) *Mem {
	root := &memNode{isDir: true}
	return &Mem{
		rng:     rand.New(rand.NewPCG(seed, memStream)),
		nodes:   map[string]*memNode{"/": root, ".": root},
		durable: map[string]*memNode{"/": root, ".": root},
		locked:  map[string]bool{},
	}
}

// memStream is the second half of the generator's seed; any constant does.
const memStream = 0x4b494c4e

// SetHook installs the hook that sees every call from now on; nil removes it.
func (m *Mem) SetHook(h Hook) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = h
}

// CutPowerAt cuts the power at the mutating call number op (see Ops). It takes
// the place of a hook.
func (m *Mem) CutPowerAt(op int64) {
	m.SetHook(func(o Op) error {
		if o.Count >= op && o.Kind.Mutates() {
			return ErrPowerCut
		}
		return nil
	})
}

// SetCapacity bounds the space; 0 removes the bound. Calls that would take more
// fail with ENOSPC.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Ops is how many mutating calls there were.
func (m *Mem) Ops() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// UsedBytes is the space the files take, in whole pages.
func (m *Mem) UsedBytes() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// enter counts the call and asks the hook. With ErrPowerCut the caller may
// still let its unsynced effect happen when half is true: whether the call in
// flight got through is up to the seed.
func (m *Mem) enter(op Op) (half bool, err error) {
	if m.cut {
		return false, ErrPowerCut
	}
	if op.Kind.Mutates() {
		m.ops++
	}
	op.Count = m.ops
	if m.hook == nil {
		return false, nil
	}
	err = m.hook(op)
	if errors.Is(err, ErrPowerCut) {
		m.cut = true
		return m.rng.IntN(2) == 0, ErrPowerCut
	}
	return false, err
}

// do runs one call that changes the tree. The effect of a call that the power
// cut hit half the time happened, unsynced.
func (m *Mem) do(kind OpKind, name string, effect func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	half, err := m.enter(Op{Kind: kind, Name: name})
	if err != nil {
		if half && kind.Mutates() {
			_ = effect() // the caller is told of the power cut, whatever this gave
		}
		return opError(kind, name, err)
	}
	return opError(kind, name, effect())
}

func opError(kind OpKind, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: kind.String(), Path: name, Err: err}
}

// change applies an entry change for the callers and leaves it pending for the
// disk. Space is accounted for here: a node that loses its name frees its pages.
func (m *Mem) change(op memEntryOp) {
	if replaced := m.nodes[op.newName]; replaced != nil {
		m.unlinkNode(replaced)
	}
	if op.newName == "" {
		m.unlinkNode(op.node)
	} else {
		op.node.linked = true
	}
	applyEntry(m.nodes, op)
	m.pending = append(m.pending, op)
}

func (m *Mem) unlinkNode(n *memNode) {
	m.used -= n.pageBytes()
	n.linked = false
}

func applyEntry(entries map[string]*memNode, op memEntryOp) {
	if op.oldName != "" && entries[op.oldName] == op.node {
		delete(entries, op.oldName)
	}
	if op.newName != "" {
		entries[op.newName] = op.node
	}
}

func (m *Mem) lookup(name string) (*memNode, error) {
	n := m.nodes[path.Clean(name)]
	if n == nil {
		return nil, fs.ErrNotExist
	}
	return n, nil
}

func (m *Mem) lookupDir(name string) error {
	n, err := m.lookup(name)
	if err == nil && !n.isDir {
		return syscall.ENOTDIR
	}
	return err
}

func (m *Mem) lookupFile(name string) (*memNode, error) {
	n, err := m.lookup(name)
	if err == nil && n.isDir {
		return nil, syscall.EISDIR
	}
	return n, err
}

func (m *Mem) Create(name string) (File, error) {
	var f File
	err := m.do(OpCreate, name, func() error {
		clean := path.Clean(name)
		if m.nodes[clean] != nil {
			return fs.ErrExist
		}
		if err := m.lookupDir(path.Dir(clean)); err != nil {
			return err
		}
		node := &memNode{}
		m.change(memEntryOp{newName: clean, node: node})
		f = &memFile{fs: m, node: node, name: name, writable: true}
		return nil
	})
	return f, err
}

func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

func (m *Mem) OpenWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, writable bool) (File, error) {
	var f File
	err := m.do(OpOpen, name, func() error {
		node, err := m.lookupFile(name)
		if err == nil {
			f = &memFile{fs: m, node: node, name: name, writable: writable}
		}
		return err
	})
	return f, err
}

func (m *Mem) Remove(name string) error {
	return m.do(OpRemove, name, func() error {
		clean := path.Clean(name)
		node, err := m.lookup(clean)
		if err != nil {
			return err
		}
		if node.isDir && len(m.children(clean)) > 0 {
			return syscall.ENOTEMPTY
		}
		m.change(memEntryOp{oldName: clean, node: node})
		return nil
	})
}

func (m *Mem) RemoveAll(name string) error {
	return m.do(OpRemoveAll, name, func() error {
		clean := path.Clean(name)
		var doomed []string
		for p := range m.nodes {
			if p == clean || strings.HasPrefix(p, clean+"/") {
				doomed = append(doomed, p)
			}
		}
		// Children first, in a fixed order, as a walk of the tree would do.
		sort.Sort(sort.Reverse(sort.StringSlice(doomed)))
		for _, p := range doomed {
			m.change(memEntryOp{oldName: p, node: m.nodes[p]})
		}
		return nil
	})
}

func (m *Mem) Rename(oldName, newName string) error {
	return m.do(OpRename, oldName, func() error {
		from, to := path.Clean(oldName), path.Clean(newName)
		node, err := m.lookupFile(from)
		if err != nil || from == to {
			return err
		}
		if err := m.lookupDir(path.Dir(to)); err != nil {
			return err
		}
		if replaced := m.nodes[to]; replaced != nil && replaced.isDir {
			return syscall.EISDIR
		}
		m.change(memEntryOp{oldName: from, newName: to, node: node})
		return nil
	})
}

func (m *Mem) MkdirAll(name string) error {
	return m.do(OpMkdirAll, name, func() error { return m.mkdirAll(path.Clean(name)) })
}

func (m *Mem) mkdirAll(clean string) error {
	if n := m.nodes[clean]; n != nil {
		if !n.isDir {
			return syscall.ENOTDIR
		}
		return nil
	}
	parent := path.Dir(clean)
	if err := m.mkdirAll(parent); err != nil {
		return err
	}
	m.change(memEntryOp{newName: clean, node: &memNode{isDir: true}})
	if !m.cut {
		m.syncDir(parent)
	}
	return nil
}

func (m *Mem) List(dir string) ([]string, error) {
	var names []string
	err := m.do(OpList, dir, func() error {
		if err := m.lookupDir(dir); err != nil {
			return err
		}
		names = m.children(path.Clean(dir))
		return nil
	})
	return names, err
}

func (m *Mem) children(dir string) []string {
	var names []string
	for p := range m.nodes {
		if p != dir && p != "." && p != "/" && path.Dir(p) == dir {
			names = append(names, path.Base(p))
		}
	}
	sort.Strings(names)
	return names
}

func (m *Mem) Stat(name string) (Info, error) {
	var info Info
	err := m.do(OpStat, name, func() error {
		node, err := m.lookup(name)
		if err == nil {
			info = Info{Bytes: node.size, IsDir: node.isDir, Regular: !node.isDir}
		}
		return err
	})
	return info, err
}

func (m *Mem) SyncDir(dir string) error {
	return m.do(OpSyncDir, dir, func() error {
		if err := m.lookupDir(dir); err != nil {
			return err
		}
		if !m.cut {
			m.syncDir(path.Clean(dir))
		}
		return nil
	})
}

// syncDir applies the pending changes that touch dir. A rename between two
// directories is one change: syncing either makes it durable.
func (m *Mem) syncDir(dir string) {
	kept := m.pending[:0]
	for _, op := range m.pending {
		if op.touches(dir) {
			applyEntry(m.durable, op)
		} else {
			kept = append(kept, op)
		}
	}
	clear(m.pending[len(kept):])
	m.pending = kept
}

func (op memEntryOp) touches(dir string) bool {
	return op.oldName != "" && path.Dir(op.oldName) == dir || op.newName != "" && path.Dir(op.newName) == dir
}

func (m *Mem) Lock(name string) (io.Closer, error) {
	var lock io.Closer
	err := m.do(OpLock, name, func() error {
		clean := path.Clean(name)
		if m.locked[clean] {
			return ErrLocked
		}
		if err := m.lookupDir(path.Dir(clean)); err != nil {
			return err
		}
		if m.nodes[clean] == nil {
			m.change(memEntryOp{newName: clean, node: &memNode{}})
		}
		m.locked[clean] = true
		lock = &memLock{fs: m, name: clean}
		return nil
	})
	return lock, err
}

type memLock struct {
	fs   *Mem
	name string
}

func (l *memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locked, l.name)
	return nil
}

// memUnlimitedBytes is the free space of a Mem without a capacity: 1 TiB.
const memUnlimitedBytes = 1 << 40

func (m *Mem) FreeBytes(dir string) (int64, error) {
	free := int64(memUnlimitedBytes)
	err := m.do(OpFreeBytes, dir, func() error {
		if m.capacity > 0 {
			free = max(0, m.capacity-m.used)
		}
		return m.lookupDir(dir)
	})
	if err != nil {
		return 0, fmt.Errorf("cannot read the free space: %w", err)
	}
	return free, nil
}
