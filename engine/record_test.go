package engine

import (
	"bytes"
	"encoding/hex"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"kiln/fhir"
	"kiln/fhir/search"
	"kiln/index"
)

func sampleVersion() versionRecord {
	body := []byte(`{"resourceType":"Patient","id":"a"}`)
	return versionRecord{
		typ: 103, flags: versionDeleted, idAt: 32, idBytes: 1, splice: fhir.Splice{At: 34},
		versionID: 2, lastUpdated: fhir.Instant{Milli: 1767225600000, OffsetMinutes: fhir.OffsetZ},
		supersedes: recordPlace{kind: placeRun, a: 7, ordinal: 9}, crc: bodyCRC(body), body: body,
	}
}

func sampleIngest() *ingestRecord {
	return &ingestRecord{
		kind: ingestImport, job: 5, hasProgress: true, progress: []byte("half"), clock: 1767225600001, flushedUpTo: 3,
		runs: []ingestRun{{
			meta:       index.RunMeta{ID: 8, Bytes: 4096, Hash: 0x1122334455667788, Rows: 10, Live: 9, MilliMin: 1, MilliMax: 2, BodyBytesRaw: 350},
			superseded: roaring.BitmapOf(1, 2), void: roaring.BitmapOf(3),
		}},
		marks:    []ingestMarks{{run: 7, ordinals: roaring.BitmapOf(4)}},
		heads:    []headPlace{{lsn: 11, index: 1}},
		versions: []versionRecord{sampleVersion()},
	}
}

func sampleCheckpoint() *checkpointFile {
	return &checkpointFile{
		storeID: 0xabcdef, lsn: 12, flushed: 3, clock: 1767225600001, nextRun: 9,
		runs: []checkpointRun{{
			meta: index.RunMeta{ID: 8, Bytes: 4096, Hash: 1, Rows: 10, Live: 10}, publishLSN: 4, kind: ingestFlush, rank: 8,
			superseded: roaring.BitmapOf(0), void: roaring.New(),
		}},
		progress: map[uint64][]byte{5: []byte("half")},
	}
}

func sampleReplace() *replaceRecord {
	return &replaceRecord{
		meta:   index.RunMeta{ID: 9, Bytes: 8192, Hash: 0x1122334455667788, Rows: 20, Live: 19, MilliMin: 1, MilliMax: 2, BodyBytesRaw: 700},
		inputs: []index.RunID{8, 3},
	}
}

// sampleMergedCheckpoint has a run that was merged of imports' runs.
func sampleMergedCheckpoint() *checkpointFile {
	c := sampleCheckpoint()
	c.runs[0].kind, c.runs[0].rank = ingestMerged, 6
	return c
}

// TestLayoutsAreOnDisk holds the bytes of format version 1: a change here makes
// stores of older builds unreadable and needs a new version.
func TestLayoutsAreOnDisk(t *testing.T) {
	f := func(name string, got []byte, want string) {
		t.Helper()
		if want = strings.Join(strings.Fields(want), ""); hex.EncodeToString(got) != want {
			t.Errorf("%s:\n got %x\nwant %s", name, got, want)
		}
	}
	v := sampleVersion()
	f("COMMIT", v.appendTo(appendCommitHeader(nil, 1)), goldenCommit)
	v.flags = versionCreated | versionPosted
	f("COMMIT of a POST", v.appendTo(appendCommitHeader(nil, 1)), strings.Replace(goldenCommit, "6700008001", "670000800c", 1))
	ingest, err := sampleIngest().marshal()
	if err != nil {
		t.Fatal(err)
	}
	f("INGEST", ingest, goldenIngest)
	f("CHECKPOINT", checkpointRecord{lsn: 1, flushed: 2, hash: 3}.marshal(), "0100000000000000 0200000000000000 0300000000000000")
	checkpoint, err := sampleCheckpoint().marshal()
	if err != nil {
		t.Fatal(err)
	}
	f("checkpoint file", checkpoint, goldenCheckpoint)
	merged, err := sampleMergedCheckpoint().marshal()
	if err != nil {
		t.Fatal(err)
	}
	f("checkpoint file with a merged run", merged, goldenMergedCheckpoint)
	f("REPLACE", sampleReplace().marshal(), goldenReplace)
	purge, err := samplePurge().marshal()
	if err != nil {
		t.Fatal(err)
	}
	f("PURGE", purge, goldenPurge)
	f("FIELDS", marshalFields(sampleFields(t)), goldenFields)
	added := sampleCheckpoint()
	added.fields = sampleFields(t)
	checkpoint, err = added.marshal()
	if err != nil {
		t.Fatal(err)
	}
	f("checkpoint file with added fields", checkpoint, goldenFieldsCheckpoint)
	f("FORMAT", formatFile{storeID: 0xabcdef}.marshal(), goldenFormat)
}

