package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
	"kiln/wal"
)

const testDir = "/store/log"

// testOptions are deterministic and have segments that a few records fill.
func testOptions(fsys vfs.FS) wal.Options {
	id := uint32(1000)
	return wal.Options{
		FS: fsys, Dir: testDir, SegmentBytes: 4 << 10, PrepareInline: true,
		NewID: func() uint32 { id += 0x01010101; return id },
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustFail(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// mustBeCorrupt wants a refusal that names the file.
func mustBeCorrupt(t *testing.T, err error) *vfs.CorruptError {
	t.Helper()
	var corrupt *vfs.CorruptError
	if !errors.As(err, &corrupt) {
		t.Fatalf("got error %v, want a CorruptError", err)
	}
	if corrupt.File == "" || !bytes.Contains([]byte(corrupt.What), []byte("kiln repair")) {
		t.Fatalf("the error does not help: %v", err)
	}
	return corrupt
}

// payload is what the record of an LSN holds in these tests: bytes that are
// never zero, of a length that goes up and down.
func payload(lsn wal.LSN) []byte {
	p := make([]byte, 1+int(lsn*131)%700)
	for i := range p {
		p[i] = byte(int(lsn)+i)%255 + 1
	}
	return p
}

func entries(from wal.LSN, n int) []wal.Entry {
	list := make([]wal.Entry, n)
	for i := range list {
		list[i] = wal.Entry{Type: wal.TypeCommit, Payload: payload(from + wal.LSN(i))}
	}
	return list
}

func openLog(t *testing.T, opts wal.Options, from wal.LSN) (*wal.Log, []wal.LSN) {
	t.Helper()
	l, seen, err := tryOpen(opts, from)
	must(t, err)
	return l, seen
}

// tryOpen opens and checks every payload that is replayed.
func tryOpen(opts wal.Options, from wal.LSN) (*wal.Log, []wal.LSN, error) {
	var seen []wal.LSN
	l, err := wal.Open(context.Background(), opts, from, func(r wal.Record) error {
		seen = append(seen, r.LSN)
		return checkRecord(r)
	})
	return l, seen, err
}

func checkRecord(r wal.Record) error {
	if r.Type != wal.TypeCommit || !bytes.Equal(r.Payload, payload(r.LSN)) {
		return fmt.Errorf("the record of LSN %d is not what was appended", r.LSN)
	}
	return nil
}

func appendN(t *testing.T, l *wal.Log, n int) []wal.Placed {
	t.Helper()
	placed, err := l.Append(entries(l.LastLSN()+1, n))
	must(t, err)
	return slices.Clone(placed)
}

func lsns(from, to wal.LSN) []wal.LSN {
	var list []wal.LSN
	for ; from <= to; from++ {
		list = append(list, from)
	}
	return list
}

// growingOptions begin with a segment that holds a few records.
func growingOptions(fsys vfs.FS) wal.Options {
	opts := testOptions(fsys)
	opts.FirstSegmentBytes = 1 << 10
	return opts
}

func newStore(t *testing.T) (*vfs.Mem, wal.Options) {
	t.Helper()
	m := vfs.NewMem(1)
	must(t, m.MkdirAll("/store"))
	return m, testOptions(m)
}

func TestAppendedRecordsComeBackInOrder(t *testing.T) {
	_, opts := newStore(t)
	l, seen := openLog(t, opts, 1)
	if len(seen) != 0 || l.LastLSN() != 0 {
		t.Fatalf("a new log holds %v up to %d", seen, l.LastLSN())
	}
	placed := appendN(t, l, 3)
	placed = append(placed, appendN(t, l, 40)...)
	for i, p := range placed {
		lsn := wal.LSN(i + 1)
		got := make([]byte, len(payload(lsn)))
		must(t, l.ReadAt(got, p.Position))
		if p.LSN != lsn || !bytes.Equal(got, payload(lsn)) {
			t.Fatalf("entry %d was placed as %+v", i, p)
		}
	}
	if l.Stats().Rolls < 3 {
		t.Fatalf("the test wants several segments: %+v", l.Stats())
	}
	must(t, l.Close())
	l, seen = openLog(t, opts, 1)
	if !slices.Equal(seen, lsns(1, 43)) || l.LastLSN() != 43 {
		t.Fatalf("replayed %v", seen)
	}
	must(t, l.Close())
}

func TestOpenReplaysFromTheLSNAskedFor(t *testing.T) {
	_, opts := newStore(t)
	l, _ := openLog(t, opts, 1)
	appendN(t, l, 50)
	must(t, l.Close())
	f := func(from wal.LSN, want []wal.LSN) {
		t.Helper()
		l, seen := openLog(t, opts, from)
		if !slices.Equal(seen, want) || l.LastLSN() != 50 {
			t.Fatalf("from %d: replayed %v", from, seen)
		}
		must(t, l.Close())
	}
	for from := wal.LSN(1); from <= 51; from++ {
		f(from, lsns(from, 50))
	}
	_, _, err := tryOpen(opts, 52)
	mustBeCorrupt(t, err)
}

func TestANewLogBeginsWhereItIsTold(t *testing.T) {
	_, opts := newStore(t)
	l, _ := openLog(t, opts, 17)
	if l.LastLSN() != 16 || l.FirstLSN() != 17 {
		t.Fatalf("the log is at %d", l.LastLSN())
	}
	if p := appendN(t, l, 1); p[0].LSN != 17 {
		t.Fatalf("the first record is %+v", p)
	}
	must(t, l.Close())
	_, _, err := tryOpen(opts, 16)
	mustBeCorrupt(t, err)
	opts.Dir, opts.MustExist = "/store/other", true
	_, _, err = tryOpen(opts, 17)
	mustFail(t, err, wal.ErrNoLog)
}

func TestTailSeesWhatIsDurable(t *testing.T) {
	_, opts := newStore(t)
	l, _ := openLog(t, opts, 1)
	appendN(t, l, 30)
	f := func(from wal.LSN, want []wal.LSN) {
		t.Helper()
		var seen []wal.LSN
		must(t, l.Tail(context.Background(), from, func(r wal.Record) error {
			seen = append(seen, r.LSN)
			return checkRecord(r)
		}))
		if !slices.Equal(seen, want) {
			t.Fatalf("from %d: %v", from, seen)
		}
	}
	f(1, lsns(1, 30))
	f(12, lsns(12, 30))
	f(30, lsns(30, 30))
	f(31, nil)
	appendN(t, l, 2)
	f(31, lsns(31, 32))
	boom := errors.New("boom")
	mustFail(t, l.Tail(context.Background(), 1, func(wal.Record) error { return boom }), boom)
	must(t, l.Close())
}

func TestTrimRemovesOnlyWhatIsBelow(t *testing.T) {
	_, opts := newStore(t)
	l, _ := openLog(t, opts, 1)
	first := appendN(t, l, 1)[0]
	appendN(t, l, 59)
	full := l.Bytes()
	must(t, l.Trim(30))
	if l.Bytes() >= full || l.FirstLSN() > 30 || l.FirstLSN() == 1 {
		t.Fatalf("%d of %d bytes, from LSN %d", l.Bytes(), full, l.FirstLSN())
	}
	mustFail(t, l.ReadAt(make([]byte, 1), first.Position), wal.ErrTrimmed)
	mustFail(t, l.Tail(context.Background(), 1, checkRecord), wal.ErrTrimmed)
	oldest := l.FirstLSN()
	must(t, l.Close())
	l, seen := openLog(t, opts, 30)
	if !slices.Equal(seen, lsns(30, 60)) {
		t.Fatalf("replayed %v", seen)
	}
	must(t, l.Trim(1000))
	if l.Bytes() != opts.SegmentBytes {
		t.Fatalf("%d bytes are left", l.Bytes())
	}
	appendN(t, l, 5)
	must(t, l.Close())
	_, _, err := tryOpen(opts, oldest)
	mustBeCorrupt(t, err)
}

func TestClosedLogRefuses(t *testing.T) {
	_, opts := newStore(t)
	l, _ := openLog(t, opts, 1)
	p := appendN(t, l, 1)
	must(t, l.Close())
	_, err := l.Append(entries(2, 1))
	mustFail(t, err, wal.ErrClosed)
	mustFail(t, l.ReadAt(make([]byte, 1), p[0].Position), wal.ErrClosed)
	mustFail(t, l.Tail(context.Background(), 1, checkRecord), wal.ErrClosed)
	mustFail(t, l.Trim(1), wal.ErrClosed)
	mustFail(t, l.Close(), wal.ErrClosed)
}

func TestTooLargeIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	_, opts := newStore(t)
	l, _ := openLog(t, opts, 1)
	batch := append(entries(1, 1), wal.Entry{Type: wal.TypeCommit, Payload: make([]byte, opts.SegmentBytes)})
	_, err := l.Append(batch)
	mustFail(t, err, wal.ErrTooLarge)
	largest := bytes.Repeat([]byte{7}, int(opts.SegmentBytes)-64-32)
	_, err = l.Append([]wal.Entry{{Type: wal.TypeIngest, Payload: largest}})
	must(t, err)
	if l.LastLSN() != 1 {
		t.Fatalf("the log is at %d", l.LastLSN())
	}
	must(t, l.Close())
}

// TestPowerCutAtEveryOperation appends batches, trims now and then, and cuts the
// power at each operation in turn: what was acknowledged must be there, what is
// there must be a prefix of what was appended, and the log must go on.
func TestPowerCutAtEveryOperation(t *testing.T) {
	for _, options := range []func(vfs.FS) wal.Options{testOptions, growingOptions, encryptedOptions} {
		total := runCut(t, options, 1, 1<<60)
		for cut := int64(1); cut <= total; cut++ {
			for seed := uint64(0); seed < 4; seed++ {
				runCut(t, options, seed, cut)
			}
		}
	}
}

// encryptedOptions are testOptions with segments of about as many records.
func encryptedOptions(fsys vfs.FS) wal.Options {
	keys, err := sealed.ParseKeys(strings.Repeat("0a", sealed.KeyBytes))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return testOptions(sealed.New(fsys, keys, func(string) sealed.Form { return sealed.Plain }))
}

// runCut returns how many operations there were.
func runCut(t *testing.T, options func(vfs.FS) wal.Options, seed uint64, cut int64) int64 {
	t.Helper()
	m := vfs.NewMem(seed)
	must(t, m.MkdirAll("/store"))
	m.CutPowerAt(cut)
	acked, trimmed, tried := workload(options(m), rand.New(rand.NewPCG(7, 7)))
	ops := m.Ops()
	// A second cut while the log is being repaired must do no harm either.
	m = m.CrashClone(seed + 1)
	m.CutPowerAt(m.Ops() + 1 + int64(seed*3))
	if l, _, err := tryOpen(options(m), trimmed); err == nil {
		_ = l.Close()
	} else if !errors.Is(err, vfs.ErrPowerCut) {
		t.Fatalf("cut %d seed %d: %v", cut, seed, err)
	}
	m = m.CrashClone(seed + 2)
	l, seen, err := tryOpen(options(m), trimmed)
	if err != nil {
		t.Fatalf("cut %d seed %d: %v", cut, seed, err)
	}
	if l.LastLSN() < acked || l.LastLSN() > tried {
		t.Fatalf("cut %d seed %d: acknowledged %d, tried %d, found %d", cut, seed, acked, tried, l.LastLSN())
	}
	if !slices.Equal(seen, lsns(trimmed, l.LastLSN())) {
		t.Fatalf("cut %d seed %d: replayed %v", cut, seed, seen)
	}
	last := l.LastLSN()
	for range 4 {
		appendN(t, l, 3)
	}
	must(t, l.Close())
	m = m.CrashClone(seed + 3)
	l, seen = openLog(t, options(m), trimmed)
	if !slices.Equal(seen, lsns(trimmed, last+12)) {
		t.Fatalf("cut %d seed %d: after going on: %v", cut, seed, seen)
	}
	must(t, l.Close())
	return ops
}

// workload runs until it is done or the power is gone.
func workload(opts wal.Options, rng *rand.Rand) (acked, trimmed, tried wal.LSN) {
	trimmed = 1
	l, err := wal.Open(context.Background(), opts, 1, checkRecord)
	if err != nil {
		return 0, trimmed, 0
	}
	defer l.Close()
	for step := range 10 {
		n := 1 + rng.IntN(6)
		if step > 5 {
			n *= 5 // so that the last trim removes several segments
		}
		tried = acked + wal.LSN(n)
		if _, err := l.Append(entries(acked+1, n)); err != nil {
			return acked, trimmed, tried
		}
		acked = tried
		if step%4 == 3 || step == 9 {
			trimmed = acked - 2
			if l.Trim(trimmed) != nil {
				return acked, trimmed, tried
			}
		}
	}
	return acked, trimmed, tried
}

func TestOptionsAreChecked(t *testing.T) {
	f := func(change func(o *wal.Options), from wal.LSN) {
		t.Helper()
		_, opts := newStore(t)
		change(&opts)
		if _, _, err := tryOpen(opts, from); err == nil {
			t.Fatal("bad options were taken")
		}
	}
	f(func(o *wal.Options) { o.FS = nil }, 1)
	f(func(o *wal.Options) { o.Dir = "" }, 1)
	f(func(o *wal.Options) { o.NewID = nil }, 1)
	f(func(o *wal.Options) { o.SegmentBytes = 100 }, 1)
	f(func(o *wal.Options) { o.SegmentBytes = 4097 }, 1)
	f(func(o *wal.Options) { o.SegmentBytes = 1 << 40 }, 1)
	f(func(o *wal.Options) {}, 0)
}

// TestSegmentSizeDoesNotMatter: the same batches give the same log, whatever the
// size of segments, also when it changes from one opening to the next.
func TestSegmentSizeDoesNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		m, _ := newStore(t)
		last := wal.LSN(0)
		for range 5 {
			opts := testOptions(m)
			opts.SegmentBytes, opts.FirstSegmentBytes = 1<<10+rng.Int64N(2<<10)*8, 1<<10+rng.Int64N(1<<9)*8
			opts.NewID = rng.Uint32
			l, seen := openLog(t, opts, 1)
			if !slices.Equal(seen, lsns(1, last)) {
				t.Fatalf("up to %d: %v", last, seen)
			}
			appendN(t, l, 1+rng.IntN(20))
			appendN(t, l, 1+rng.IntN(20))
			last = l.LastLSN()
			must(t, l.Close())
		}
	}
}

