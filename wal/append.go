package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// bufBytesKept is the largest buffer kept between calls of Append; batches are
// mostly far smaller, and one large resource should not hold memory for ever.
const bufBytesKept = 4 << 20

// Append frames the entries, writes them and syncs once for each segment they
// touch, which is one but for a batch that crosses into the next. On nil all are
// durable. The result is in the order of the entries and holds until the next call.
//
// ErrTooLarge and ErrNoSpace, and any other error that is not ErrOutcomeUnknown,
// mean that nothing was written. After ErrOutcomeUnknown a prefix of the entries
// may be durable; every later call fails with ErrPoisoned.
func (l *Log) Append(entries []Entry) ([]Placed, error) {
	if l.closing {
		return nil, ErrClosed
	}
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrPoisoned, err)
	}
	if l.opts.ReadOnly {
		return nil, ErrReadOnly
	}
	rolls, err := l.plan(entries)
	if err != nil {
		return nil, err
	}
	if l.opts.Now != nil {
		l.waiting.Store(l.opts.Now().UnixNano())
		defer l.waiting.Store(0)
	}
	if len(rolls) > 0 {
		if err := l.prepared.ensure(rolls); err != nil {
			if errors.Is(err, ErrNoSpace) {
				l.counters.noSpace.Add(1)
			}
			return nil, err
		}
	}
	l.placed = l.placed[:0]
	if err := l.write(entries); err != nil {
		err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		l.failure.Store(&err)
		return nil, err
	}
	l.prepareWhenDue()
	l.counters.appends.Add(1)
	return l.placed, nil
}

// prepareWhenDue makes the next segment once the newest one is half full: early
// enough (filling the rest takes 70 ms at the 454 MB/s that were measured, making the
// file a few), and a store with little in its log reserves one segment, not two.
func (l *Log) prepareWhenDue() {
	if l.end.offset >= l.active.bytes/2 {
		l.prepared.ahead(l.opts.nextBytes(l.active.bytes, 0))
	}
}

// plan checks the entries and gives the lengths of the new segments that they need.
func (l *Log) plan(entries []Entry) (rolls []int64, err error) {
	offset, bytes := l.end.offset, l.active.bytes
	for i := range entries {
		payload := entries[i].Payload
		if entries[i].Type == 0 {
			panic("BUG: a log entry without a type")
		}
		stored := l.seal.stored(len(payload))
		if len(payload) > PayloadBytesMax || int64(stored) > l.opts.storedBytesMax() {
			return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(payload), min(PayloadBytesMax, l.opts.storedBytesMax()))
		}
		if offset+recordBytes(stored) > bytes {
			offset, bytes = segmentHeaderBytes, l.opts.nextBytes(bytes, stored)
			rolls = append(rolls, bytes)
		}
		offset += recordBytes(stored)
	}
	return rolls, nil
}

// write does what plan foresaw.
func (l *Log) write(entries []Entry) error {
	for len(entries) > 0 {
		n := l.frame(entries)
		if n > 0 {
			if err := l.flush(); err != nil {
				return err
			}
			entries = entries[n:]
		}
		if len(entries) > 0 {
			if err := l.roll(); err != nil {
				return err
			}
		}
	}
	return nil
}

// frame puts as many entries as the newest segment has room for into buf and
// returns how many. It moves end past them.
func (l *Log) frame(entries []Entry) int {
	s, synced := l.active, uint64(l.end.offset)
	l.buf = l.buf[:0]
	for i := range entries {
		payload := entries[i].Payload
		if l.end.offset+recordBytes(l.seal.stored(len(payload))) > s.bytes {
			return i
		}
		header := recordHeader{
			typ: entries[i].Type, chain: uint16(l.end.crc), length: uint32(len(payload)), lsn: l.end.lsn, syncedUpto: synced,
		}
		if l.seal != nil {
			l.sealed = l.seal.seal(l.sealed[:0], &header, payload)
			payload = l.sealed
		}
		header.payloadCRC = crc32.Checksum(payload, castagnoli)
		l.buf = header.marshal(l.buf, s.header.id)
		l.buf = append(l.buf, payload...)
		l.buf = append(l.buf, zeroPad[:int(header.bytes())-recordHeaderBytes-len(payload)]...)
		l.placed = append(l.placed, Placed{LSN: header.lsn, Position: s.payloadAt(l.end)})
		l.end = header.after(l.end)
	}
	return len(entries)
}

