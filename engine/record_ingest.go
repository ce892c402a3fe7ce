package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/index"
)

// An INGEST payload publishes runs (little endian):
//
//	0      1      4       8       12       16         20         24     32
//	+------+------+-------+-------+--------+----------+----------+------+
//	| kind | zero | runs  | marks | heads  | versions | progress | job  |
//	|      |      |       |       |        |          | bytes    |      |
//	+------+------+-------+-------+--------+----------+----------+------+
//	32      40            48
//	+-------+-------------+------------+-------------+-------------+----
//	| clock | flushed     | runs:      | marks:      | heads:      | ...
//	| ms    | up to (LSN) | 64 + 8 + n | 16 + n each | 16 each     |
//	+-------+-------------+------------+-------------+-------------+----
//	... progress | versions (as in COMMIT)
//
// A run is its RunMeta, two lengths and two portable roaring bitmaps: the
// ordinals that are superseded from the start, and the void ones, which a
// racing write took out. A mark is a run id, a length and the bitmap of its
// ordinals that this record supersedes. A head is the (LSN, number in its
// record) of a head version that it supersedes. The versions are rows that the
// race gave another version; they join the head. A flush has one run, which
// takes the place of all head versions up to "flushed up to".
const (
	ingestHeaderBytes = 48
	runMetaBytes      = 64
	progressNone      = math.MaxUint32 // the job's entry ends
)

type ingestKind uint8

const (
	ingestImport ingestKind = 1
	ingestFlush  ingestKind = 2
	// ingestMerged is the kind of a run that a merge made of imports' runs; no
	// INGEST has it. What a merge makes of flushes is a flush's run still.
	ingestMerged ingestKind = 3
)

type ingestRun struct {
	meta       index.RunMeta
	superseded *roaring.Bitmap
	void       *roaring.Bitmap
}

type ingestMarks struct {
	run      index.RunID
	ordinals *roaring.Bitmap
}

type headPlace struct {
	lsn   uint64
	index uint32
}

type ingestRecord struct {
	kind        ingestKind
	job         uint64
	hasProgress bool
	progress    []byte
	clock       int64
	flushedUpTo uint64
	runs        []ingestRun
	marks       []ingestMarks
	heads       []headPlace
	versions    []versionRecord
}

func appendRunMeta(dst []byte, m index.RunMeta) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, uint64(m.ID))
	dst = le.AppendUint64(dst, uint64(m.Bytes))
	dst = le.AppendUint64(dst, m.Hash)
	dst = le.AppendUint32(dst, m.Rows)
	dst = le.AppendUint32(dst, m.Live)
	dst = le.AppendUint64(dst, uint64(m.MilliMin))
	dst = le.AppendUint64(dst, uint64(m.MilliMax))
	dst = le.AppendUint64(dst, uint64(m.BodyBytesRaw))
	return le.AppendUint64(dst, 0)
}

func parseRunMeta(src []byte) index.RunMeta {
	le := binary.LittleEndian
	return index.RunMeta{
		ID:           index.RunID(le.Uint64(src)),
		Bytes:        int64(le.Uint64(src[8:])),
		Hash:         le.Uint64(src[16:]),
		Rows:         le.Uint32(src[24:]),
		Live:         le.Uint32(src[28:]),
		MilliMin:     int64(le.Uint64(src[32:])),
		MilliMax:     int64(le.Uint64(src[40:])),
		BodyBytesRaw: int64(le.Uint64(src[48:])),
	}
}

func (r *ingestRecord) marshal() ([]byte, error) {
	le := binary.LittleEndian
	dst := append(make([]byte, 0, 4096), byte(r.kind), 0, 0, 0)
	dst = le.AppendUint32(dst, uint32(len(r.runs)))
	dst = le.AppendUint32(dst, uint32(len(r.marks)))
	dst = le.AppendUint32(dst, uint32(len(r.heads)))
	dst = le.AppendUint32(dst, uint32(len(r.versions)))
	if r.hasProgress {
		dst = le.AppendUint32(dst, uint32(len(r.progress)))
	} else {
		dst = le.AppendUint32(dst, progressNone)
	}
	dst = le.AppendUint64(dst, r.job)
	dst = le.AppendUint64(dst, uint64(r.clock))
	dst = le.AppendUint64(dst, r.flushedUpTo)
	var err error
	for i := range r.runs {
		if dst, err = r.runs[i].appendTo(dst); err != nil {
			return nil, err
		}
	}
	if dst, err = appendPlaces(dst, r.marks, r.heads); err != nil {
		return nil, err
	}
	dst = append(dst, r.progress...)
	for i := range r.versions {
		dst = r.versions[i].appendTo(dst)
	}
	return dst, nil
}

func (r *ingestRun) appendTo(dst []byte) ([]byte, error) {
	dst = appendRunMeta(dst, r.meta)
	at := len(dst)
	dst = binary.LittleEndian.AppendUint64(dst, 0)
	dst, err := appendBitmap(dst, at, r.superseded)
	if err != nil {
		return nil, err
	}
	return appendBitmap(dst, at+4, r.void)
}

