package index

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/internal/vfs"
)

// Seal writes key table, columns, terms and footer, fsyncs, renames and syncs
// the directory. The run becomes visible only when the engine publishes it.
// The builder's memory is let go. After an error Abort removes what was written. Two rows of one key and version are an error.
func (b *Builder) Seal(ctx context.Context) (RunMeta, error) {
	b.SortKeys()
	live, dropped := b.liveRows()
	f := footer{extraction: ExtractionVersion, custom: uint32(b.extraction.Custom()), meta: RunMeta{
		ID: b.id, Rows: uint32(len(b.keyEnds)), Live: uint32(len(live)), BodyBytesRaw: b.bodyBytes,
	}}
	f.meta.MilliMin, f.meta.MilliMax = b.milliRange(live)
	err := b.writeSections(ctx, &f, live, dropped)
	if err == nil {
		err = b.writeFooter(&f)
	}
	if err == nil {
		err = b.publish()
	}
	if err != nil {
		return RunMeta{}, fmt.Errorf("cannot seal run %q: %w", b.out.name, err)
	}
	if err := b.release(); err != nil {
		return RunMeta{}, err
	}
	return f.meta, nil
}

// liveRows gives the ordinals that were not dropped, and the others.
func (b *Builder) liveRows() (live []uint32, dropped *roaring.Bitmap) {
	live, dropped = make([]uint32, 0, len(b.keyEnds)), roaring.New()
	for o, state := range b.rows.state {
		switch state {
		case rowUnset:
			panic(fmt.Sprintf("BUG: ordinal %d was neither set nor dropped", o))
		case rowSet:
			live = append(live, uint32(o))
		case rowDropped:
			dropped.Add(uint32(o))
		}
	}
	return live, dropped
}

func (b *Builder) milliRange(live []uint32) (lowest, highest int64) {
	for i, o := range live {
		milli := b.rows.milli[o]
		if i == 0 {
			lowest, highest = milli, milli
		}
		lowest, highest = min(lowest, milli), max(highest, milli)
	}
	return lowest, highest
}

