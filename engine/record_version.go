package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"kiln/fhir"
	"kiln/index"
)

// A version inside a COMMIT or INGEST payload (little endian):
//
//	 0      2      4     5      6      7     8          12         16          24
//	 +------+------+-----+------+------+-----+----------+----------+-----------+
//	 | type | off- |flags|id    |splice|place| body     | body     | versionId |
//	 |      | set  |     |bytes |kind  |kind | bytes    | CRC32C   |           |
//	 +------+------+-----+------+------+-----+----------+----------+-----------+
//	24             32         36          40            48         52         56
//	 +-------------+----------+-----------+-------------+----------+----------+------
//	 | lastUpdated | id at    | splice at | place:      | place:   | zero     | body
//	 | UTC ms      |          |           | run or LSN  | ordinal  |          |
//	 +-------------+----------+-----------+-------------+----------+----------+------
//
// The place is that of the version which this one supersedes. In the head it
// is (LSN, number inside its record), which replay finds again wherever the
// head begins. The body has its own checksum because reads of the head take it
// from the log without the record around it.
const versionHeaderBytes = 56

const (
	versionDeleted    = 1 // a delete left it
	versionNotCurrent = 2 // superseded from the start: history that came late
	versionCreated    = 4 // there was no live version before; older builds never say so
	versionPosted     = 8 // a POST made it; likewise

	versionFlags = versionDeleted | versionNotCurrent | versionCreated | versionPosted
)

// recordFlags are flags of rows as records have them.
var recordFlags = [...]struct {
	row    index.Flags
	record uint8
}{
	{index.FlagDeleted, versionDeleted},
	{index.FlagCreated, versionCreated},
	{index.FlagPosted, versionPosted},
}

// recordFlagsOf gives a row's flags as records have them.
func recordFlagsOf(row index.Flags) (record uint8) {
	for _, f := range recordFlags {
		if row&f.row != 0 {
			record |= f.record
		}
	}
	return record
}

// placeKind says where a superseded version lies.
type placeKind uint8

const (
	placeNone placeKind = iota
	placeRun
	placeHead
)

// recordPlace is a place as records hold it.
type recordPlace struct {
	kind    placeKind
	a       uint64 // run id, or LSN
	ordinal uint32 // in the run, or in the record
}

type versionRecord struct {
	typ         fhir.TypeCode
	flags       uint8
	idAt        uint32
	idBytes     uint8
	splice      fhir.Splice
	versionID   int64
	lastUpdated fhir.Instant
	supersedes  recordPlace
	crc         uint32
	body        []byte
}

func (v *versionRecord) id() []byte { return v.body[v.idAt : v.idAt+uint32(v.idBytes)] }

// rowFlags gives the record's flags as rows have them.
func (v *versionRecord) rowFlags() (row index.Flags) {
	for _, f := range recordFlags {
		if v.flags&f.record != 0 {
			row |= f.row
		}
	}
	return row
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func bodyCRC(body []byte) uint32 { return crc32.Checksum(body, castagnoli) }

func (v *versionRecord) appendTo(dst []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint16(dst, uint16(v.typ))
	dst = le.AppendUint16(dst, uint16(v.lastUpdated.OffsetMinutes))
	dst = append(dst, v.flags, v.idBytes, uint8(v.splice.Kind), uint8(v.supersedes.kind))
	dst = le.AppendUint32(dst, uint32(len(v.body)))
	dst = le.AppendUint32(dst, v.crc)
	dst = le.AppendUint64(dst, uint64(v.versionID))
	dst = le.AppendUint64(dst, uint64(v.lastUpdated.Milli))
	dst = le.AppendUint32(dst, v.idAt)
	dst = le.AppendUint32(dst, v.splice.At)
	dst = le.AppendUint64(dst, v.supersedes.a)
	dst = le.AppendUint32(dst, v.supersedes.ordinal)
	dst = le.AppendUint32(dst, 0)
	return append(dst, v.body...)
}

var (
	errShortPayload = errors.New("the payload ends early")
	errLongPayload  = errors.New("bytes after the payload's end")
	errBadVersion   = errors.New("a version in the payload is not valid")
)

// unmarshal reads the version at the start of src and returns the bytes it
// took. body aliases src.
func (v *versionRecord) unmarshal(src []byte) (int, error) {
	if len(src) < versionHeaderBytes {
		return 0, errShortPayload
	}
	le := binary.LittleEndian
	bodyBytes := uint64(le.Uint32(src[8:]))
	if uint64(len(src)-versionHeaderBytes) < bodyBytes {
		return 0, errShortPayload
	}
	*v = versionRecord{
		typ:         fhir.TypeCode(le.Uint16(src)),
		lastUpdated: fhir.Instant{Milli: int64(le.Uint64(src[24:])), OffsetMinutes: int16(le.Uint16(src[2:]))},
		flags:       src[4],
		idBytes:     src[5],
		splice:      fhir.Splice{At: le.Uint32(src[36:]), Kind: fhir.SpliceKind(src[6])},
		crc:         le.Uint32(src[12:]),
		versionID:   int64(le.Uint64(src[16:])),
		idAt:        le.Uint32(src[32:]),
		supersedes:  recordPlace{kind: placeKind(src[7]), a: le.Uint64(src[40:]), ordinal: le.Uint32(src[48:])},
		body:        src[versionHeaderBytes : versionHeaderBytes+int(bodyBytes)],
	}
	return versionHeaderBytes + int(bodyBytes), v.validate()
}

// validate knows that the record's checksum was right: what it does not know was
// written by a newer Kiln.
func (v *versionRecord) validate() error {
	switch {
	case v.flags&^versionFlags != 0, v.supersedes.kind > placeHead, v.splice.Kind > fhir.SpliceIntoMeta:
		return fmt.Errorf("%w: a version has the flags %#x, the place %d and the splice %d", ErrNewerFormat, v.flags, v.supersedes.kind, v.splice.Kind)
	case v.typ == 0, v.idBytes == 0,
		uint64(v.idAt)+uint64(v.idBytes) > uint64(len(v.body)), uint64(v.splice.At) > uint64(len(v.body)),
		len(v.body) > math.MaxInt32:
		return errBadVersion
	}
	return nil
}