// TestSegmentsGrow: a log begins small, and each segment is twice as long as the one before.
func TestSegmentsGrow(t *testing.T) {
	m, opts := newStore(t)
	opts.SegmentBytes, opts.FirstSegmentBytes = 16<<10, 1<<10
	l, _ := openLog(t, opts, 1)
	lengths := func(want ...int64) {
		t.Helper()
		names, err := m.List(testDir)
		must(t, err)
		var got []int64
		for _, name := range names {
			info, err := m.Stat(testDir + "/" + name)
			must(t, err)
			got = append(got, info.Bytes)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("segments of %d bytes, want %d", got, want)
		}
	}
	lengths(1 << 10)
	for l.Stats().Rolls < 3 {
		appendN(t, l, 1)
	}
	lengths(1<<10, 2<<10, 4<<10)
	last := l.LastLSN()
	must(t, l.Close())
	l, seen := openLog(t, opts, 1)
	if !slices.Equal(seen, lsns(1, last)) {
		t.Fatalf("replayed %v", seen)
	}
	// What is large gets a segment that it fits at once.
	largest := make([]byte, opts.SegmentBytes-64-32)
	_, err := l.Append([]wal.Entry{{Type: wal.TypeCommit, Payload: largest}, {Type: wal.TypeCommit, Payload: []byte("and")}})
	must(t, err)
	lengths(1<<10, 2<<10, 4<<10, 16<<10, 16<<10)
	must(t, l.Close())
}