// appendPlaces appends marks (run 8, length 4, zero 4, bitmap, each) and then
// places in the head (LSN 8, number in its record 4, zero 4, each).
func appendPlaces(dst []byte, marks []ingestMarks, heads []headPlace) (_ []byte, err error) {
	le := binary.LittleEndian
	for _, m := range marks {
		at := len(dst) + 8
		dst = le.AppendUint64(dst, uint64(m.run))
		dst = le.AppendUint64(dst, 0)
		if dst, err = appendBitmap(dst, at, m.ordinals); err != nil {
			return nil, err
		}
	}
	for _, h := range heads {
		dst = le.AppendUint64(dst, h.lsn)
		dst = le.AppendUint64(dst, uint64(h.index))
	}
	return dst, nil
}

// places reads what appendPlaces wrote of so many marks and heads.
func (p *payloadReader) places(markCount, headCount uint32) (marks []ingestMarks, heads []headPlace) {
	for i := uint32(0); i < markCount && p.err == nil; i++ {
		run := index.RunID(p.u64())
		n := p.u32()
		p.u32()
		marks = append(marks, ingestMarks{run: run, ordinals: p.bitmap(n, math.MaxUint32)})
	}
	for i := uint32(0); i < headCount && p.err == nil; i++ {
		heads = append(heads, headPlace{lsn: p.u64(), index: uint32(p.u64())})
	}
	return marks, heads
}

// appendBitmap appends a bitmap and writes its length at dst[lengthAt:]. nil
// and empty take no bytes.
func appendBitmap(dst []byte, lengthAt int, b *roaring.Bitmap) ([]byte, error) {
	if b == nil || b.IsEmpty() {
		return dst, nil
	}
	data, err := b.ToBytes()
	if err != nil {
		return nil, fmt.Errorf("cannot encode a bitmap: %w", err)
	}
	binary.LittleEndian.PutUint32(dst[lengthAt:], uint32(len(data)))
	return append(dst, data...), nil
}

// payloadReader takes fields off the front of a payload. After the first
// shortage everything reads as zero and err is set.
type payloadReader struct {
	src []byte
	at  int
	err error
}

func (p *payloadReader) take(n uint64) []byte {
	if p.err != nil || uint64(len(p.src)-p.at) < n {
		p.err = errors.Join(p.err, errShortPayload)
		return nil
	}
	b := p.src[p.at : p.at+int(n)]
	p.at += int(n)
	return b
}

func (p *payloadReader) u32() uint32 {
	if b := p.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (p *payloadReader) u64() uint64 {
	if b := p.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// bitmap reads a portable bitmap of n bytes whose ordinals are below rows.
func (p *payloadReader) bitmap(n, rows uint32) *roaring.Bitmap {
	data := p.take(uint64(n))
	if len(data) == 0 {
		return roaring.New()
	}
	b, err := index.ParseBitmap(data, rows)
	if err != nil {
		p.err = errors.Join(p.err, err)
		return roaring.New()
	}
	return b
}

// decodeIngest reads an INGEST payload. Its versions are read by versions,
// because their bodies' offsets matter.
func decodeIngest(payload []byte) (*ingestRecord, *payloadReader, error) {
	p := &payloadReader{src: payload}
	kind := p.u32()
	runs, marks, heads := p.u32(), p.u32(), p.u32()
	versions, progressBytes := p.u32(), p.u32()
	r := &ingestRecord{kind: ingestKind(kind), job: p.u64(), clock: int64(p.u64()), flushedUpTo: p.u64()}
	if r.kind != ingestImport && r.kind != ingestFlush {
		p.err = errors.Join(p.err, fmt.Errorf("%w: INGEST has the kind %d", ErrNewerFormat, kind))
	}
	for i := uint32(0); i < runs && p.err == nil; i++ {
		r.runs = append(r.runs, p.ingestRun())
	}
	r.marks, r.heads = p.places(marks, heads)
	if progressBytes != progressNone {
		r.hasProgress = true
		r.progress = append([]byte{}, p.take(uint64(progressBytes))...)
	}
	if p.err == nil && uint64(versions) > uint64(len(payload)/versionHeaderBytes) {
		p.err = errShortPayload
	}
	if p.err == nil {
		r.versions = make([]versionRecord, versions)
	}
	return r, p, p.err
}

func (p *payloadReader) ingestRun() ingestRun {
	var run ingestRun
	if b := p.take(runMetaBytes); b != nil {
		run.meta = parseRunMeta(b)
	}
	supersededBytes, voidBytes := p.u32(), p.u32()
	run.superseded = p.bitmap(supersededBytes, run.meta.Rows)
	run.void = p.bitmap(voidBytes, run.meta.Rows)
	return run
}