// zeroPad is what records are padded with.
var zeroPad [recordAlign]byte

// payloadAt is the position of the payload of the record at a place.
func (s *segment) payloadAt(at place) Position {
	return Position{Segment: s.header.number, Offset: uint32(at.offset + recordHeaderBytes)}
}

// flush writes buf, which ends at end, and zeros behind it when they are due, and
// syncs both.
func (l *Log) flush() error {
	s := l.active
	if _, err := s.file.WriteAt(l.buf, l.end.offset-int64(len(l.buf))); err != nil {
		return fmt.Errorf("cannot write to segment %q: %w", s.name, err)
	}
	l.zeroAhead(int64(len(l.buf)))
	if err := l.timed(s.file.SyncData); err != nil {
		return fmt.Errorf("cannot sync segment %q: %w", s.name, err)
	}
	l.counters.records.Add(int64(l.end.lsn) - 1 - int64(l.last.Load()))
	l.counters.bytes.Add(int64(len(l.buf)))
	l.last.Store(uint64(l.end.lsn) - 1)
	if cap(l.buf) > bufBytesKept {
		l.buf, l.sealed = nil, nil
	}
	return nil
}

// zeroAhead writes zeros from the end of the records just written to the next step.
// They are zeros already, but of blocks that are only reserved: a sync behind the
// first write to such a block waits for the file system to note that the block
// is used (a journal commit, on ext4), one behind a write over zeros does not. So
// one lone write in some dozens pays for the others. It is done here, and not in
// the background, because the sync of records would wait for these pages too, and
// the log has one writer to its file, which cannot zero a record by mistake.
//
// A batch longer than a step has its own blocks to pay for, and zeros would
// double what it writes. An error is none of the records': no room, say, where
// a file system copies what is written over. There will be no more zeros in this
// segment then. What matters to the records, the sync tells.
func (l *Log) zeroAhead(batchBytes int64) {
	from, step := l.end.offset, l.opts.zeroStepBytes()
	to := min((from/step+1)*step, l.active.bytes)
	if from <= l.zeroed || batchBytes > step || from == to {
		return
	}
	if l.zeros == nil {
		l.zeros = make([]byte, step)
	}
	l.zeroed = to
	if _, err := l.active.file.WriteAt(l.zeros[:to-from], from); err != nil {
		l.zeroed = l.active.bytes
	}
}

func (l *Log) timed(sync func() error) error {
	l.counters.syncs.Add(1)
	if l.opts.Now == nil {
		return sync()
	}
	start := l.opts.Now()
	err := sync()
	l.counters.syncNanos.Add(int64(l.opts.Now().Sub(start) / time.Nanosecond))
	return err
}

// roll makes a prepared segment the newest. Everything in the segments before is
// durable. The steps are in this order so that a segment with a name has a whole
// header, and records go only into a segment whose name is durable:
// header, sync, rename, directory sync.
func (l *Log) roll() error {
	p := l.prepared.take()
	s := &segment{file: p.file, bytes: p.bytes, opener: l.opener}
	s.header = segmentHeader{id: l.opts.NewID(), number: 1, firstLSN: l.end.lsn, chain: l.end.crc}
	if l.active != nil {
		s.header.number = l.active.header.number + 1
	}
	s.name = segmentPath(l.opts.Dir, s.header.number)
	if err := l.makeLive(s, p.name); err != nil {
		_ = p.file.Close() // the log is poisoned by the first error
		return fmt.Errorf("cannot start segment %q: %w", s.name, err)
	}
	l.active, l.end, l.zeroed = s, s.start(), 0
	l.mu.Lock()
	l.segments = append(l.segments, s)
	l.mu.Unlock()
	l.counters.rolls.Add(1)
	return nil
}

func (l *Log) makeLive(s *segment, preparedName string) error {
	if _, err := s.file.WriteAt(s.header.marshal(nil), 0); err != nil {
		return err
	}
	if err := s.file.SyncData(); err != nil {
		return err
	}
	if err := l.opts.FS.Rename(preparedName, s.name); err != nil {
		return err
	}
	return l.opts.FS.SyncDir(l.opts.Dir)
}
