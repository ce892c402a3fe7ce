package bulk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/s2"

	"kiln/fhir"
	"kiln/internal/vfs"
)

// spill holds lines by patient: patients are dealt into parts by their ids, and the
// lines of a part can be read together. What is too much for memory is in one file,
// as chunks of one part each. The file lives as long as its export is being written, and nothing of
// it is needed after a crash.
//
//	0        8       12      16       20
//	+--------+-------+-------+--------+------------------+
//	| before | bytes | raw   | crc32c | entries, by S2   |     a chunk
//	+--------+-------+-------+--------+------------------+
//	| owner's length u8 | owner | type u16 | text's length u32 | text |     an entry
//
// before is where the part's chunk before begins, plus 1; 0: it is the first. The
// checksum is of all but itself.
type spill struct {
	fs     vfs.FS
	dir    string
	room   func() error // refuses when the disk is too full for more
	chunk  int          // bytes of entries
	at     atomic.Int64 // where the next chunk begins
	coded  sync.Pool    // *[]byte, for chunks
	parts  []spillPart
	begin  sync.Once
	file   vfs.File // nil: there is none
	opened error
}

// spillPart is what the spill has of some patients.
type spillPart struct {
	mu      sync.Mutex // guards what follows
	entries []byte     // that are in no chunk
	last    int64      // where the newest chunk begins, plus 1; 0: there is none
	bytes   int64      // of all entries
}

const (
	spillHeaderBytes = 20
	spillEntryBytes  = 7 // beside owner and text
	// exportSpillName is the name of the file in an export's directory.
	exportSpillName = "patients.spill"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newSpill(fs vfs.FS, dir string, room func() error, parts int, partBytes int64) *spill {
	s := &spill{fs: fs, dir: dir, room: room, parts: make([]spillPart, parts)}
	s.chunk = min(max(spillBytesMax/parts, spillChunkBytesMin), spillChunkBytesMax, int(partBytes/4))
	s.coded.New = func() any { return new([]byte) }
	return s
}

// partOf is the part that a patient is dealt into. A restart deals as before.
func (s *spill) partOf(owner []byte) int { return int(xxhash.Sum64(owner) % uint64(len(s.parts))) }

// add adds a line of a patient.
func (s *spill) add(part int, owner []byte, t fhir.TypeCode, text []byte) error {
	p := &s.parts[part]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entries = append(append(p.entries, byte(len(owner))), owner...)
	p.entries = binary.LittleEndian.AppendUint16(p.entries, uint16(t))
	p.entries = binary.LittleEndian.AppendUint32(p.entries, uint32(len(text)))
	p.entries = append(p.entries, text...)
	p.bytes += int64(spillEntryBytes + len(owner) + len(text))
	if len(p.entries) < s.chunk {
		return nil
	}
	if err := s.flush(p); err != nil {
		return fmt.Errorf("cannot set lines of an export aside: %w", err)
	}
	return nil
}

// flush writes a part's entries as a chunk. The caller holds the part.
func (s *spill) flush(p *spillPart) error {
	if s.begin.Do(s.create); s.opened != nil {
		return s.opened
	}
	if err := s.room(); err != nil {
		return err
	}
	room := s.coded.Get().(*[]byte)
	defer s.coded.Put(room)
	*room = slices.Grow((*room)[:0], spillHeaderBytes+s2.MaxEncodedLen(len(p.entries)))
	header := (*room)[:spillHeaderBytes]
	coded := s2.Encode((*room)[spillHeaderBytes:cap(*room)], p.entries)
	binary.LittleEndian.PutUint64(header, uint64(p.last))
	binary.LittleEndian.PutUint32(header[8:], uint32(len(coded)))
	binary.LittleEndian.PutUint32(header[12:], uint32(len(p.entries)))
	binary.LittleEndian.PutUint32(header[16:], crc32.Update(crc32.Checksum(header[:16], castagnoli), castagnoli, coded))
	whole := (*room)[:spillHeaderBytes+len(coded)]
	at := s.at.Add(int64(len(whole))) - int64(len(whole))
	if _, err := s.file.WriteAt(whole, at); err != nil {
		return err
	}
	p.last = at + 1
	if p.entries = p.entries[:0]; cap(p.entries) > 2*s.chunk {
		p.entries = nil
	}
	return nil
}

func (s *spill) create() {
	name := path.Join(s.dir, exportSpillName)
	s.opened = errors.Join(s.fs.MkdirAll(s.dir), s.fs.RemoveAll(name)) // of a former process
	if s.opened == nil {
		s.file, s.opened = s.fs.Create(name)
	}
}

// close removes the file.
func (s *spill) close() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.file.Close(), s.fs.RemoveAll(path.Join(s.dir, exportSpillName)))
	s.file = nil
	if err != nil {
		return fmt.Errorf("cannot remove what an export set aside: %w", err)
	}
	return nil
}