// writeSections writes everything between the bodies and the footer.
func (b *Builder) writeSections(ctx context.Context, f *footer, live []uint32, dropped *roaring.Bitmap) error {
	if err := b.closeBlock(); err != nil {
		return err
	}
	var err error
	if f.sections[sectionBodies], err = b.section(blockBodyIndex, b.bodies.append(nil, indexBodies)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.writeKeys(f); err != nil {
		return err
	}
	if err := b.writeColumns(f); err != nil {
		return err
	}
	bytes, err := dropped.ToBytes()
	if err != nil {
		return err
	}
	if f.sections[sectionDropped], err = b.section(blockDropped, bytes); err != nil {
		return err
	}
	w := newTermWriter(b.out)
	if err := b.writeTerms(ctx, w, live); err != nil {
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	f.terms = w.table.count
	if f.sections[sectionTerms], err = b.section(blockTermIndex, w.table.index.append(nil, indexTable)); err != nil {
		return err
	}
	f.sections[sectionPostings], err = b.section(blockPostingIndex, w.index.append(nil, indexPlain))
	return err
}

func (b *Builder) section(kind blockKind, payload []byte) (section, error) {
	return b.out.section(kind, payload)
}

// writeKeys writes the key table, its index and the filter. The index has the
// table's first and last key in front.
func (b *Builder) writeKeys(f *footer) error {
	t := tableWriter{out: b.out, kind: blockKeys}
	hashes := withRoom(b.hashes[:0], len(b.order))
	var versions []Found
	for start := 0; start < len(b.order); {
		key := b.key(b.order[start].id)
		versions = versions[:0]
		for ; start < len(b.order) && string(b.key(b.order[start].id)) == string(key); start++ {
			if o := b.order[start].id; b.rows.state[o] != rowDropped {
				versions = append(versions, Found{VersionID: b.rows.version[o], Ordinal: Ordinal(o)})
			}
		}
		if len(versions) == 0 {
			continue
		}
		hashes = append(hashes, KeyHash(key))
		if err := t.addVersions(key, versions); err != nil {
			return err
		}
	}
	if err := t.closeBlock(); err != nil {
		return err
	}
	f.keys, b.hashes = uint64(len(hashes)), hashes
	var err error
	if f.sections[sectionKeys], err = b.section(blockKeyIndex, t.keyIndex()); err != nil {
		return err
	}
	f.sections[sectionFilter], err = b.section(blockFilter, appendFilter(nil, &b.filters, hashes))
	return err
}

// keyIndex is the payload of the key table's index.
func (t *tableWriter) keyIndex() []byte {
	payload := binary.AppendUvarint(nil, uint64(len(t.first)))
	payload = append(payload, t.first...)
	payload = binary.AppendUvarint(payload, uint64(len(t.last)))
	payload = append(payload, t.last...)
	return t.index.append(payload, indexTable)
}

// addVersions writes a key's versions, highest first.
func (t *tableWriter) addVersions(key []byte, versions []Found) error {
	slices.SortFunc(versions, func(a, b Found) int { return cmp.Compare(b.VersionID, a.VersionID) })
	for i, v := range versions {
		if i > 0 && versions[i-1].VersionID == v.VersionID {
			code, id, _, _ := ParseKey(nil, key)
			return fmt.Errorf("rows %d and %d are both version %d of %s/%s", versions[i-1].Ordinal, v.Ordinal, v.VersionID, code, id)
		}
		if err := t.add(key); err != nil {
			return err
		}
		t.block.buf = appendKeyPayload(t.block.buf, v)
	}
	return nil
}

func (b *Builder) writeColumns(f *footer) error {
	var index blockIndex
	var columns [columnCount][]int64
	var payload []byte
	for start := 0; start < len(b.keyEnds); start += columnBlockRows {
		for i := range columns {
			columns[i] = columns[i][:0]
		}
		for o := start; o < min(start+columnBlockRows, len(b.keyEnds)); o++ {
			b.appendColumns(&columns, uint32(o))
		}
		payload = appendColumnBlock(payload[:0], &columns)
		offset, length, err := b.out.block(blockColumns, payload)
		if err != nil {
			return err
		}
		index.add(offset, length)
	}
	var err error
	f.sections[sectionColumns], err = b.section(blockColumnIndex, index.append(nil, indexPlain))
	return err
}

// appendColumns appends the row's values; a dropped row repeats the one before,
// so that it widens no frame.
func (b *Builder) appendColumns(columns *[columnCount][]int64, o uint32) {
	n := len(columns[0])
	if b.rows.state[o] == rowDropped {
		for i := range columns {
			last := int64(0)
			if n > 0 {
				last = columns[i][n-1]
			}
			columns[i] = append(columns[i], last)
		}
		return
	}
	r := &b.rows
	values := [columnCount]int64{
		columnType: int64(b.typeOf(o)), columnVersion: r.version[o], columnMilli: r.milli[o],
		columnOffset: int64(r.offset[o]), columnLSN: int64(r.lsn[o]), columnFlags: int64(r.flags[o]),
	}
	for i, v := range values {
		columns[i] = append(columns[i], v)
	}
}

func (b *Builder) writeFooter(f *footer) error { return b.out.footer(f) }

// publish makes the file durable under its name.
func (b *Builder) publish() (err error) {
	b.name, err = publishFile(b.fs, b.file, b.dir, b.id)
	return err
}

// publishFile makes a written run durable under its final name. name is what it
// has afterwards, also when there was an error.
func publishFile(fsys vfs.FS, file vfs.File, dir string, id RunID) (name string, err error) {
	temp, final := tempPath(dir, id), runPath(dir, id)
	if err := file.Sync(); err != nil {
		return temp, err
	}
	if err := fsys.Rename(temp, final); err != nil {
		return temp, err
	}
	return final, fsys.SyncDir(dir)
}