// TestALargeRecordReplacesTheSegmentThatWasReady: one that it does not fit makes room.
func TestALargeRecordReplacesTheSegmentThatWasReady(t *testing.T) {
	m, opts := newStore(t)
	opts.SegmentBytes, opts.FirstSegmentBytes, opts.PrepareInline = 64<<10, 4<<10, false
	l, _ := openLog(t, opts, 1)
	for appendN(t, l, 1)[0].Position.Offset < 2<<10 { // a second one of 8 KiB is made then
	}
	m.SetCapacity(20 << 10)
	large := []wal.Entry{{Type: wal.TypeCommit, Payload: make([]byte, 32<<10)}}
	_, err := l.Append(large)
	mustFail(t, err, wal.ErrNoSpace)
	m.SetCapacity(0)
	_, err = l.Append(large)
	must(t, err)
	if got := l.Bytes(); got != 4<<10+64<<10 {
		t.Fatalf("the log has %d bytes", got)
	}
	must(t, l.Close())
}

func TestTheLargestRecordFitsADefaultSegment(t *testing.T) {
	_, opts := newStore(t)
	opts.SegmentBytes = 0
	l, _ := openLog(t, opts, 1)
	big := bytes.Repeat([]byte("0123456789abcdef"), wal.PayloadBytesMax/16)
	placed, err := l.Append([]wal.Entry{{Type: wal.TypeCommit, Payload: big}, {Type: wal.TypeCommit, Payload: big}})
	must(t, err)
	if placed[0].Position.Segment == placed[1].Position.Segment {
		t.Fatal("the test wants the batch to cross into a second segment")
	}
	_, err = l.Append([]wal.Entry{{Type: wal.TypeCommit, Payload: append(big, 'x')}})
	mustFail(t, err, wal.ErrTooLarge)
	must(t, l.Close())
	count := 0
	l, err = wal.Open(context.Background(), opts, 1, func(r wal.Record) error {
		count++
		if !bytes.Equal(r.Payload, big) {
			return errors.New("the payload came back wrong")
		}
		return nil
	})
	must(t, err)
	must(t, l.Close())
	if count != 2 {
		t.Fatalf("%d records came back", count)
	}
}

// TestReplayedRefusesBeforeAnythingChanges: the caller's last word comes when
// all records were replayed and the torn tail still stands.
func TestReplayedRefusesBeforeAnythingChanges(t *testing.T) {
	fsys := vfs.NewMem(1)
	l, _ := openLog(t, testOptions(fsys), 1)
	_, err := l.Append(entries(1, 20))
	must(t, err)
	must(t, l.Close())
	before := fsys.Ops()
	refusal := errors.New("no")
	opts, seen := testOptions(fsys), 0
	opts.Replayed = func() error {
		if seen != 20 {
			t.Errorf("called after %d records", seen)
		}
		return refusal
	}
	_, err = wal.Open(context.Background(), opts, 1, func(wal.Record) error { seen++; return nil })
	mustFail(t, err, refusal)
	if fsys.Ops() != before {
		t.Errorf("%d changes were made", fsys.Ops()-before)
	}
	opts.Replayed, seen = func() error { return nil }, 0
	l, err = wal.Open(context.Background(), opts, 1, func(wal.Record) error { seen++; return nil })
	must(t, err)
	must(t, l.Close())
}
