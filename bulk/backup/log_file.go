package backup

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"kiln/engine"
	"kiln/wal"
)

// A log file of a backup, little endian: a header, and records without gaps.
//
//	0          8        12     16         24         32
//	+----------+--------+------+----------+----------+
//	| KILNBLOG | format | zero | store id | first    |
//	+----------+--------+------+----------+----------+
//	0      1       4        8     16       20
//	+------+-------+--------+-----+--------+---------+
//	| type | zeros | length | lsn | crc32c | payload |
//	+------+-------+--------+-----+--------+---------+
//
// A record's crc covers its header up to there and its payload, which has the
// bytes of the record in the store's log. The file ends behind the last record.
const (
	logMagic             = "KILNBLOG"
	logVersion           = 1
	logHeaderBytes       = 32
	logRecordHeaderBytes = 20
	logRecordCRCAt       = 16
)

func logName(backup string, first, last uint64) string {
	return fmt.Sprintf("%s/%s-%016x-%016x.log", logFolder, backup, first, last)
}

func logHeader(storeID, first uint64) []byte {
	b := append(make([]byte, 0, logHeaderBytes), logMagic...)
	b = binary.LittleEndian.AppendUint32(b, logVersion)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, storeID)
	return binary.LittleEndian.AppendUint64(b, first)
}

func appendLogRecord(b []byte, rec engine.LogRecord) []byte {
	at := len(b)
	b = append(b, rec.Type, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(rec.Payload)))
	b = binary.LittleEndian.AppendUint64(b, rec.LSN)
	b = binary.LittleEndian.AppendUint32(b, logRecordCRC(b[at:], rec.Payload))
	return append(b, rec.Payload...)
}

func logRecordCRC(header, payload []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(header[:logRecordCRCAt], table), table, payload)
}

// logReader gives the bytes of a view's log as a log file, a record at a time.
type logReader struct {
	*io.PipeReader
	written chan struct{}
}

func openViewLog(ctx context.Context, v *engine.BackupView, first uint64) *logReader {
	from, to := io.Pipe()
	r := &logReader{PipeReader: from, written: make(chan struct{})}
	go func() {
		defer close(r.written)
		_, err := to.Write(logHeader(v.StoreID, first))
		var buf []byte
		if err == nil {
			err = v.Log(ctx, first, func(rec engine.LogRecord) error {
				buf = appendLogRecord(buf[:0], rec)
				_, err := to.Write(buf)
				return err
			})
		}
		_ = to.CloseWithError(err) // nil is the end
	}()
	return r
}

// Close ends the reading, and returns when nobody reads the log any more.
func (r *logReader) Close() error {
	err := r.PipeReader.Close()
	<-r.written
	return err
}

var errLogFile = errors.New("it is no log of a backup")

// readLogFile gives the records of a log file from an LSN to another, in order.
func readLogFile(from io.Reader, f LogFile, first, last uint64, fn func(engine.LogRecord) error) error {
	r := bufio.NewReaderSize(from, readChunkBytes)
	header := make([]byte, logHeaderBytes)
	if _, err := io.ReadFull(r, header); err != nil {
		return err
	}
	if string(header[:len(logMagic)]) != logMagic {
		return errLogFile
	}
	if version := binary.LittleEndian.Uint32(header[8:]); version > logVersion {
		return fmt.Errorf("%w: log format %d, this Kiln knows %d", ErrNewerFormat, version, logVersion)
	}
	var payload []byte
	head := header[:logRecordHeaderBytes]
	for lsn := f.First; lsn <= f.Last; lsn++ {
		if _, err := io.ReadFull(r, head); err != nil {
			return err
		}
		length := int(binary.LittleEndian.Uint32(head[4:]))
		if binary.LittleEndian.Uint64(head[8:]) != lsn || length > wal.PayloadBytesMax {
			return errLogFile
		}
		if cap(payload) < length {
			payload = make([]byte, length)
		}
		payload = payload[:length]
		if _, err := io.ReadFull(r, payload); err != nil {
			return err
		}
		if logRecordCRC(head, payload) != binary.LittleEndian.Uint32(head[logRecordCRCAt:]) {
			return errLogFile
		}
		if lsn < first || lsn > last {
			continue
		}
		if err := fn(engine.LogRecord{Type: head[0], LSN: lsn, Payload: payload}); err != nil {
			return err
		}
	}
	_, err := r.ReadByte()
	switch err {
	case io.EOF:
		return nil
	case nil:
		return errLogFile
	}
	return err // of the checks at the end
}

// readLog gives the records of log files from an LSN to another, each file checked.
func readLog(ctx context.Context, pace *Pace, t Target, files []LogFile, first, last uint64, fn func(engine.LogRecord) error) error {
	for _, f := range files {
		if f.Last < first || f.First > last {
			continue
		}
		r, file, err := openChecked(ctx, pace, t, f.File)
		if err != nil {
			return err
		}
		stopped := errors.New("stopped")
		var cause error
		err = readLogFile(r, f, first, last, func(rec engine.LogRecord) error {
			if cause = fn(rec); cause != nil {
				return stopped
			}
			return nil
		})
		_ = file.Close() // only read from
		switch {
		case cause != nil:
			return cause
		case err == nil, damageIn(err) != nil, errors.Is(err, ErrNewerFormat), ctx.Err() != nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errLogFile):
			err = damagedFile(t, f.Name, "the file is not the log from LSN %d to %d that its backup's manifest says", f.First, f.Last)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
