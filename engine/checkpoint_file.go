package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sort"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/cespare/xxhash/v2"

	"kiln/fhir/search"
	"kiln/index"
	"kiln/internal/vfs"
)

// A checkpoint file is the store's state at one LSN, but for the head, which
// replay rebuilds from the records after "flushed" (little endian):
//
//	0         8        12     16         24    32        40      48
//	+---------+--------+------+----------+-----+---------+-------+----------+
//	| magic   | format | flds | store id | lsn | flushed | clock | next run |
//	+---------+--------+------+----------+-----+---------+-------+----------+
//	56       60         64
//	+--------+----------+------------------------+-------------------+----------+-------+
//	| runs   | progress | runs: 64 + 8+4+4+4+4   | progress:         | fields   | xxh64 |
//	| count  | count    | + bitmaps, by id       | 8+4+n each by job | (FIELDS) |       |
//	+--------+----------+------------------------+-------------------+----------+-------+
//
// A run is its RunMeta (whose last 8 bytes are here the run's rank, 0 for its own
// id), the LSN that published it, its kind, zero, the
// lengths of two portable roaring bitmaps (superseded and void), and those.
// flds counts the fields of added search parameters, which are as in a FIELDS record.
// The hash covers everything before it. Magic, format and hash stay where they are in
// every later format, so that a newer one and damage are told apart.
const (
	checkpointMagic = "KILNCKPT"
	// checkpointVersion is written when there are added fields, the one before when
	// there are merged runs; a store without either stays readable by Kilns that
	// know none.
	checkpointVersion       = 3
	checkpointVersionMerged = 2
	checkpointVersionSimple = 1

	checkpointHeaderBytes = 64
	// checkpointBytesMax bounds what is read at open: 1e9 rows with every other
	// one superseded are 125 MB of bitmaps.
	checkpointBytesMax = 1 << 30
)

type checkpointRun struct {
	meta       index.RunMeta
	publishLSN uint64
	kind       ingestKind
	rank       index.RunID
	superseded *roaring.Bitmap
	void       *roaring.Bitmap
}

type checkpointFile struct {
	storeID  uint64
	lsn      uint64
	flushed  uint64
	clock    int64
	nextRun  uint64
	runs     []checkpointRun
	progress map[uint64][]byte
	fields   []*search.Field
}

func (c *checkpointFile) marshal() ([]byte, error) {
	le := binary.LittleEndian
	dst := append(make([]byte, 0, 4096), checkpointMagic...)
	dst = le.AppendUint32(dst, c.version())
	dst = le.AppendUint32(dst, uint32(len(c.fields)))
	for _, n := range []uint64{c.storeID, c.lsn, c.flushed, uint64(c.clock), c.nextRun} {
		dst = le.AppendUint64(dst, n)
	}
	dst = le.AppendUint32(dst, uint32(len(c.runs)))
	dst = le.AppendUint32(dst, uint32(len(c.progress)))
	var err error
	for i := range c.runs {
		if dst, err = c.runs[i].appendTo(dst); err != nil {
			return nil, err
		}
	}
	jobs := make([]uint64, 0, len(c.progress))
	for job := range c.progress {
		jobs = append(jobs, job)
	}
	sort.Slice(jobs, func(i, j int) bool { return jobs[i] < jobs[j] })
	for _, job := range jobs {
		dst = le.AppendUint64(dst, job)
		dst = le.AppendUint32(dst, uint32(len(c.progress[job])))
		dst = append(dst, c.progress[job]...)
	}
	dst = appendFields(dst, c.fields)
	return le.AppendUint64(dst, xxhash.Sum64(dst)), nil
}

func (c *checkpointFile) version() uint32 {
	if len(c.fields) > 0 {
		return checkpointVersion
	}
	for i := range c.runs {
		if r := &c.runs[i]; r.kind == ingestMerged || r.rank != r.meta.ID {
			return checkpointVersionMerged
		}
	}
	return checkpointVersionSimple
}

func (r *checkpointRun) appendTo(dst []byte) ([]byte, error) {
	le := binary.LittleEndian
	dst = appendRunMeta(dst, r.meta)
	if r.rank != r.meta.ID {
		le.PutUint64(dst[len(dst)-8:], uint64(r.rank))
	}
	dst = le.AppendUint64(dst, r.publishLSN)
	dst = le.AppendUint32(dst, uint32(r.kind))
	dst = le.AppendUint32(dst, 0)
	at := len(dst)
	dst = le.AppendUint64(dst, 0)
	dst, err := appendBitmap(dst, at, r.superseded)
	if err != nil {
		return nil, err
	}
	return appendBitmap(dst, at+4, r.void)
}

var errCheckpoint = errors.New("not a valid checkpoint")

func parseCheckpoint(name string, data []byte) (*checkpointFile, error) {
	c, err := decodeCheckpoint(data)
	if errors.Is(err, ErrNewerFormat) {
		return nil, fmt.Errorf("cannot use %q: %w", name, err)
	}
	if err != nil {
		return nil, &vfs.CorruptError{File: name, What: err.Error()}
	}
	return c, nil
}

func decodeCheckpoint(data []byte) (*checkpointFile, error) {
	le := binary.LittleEndian
	if len(data) < checkpointHeaderBytes+8 || !bytes.HasPrefix(data, []byte(checkpointMagic)) {
		return nil, errCheckpoint
	}
	body := data[:len(data)-8]
	if xxhash.Sum64(body) != le.Uint64(data[len(body):]) {
		return nil, fmt.Errorf("%w: its hash does not match", errCheckpoint)
	}
	if version := le.Uint32(data[8:]); version > checkpointVersion {
		return nil, fmt.Errorf("%w: checkpoint format %d, this Kiln knows %d", ErrNewerFormat, version, checkpointVersion)
	}
	p := &payloadReader{src: body, at: 12}
	fields := p.u32()
	c := &checkpointFile{storeID: p.u64(), lsn: p.u64(), flushed: p.u64(), clock: int64(p.u64()), nextRun: p.u64()}
	runs, jobs := p.u32(), p.u32()
	for i := uint32(0); i < runs && p.err == nil; i++ {
		c.runs = append(c.runs, p.checkpointRun())
	}
	c.progress = map[uint64][]byte{}
	for i := uint32(0); i < jobs && p.err == nil; i++ {
		job := p.u64()
		c.progress[job] = append([]byte{}, p.take(uint64(p.u32()))...)
	}
	c.fields = p.fields(fields)
	if p.err == nil {
		p.err = followOn(0, c.fields)
	}
	if p.err == nil && p.at != len(body) {
		p.err = errLongPayload
	}
	if p.err == nil && (c.flushed > c.lsn || c.lsn == math.MaxUint64) {
		p.err = errCheckpoint
	}
	return c, p.err
}

func (p *payloadReader) checkpointRun() checkpointRun {
	var r checkpointRun
	if b := p.take(runMetaBytes); b != nil {
		r.meta = parseRunMeta(b)
		if r.rank = index.RunID(binary.LittleEndian.Uint64(b[runMetaBytes-8:])); r.rank == 0 {
			r.rank = r.meta.ID
		}
	}
	r.publishLSN = p.u64()
	r.kind = ingestKind(p.u32())
	p.u32()
	supersededBytes, voidBytes := p.u32(), p.u32()
	r.superseded = p.bitmap(supersededBytes, r.meta.Rows)
	r.void = p.bitmap(voidBytes, r.meta.Rows)
	if p.err == nil && r.kind != ingestImport && r.kind != ingestFlush && r.kind != ingestMerged {
		p.err = errCheckpoint
	}
	return r
}