// spilled is a line of a patient.
type spilled struct {
	owner, text []byte
	typ         fhir.TypeCode
}

// each calls fn for all lines of a part, in about the order in which they were
// added. What fn gets holds for ever. Nothing is added any more.
func (s *spill) each(part int, fn func(e spilled) error) error {
	p := &s.parts[part]
	var chain []int64
	var header [spillHeaderBytes]byte
	for next := p.last; next != 0; {
		chain = append(chain, next-1)
		if _, err := s.file.ReadAt(header[:], next-1); err != nil {
			return fmt.Errorf("cannot read what an export set aside: %w", err)
		}
		before := int64(binary.LittleEndian.Uint64(header[:]))
		if before < 0 || before >= next {
			return errSpillDamaged
		}
		next = before
	}
	for _, at := range slices.Backward(chain) {
		entries, err := s.read(at)
		if err == nil {
			err = eachSpilled(entries, fn)
		}
		if err != nil {
			return err
		}
	}
	return eachSpilled(p.entries, fn)
}

// forget frees what a part has in memory.
func (s *spill) forget(part int) { s.parts[part].entries = nil }

var errSpillDamaged = errors.New("what an export set aside in its directory has changed; start the export again")

// read gives the entries of a chunk.
func (s *spill) read(at int64) ([]byte, error) {
	var header [spillHeaderBytes]byte
	if _, err := s.file.ReadAt(header[:], at); err != nil {
		return nil, fmt.Errorf("cannot read what an export set aside: %w", err)
	}
	length := int64(binary.LittleEndian.Uint32(header[8:]))
	if at+spillHeaderBytes+length > s.at.Load() {
		return nil, errSpillDamaged
	}
	room := s.coded.Get().(*[]byte)
	defer s.coded.Put(room)
	*room = slices.Grow((*room)[:0], int(length))[:length]
	if _, err := s.file.ReadAt(*room, at+spillHeaderBytes); err != nil {
		return nil, fmt.Errorf("cannot read what an export set aside: %w", err)
	}
	if crc32.Update(crc32.Checksum(header[:16], castagnoli), castagnoli, *room) != binary.LittleEndian.Uint32(header[16:]) {
		return nil, errSpillDamaged
	}
	entries, err := s2.Decode(nil, *room)
	if err != nil || len(entries) != int(binary.LittleEndian.Uint32(header[12:])) {
		return nil, errSpillDamaged
	}
	return entries, nil
}

func eachSpilled(b []byte, fn func(e spilled) error) error {
	for len(b) > 0 {
		owner := b[1 : 1+int(b[0])]
		b = b[1+len(owner):]
		t, length := fhir.TypeCode(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint32(b[2:]))
		text := b[6 : 6+length]
		b = b[6+length:]
		if err := fn(spilled{owner: owner, text: text, typ: t}); err != nil {
			return err
		}
	}
	return nil
}

// dropSpill removes what an export whose files go elsewhere set aside here. The
// next start removes what stays.
func (m *Manager) dropSpill(id int64) {
	if err := m.opts.Store.FS().RemoveAll(m.exportDir(id)); err != nil {
		m.logger.Warn("cannot remove what an export set aside", "export", id, "error", err)
	}
}