func TestRecordsComeBack(t *testing.T) {
	v := sampleVersion()
	payload := v.appendTo(appendCommitHeader(nil, 1))
	err := decodeCommit(payload, func(number uint32, got *versionRecord, bodyAt int) error {
		if !reflect.DeepEqual(*got, v) || number != 0 || !bytes.Equal(payload[bodyAt:], v.body) {
			t.Errorf("version %d at %d: %+v", number, bodyAt, got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := sampleIngest()
	ingest, err := want.marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, p, err := decodeIngest(ingest)
	if err != nil {
		t.Fatal(err)
	}
	err = decodeVersions(ingest, p.at, uint32(len(got.versions)), func(i uint32, v *versionRecord, _ int) error {
		got.versions[i] = *v
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := got.marshal(); err != nil || !bytes.Equal(again, ingest) {
		t.Errorf("INGEST comes back as %+v, %v", got, err)
	}
	for _, sample := range []*checkpointFile{sampleCheckpoint(), sampleMergedCheckpoint()} {
		checkpoint, err := sample.marshal()
		if err != nil {
			t.Fatal(err)
		}
		c, err := decodeCheckpoint(checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := c.marshal(); err != nil || !bytes.Equal(again, checkpoint) || c.runs[0].rank != sample.runs[0].rank {
			t.Errorf("the checkpoint comes back as %+v, %v", c, err)
		}
	}
	var replace replaceRecord
	if err := replace.unmarshal(sampleReplace().marshal()); err != nil || !reflect.DeepEqual(&replace, sampleReplace()) {
		t.Errorf("REPLACE comes back as %+v, %v", replace, err)
	}
}

func TestShortPayloadsAreRefused(t *testing.T) {
	v := sampleVersion()
	commit := v.appendTo(appendCommitHeader(nil, 1))
	for n := range commit {
		if err := decodeCommit(commit[:n], func(uint32, *versionRecord, int) error { return nil }); err == nil {
			t.Fatalf("a COMMIT of %d of %d bytes is accepted", n, len(commit))
		}
	}
	replace := sampleReplace().marshal()
	for n := range replace {
		if err := new(replaceRecord).unmarshal(replace[:n]); err == nil {
			t.Fatalf("a REPLACE of %d of %d bytes is accepted", n, len(replace))
		}
	}
	if err := new(replaceRecord).unmarshal(append(replace, 0)); err == nil {
		t.Fatal("a REPLACE with a byte too many is accepted")
	}
	checkpoint, err := sampleCheckpoint().marshal()
	if err != nil {
		t.Fatal(err)
	}
	for n := range checkpoint {
		if _, err := decodeCheckpoint(checkpoint[:n]); err == nil {
			t.Fatalf("a checkpoint of %d of %d bytes is accepted", n, len(checkpoint))
		}
	}
}

// FuzzCommit: whatever decodes says the same when it is framed again.
func FuzzCommit(f *testing.F) {
	v := sampleVersion()
	f.Add(v.appendTo(appendCommitHeader(nil, 1)))
	f.Add(appendCommitHeader(nil, 0))
	f.Add(appendCommitHeader(nil, math.MaxInt32))
	f.Fuzz(func(t *testing.T, payload []byte) {
		again := []byte{}
		count := 0
		err := decodeCommit(payload, func(_ uint32, v *versionRecord, bodyAt int) error {
			_ = v.id()
			_ = payload[bodyAt : bodyAt+len(v.body)]
			again = v.appendTo(again)
			count++
			return nil
		})
		if err == nil && len(again) != len(payload)-commitHeaderBytes {
			t.Errorf("%d versions take %d bytes of %d", count, len(again), len(payload))
		}
	})
}

func FuzzIngest(f *testing.F) {
	ingest, err := sampleIngest().marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ingest)
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, p, err := decodeIngest(payload)
		if err != nil {
			return
		}
		for _, run := range r.runs {
			if !run.superseded.IsEmpty() && run.superseded.Maximum() >= run.meta.Rows {
				t.Errorf("ordinal %d of %d rows", run.superseded.Maximum(), run.meta.Rows)
			}
		}
		_ = decodeVersions(payload, p.at, uint32(len(r.versions)), func(uint32, *versionRecord, int) error { return nil })
	})
}

func samplePurge() *purgeRecord {
	return &purgeRecord{runs: []ingestMarks{{run: 3, ordinals: roaring.BitmapOf(4, 11)}}, heads: []headPlace{{lsn: 9, index: 2}}}
}

func TestPurgeRecords(t *testing.T) {
	payload, err := samplePurge().marshal()
	if err != nil {
		t.Fatal(err)
	}
	var got purgeRecord
	if err := got.unmarshal(payload); err != nil || !reflect.DeepEqual(got.heads, samplePurge().heads) || !got.runs[0].ordinals.Equals(samplePurge().runs[0].ordinals) {
		t.Errorf("PURGE comes back as %+v, %v", got, err)
	}
	for n := range payload {
		if err := got.unmarshal(payload[:n]); err == nil {
			t.Fatalf("a PURGE of %d of %d bytes is accepted", n, len(payload))
		}
	}
	for _, bad := range [][]byte{append(payload, 0), make([]byte, purgeHeaderBytes)} {
		if err := got.unmarshal(bad); err == nil {
			t.Errorf("the PURGE %x is accepted", bad)
		}
	}
}

func FuzzPurge(f *testing.F) {
	payload, err := samplePurge().marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payload)
	f.Fuzz(func(t *testing.T, payload []byte) {
		var r purgeRecord
		if err := r.unmarshal(payload); err != nil {
			return
		}
		again, err := r.marshal()
		var twice purgeRecord
		if err != nil || twice.unmarshal(again) != nil || !reflect.DeepEqual(twice.heads, r.heads) || len(twice.runs) != len(r.runs) {
			t.Errorf("%x is accepted, and comes back as %x, %v", payload, again, err)
		}
	})
}

func FuzzReplace(f *testing.F) {
	f.Add(sampleReplace().marshal())
	f.Fuzz(func(t *testing.T, payload []byte) {
		var r replaceRecord
		if err := r.unmarshal(payload); err == nil && len(r.marshal()) != len(payload) {
			t.Errorf("%d bytes are accepted as a record of %d", len(payload), len(r.marshal()))
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	data, err := sampleCheckpoint().marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeCheckpoint(data)
		if err != nil {
			return
		}
		if _, err := c.marshal(); err != nil {
			t.Errorf("it decodes, but does not encode: %v", err)
		}
	})
}

func FuzzFormat(f *testing.F) {
	f.Add(formatFile{storeID: 1}.marshal())
	f.Add([]byte("kiln-data 3\n"))
	f.Add(formatFile{storeID: 1, keys: keysOf("ab").IDs(), plain: true}.marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		format, err := parseFormatFile("FORMAT", data)
		if err == nil && !bytes.Equal(format.marshal(), data) {
			t.Errorf("%q is accepted, but is not what is written", data)
		}
	})
}

const (
	goldenCommit = `
		0100000000000000670000800101000123000000ba5491ec020000000000000000a8da769b0100002000000022000000
		070000000000000009000000000000007b227265736f7572636554797065223a2250617469656e74222c226964223a22
		61227d`
	goldenIngest = `
		010000000100000001000000010000000100000004000000050000000000000001a8da769b0100000300000000000000
		0800000000000000001000000000000088776655443322110a0000000900000001000000000000000200000000000000
		5e01000000000000000000000000000014000000120000003a300000010000000000010010000000010002003a300000
		0100000000000000100000000300070000000000000012000000000000003a3000000100000000000000100000000400
		0b00000000000000010000000000000068616c66670000800101000123000000ba5491ec020000000000000000a8da76
		9b0100002000000022000000070000000000000009000000000000007b227265736f7572636554797065223a22506174
		69656e74222c226964223a2261227d`
	goldenCheckpoint = `
		4b494c4e434b50540100000000000000efcdab00000000000c00000000000000030000000000000001a8da769b010000
		090000000000000001000000010000000800000000000000001000000000000001000000000000000a0000000a000000
		000000000000000000000000000000000000000000000000000000000000000004000000000000000200000000000000
		12000000000000003a300000010000000000000010000000000005000000000000000400000068616c66b1147e387cc5
		5114`
	goldenMergedCheckpoint = `
		4b494c4e434b50540200000000000000efcdab00000000000c00000000000000030000000000000001a8da769b010000
		090000000000000001000000010000000800000000000000001000000000000001000000000000000a0000000a000000
		000000000000000000000000000000000000000000000000060000000000000004000000000000000300000000000000
		12000000000000003a300000010000000000000010000000000005000000000000000400000068616c66a7b1d7e55438
		03e6`
	goldenReplace = `
		020000000000000009000000000000000020000000000000887766554433221114000000130000000100000000000000
		0200000000000000bc02000000000000000000000000000008000000000000000300000000000000`
	goldenPurge = `
		0100000001000000030000000000000014000000000000003a300000010000000000010010000000
		04000b0009000000000000000200000000000000`
	goldenFields = `
		0200000000000000008000007e000000010467002f0050617469656e742e657874656e73696f6e2e7768657265287572
		6c3d276527292e76616c75652e617328636f646529000001001b0050617469656e742e657874656e73696f6e2e76616c
		7565436f64650400636f64650000000100110050617469656e742e657874656e73696f6e030075726c01006500000180
		0000730000000104000030005265736f757263652e657874656e73696f6e2e77686572652875726c3d276527292e7661
		6c75652e617328636f6465290000010015002a2e657874656e73696f6e2e76616c7565436f64650400636f6465000000
		01000b002a2e657874656e73696f6e030075726c0100650000`
	goldenFieldsCheckpoint = `
		4b494c4e434b50540300000002000000efcdab00000000000c00000000000000030000000000000001a8da769b010000
		090000000000000001000000010000000800000000000000001000000000000001000000000000000a0000000a000000
		000000000000000000000000000000000000000000000000000000000000000004000000000000000200000000000000
		12000000000000003a300000010000000000000010000000000005000000000000000400000068616c66008000007e00
		0000010467002f0050617469656e742e657874656e73696f6e2e77686572652875726c3d276527292e76616c75652e61
		7328636f646529000001001b0050617469656e742e657874656e73696f6e2e76616c7565436f64650400636f64650000
		000100110050617469656e742e657874656e73696f6e030075726c010065000001800000730000000104000030005265
		736f757263652e657874656e73696f6e2e77686572652875726c3d276527292e76616c75652e617328636f6465290000
		010015002a2e657874656e73696f6e2e76616c7565436f64650400636f646500000001000b002a2e657874656e73696f
		6e030075726c0100650000aebb1fbacadd983b`
	goldenFormat = `
		6b696c6e2d6461746120310a303030303030303030306162636465660a64383039363965310a`
)

// sampleFields are two fields as a store numbers them.
func sampleFields(t testing.TB) (all []*search.Field) {
	t.Helper()
	for i := range simDefinitions[:2] {
		fields, err := newFields(&simDefinitions[i])
		if err != nil {
			t.Fatal(err)
		}
		fields[0].Number = uint16(search.FieldCustomMin + i)
		all = append(all, fields[0])
	}
	return all
}

func TestFieldsRecords(t *testing.T) {
	fields := sampleFields(t)
	payload := marshalFields(fields)
	back, err := unmarshalFields(payload)
	if err != nil || !reflect.DeepEqual(back, fields) {
		t.Errorf("%+v come back as %+v, error %v", fields, back, err)
	}
	for n := range payload {
		if _, err := unmarshalFields(payload[:n]); err == nil {
			t.Errorf("%d of %d bytes are read", n, len(payload))
		}
	}
	for _, payload := range [][]byte{append(bytes.Clone(payload), 0), marshalFields(nil), {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}} {
		if _, err := unmarshalFields(payload); err == nil {
			t.Errorf("%x is read", payload)
		}
	}
	if followOn(0, fields) != nil || followOn(1, fields) == nil || followOn(0, fields[1:]) == nil {
		t.Error("the order of numbers is not held")
	}
}

func FuzzFields(f *testing.F) {
	f.Add(marshalFields(sampleFields(f)))
	f.Fuzz(func(t *testing.T, src []byte) {
		fields, err := unmarshalFields(src)
		if err != nil {
			return
		}
		if back, err := unmarshalFields(marshalFields(fields)); err != nil || !reflect.DeepEqual(back, fields) {
			t.Errorf("%x comes back as %+v, error %v", src, back, err)
		}
	})
}
