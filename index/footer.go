package index

import "encoding/binary"

// The last 256 bytes of a run's file:
//
//	  0  magic "KILNFOOT"
//	  8  format u32 · footer bytes u32
//	 16  run id u64
//	 24  file bytes u64
//	 32  rows u32 · live rows u32
//	 40  keys u64 (distinct)
//	 48  terms u64
//	 56  lastUpdated min i64 · max i64 (UTC ms of the live rows; 0 without any)
//	 72  raw body bytes u64
//	 80  7 sections: offset u64 · bytes u64 (each one block: body index, key index,
//	     filter, column index, dropped rows, term index, posting index)
//	192  extraction u32: the rules that made the terms (ExtractionVersion); 0: mixed
//	196  custom u32: so many of the fields that were added at run time have terms, the first ones
//	200  hash u64: xxh64 of the file up to here
//	208  reserved, 0
//	252  crc u32: CRC32C of run id, footer offset and the 252 bytes before it
//
// Little endian.
const (
	footerBytes     = 256
	footerHashAt    = 200
	footerExtractAt = 192
	footerCustomAt  = 196
	footerCRCAt     = 252
	footerSectionAt = 80
	footerMagic     = "KILNFOOT"
)

// Sections, in footer order.
const (
	sectionBodies = iota
	sectionKeys
	sectionFilter
	sectionColumns
	sectionDropped
	sectionTerms
	sectionPostings
	sectionCount
)

type section struct {
	offset int64
	bytes  int64
}

type footer struct {
	meta     RunMeta
	keys     uint64
	terms    uint64
	sections [sectionCount]section
	// extraction is the rules that made the terms.
	extraction uint32
	// custom counts the added fields, from FieldCustomMin on, that have terms.
	custom uint32
}

// appendUnhashed appends the part that the file's hash covers.
func (f *footer) appendUnhashed(dst []byte) []byte {
	le := binary.LittleEndian
	dst = append(dst, footerMagic...)
	dst = le.AppendUint32(dst, FormatVersion)
	dst = le.AppendUint32(dst, footerBytes)
	dst = le.AppendUint64(dst, uint64(f.meta.ID))
	dst = le.AppendUint64(dst, uint64(f.meta.Bytes))
	dst = le.AppendUint32(dst, f.meta.Rows)
	dst = le.AppendUint32(dst, f.meta.Live)
	dst = le.AppendUint64(dst, f.keys)
	dst = le.AppendUint64(dst, f.terms)
	dst = le.AppendUint64(dst, uint64(f.meta.MilliMin))
	dst = le.AppendUint64(dst, uint64(f.meta.MilliMax))
	dst = le.AppendUint64(dst, uint64(f.meta.BodyBytesRaw))
	for _, s := range f.sections {
		dst = le.AppendUint64(dst, uint64(s.offset))
		dst = le.AppendUint64(dst, uint64(s.bytes))
	}
	dst = le.AppendUint32(dst, f.extraction)
	return le.AppendUint32(dst, f.custom)
}

// appendRest appends the hash and what follows it; b is the unhashed part.
func (f *footer) appendRest(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, f.meta.Hash)
	b = append(b, make([]byte, footerCRCAt-footerHashAt-8)...)
	return binary.LittleEndian.AppendUint32(b, placedCRC(f.meta.ID, f.meta.Bytes-footerBytes, b))
}

// parseFooter returns the footer of a file of fileBytes bytes, or what is wrong.
func parseFooter(b []byte, id RunID, fileBytes int64) (f footer, what string, newer bool) {
	le := binary.LittleEndian
	switch {
	case len(b) != footerBytes || string(b[:8]) != footerMagic:
		return f, "no footer: the file is cut short or not a run", false
	case le.Uint32(b[footerCRCAt:]) != placedCRC(id, fileBytes-footerBytes, b[:footerCRCAt]):
		return f, "footer fails its checksum", false
	case le.Uint32(b[8:]) > FormatVersion:
		return f, "footer has a newer format version", true
	case le.Uint32(b[8:]) != FormatVersion || le.Uint32(b[12:]) != footerBytes:
		return f, "footer has an unknown format version", false
	}
	f.meta = RunMeta{
		ID: RunID(le.Uint64(b[16:])), Bytes: int64(le.Uint64(b[24:])), Hash: le.Uint64(b[footerHashAt:]),
		Rows: le.Uint32(b[32:]), Live: le.Uint32(b[36:]),
		MilliMin: int64(le.Uint64(b[56:])), MilliMax: int64(le.Uint64(b[64:])), BodyBytesRaw: int64(le.Uint64(b[72:])),
	}
	f.keys, f.terms = le.Uint64(b[40:]), le.Uint64(b[48:])
	f.extraction, f.custom = le.Uint32(b[footerExtractAt:]), le.Uint32(b[footerCustomAt:])
	for i := range f.sections {
		at := footerSectionAt + 16*i
		f.sections[i] = section{offset: int64(le.Uint64(b[at:])), bytes: int64(le.Uint64(b[at+8:]))}
	}
	return f, f.check(id, fileBytes), false
}

// check returns what cannot be, or "".
func (f *footer) check(id RunID, fileBytes int64) string {
	switch {
	case f.meta.ID != id:
		return "footer names another run"
	case f.meta.Bytes != fileBytes:
		return "footer says another file length"
	case f.meta.Rows > RowsMax || f.meta.Live > f.meta.Rows || f.keys > uint64(f.meta.Live):
		return "footer has impossible counts"
	}
	for _, s := range f.sections {
		if s.offset < headerBytes || s.bytes < blockHeaderBytes || s.bytes > blockBytesMax ||
			s.offset > fileBytes-footerBytes-s.bytes {
			return "footer names a section outside the file"
		}
	}
	return ""
}
