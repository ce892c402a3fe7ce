package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/cespare/xxhash/v2"
	"github.com/dgraph-io/badger/v4"

	"kiln/internal/vfs"
)

// Badger takes the first damaged entry of its log for the log's end, and leaves out
// what follows without a word. So that nothing of the catalog goes unnoticed, each
// transaction writes one entry more,
//
//	key:   0x00 "sum"
//	value: transactions so far u64 | the other entries' hashes, xored u64
//
// and then their number into the file CATALOG, in place and synced (little endian):
//
//	0          8                12     16
//	+----------+----------------+------+------+
//	| KILNCATL | transactions   | crc  | zero |
//	+----------+----------------+------+------+
//
// After a crash Badger may be one ahead of the file, and never behind it. A catalog of
// an older build has neither until it is written to.
const (
	catalogSumKey    = "\x00sum"
	catalogSumBytes  = 16
	catalogMarkMagic = "KILNCATL"
	catalogMarkBytes = 24
)

// catalogSum is what the entry holds.
type catalogSum struct {
	writes uint64
	xor    uint64
}

func (s catalogSum) marshal() []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, s.writes), s.xor)
}

func entryHash(key, value []byte) uint64 {
	d := xxhash.New()
	_, _ = d.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(key))))
	_, _ = d.Write(key)
	_, _ = d.Write(value)
	return d.Sum64()
}

func marshalMark(writes uint64) []byte {
	b := binary.LittleEndian.AppendUint64([]byte(catalogMarkMagic), writes)
	b = binary.LittleEndian.AppendUint32(b, bodyCRC(b))
	return append(b, 0, 0, 0, 0)
}

// readMark reads the file; 0 when there is none.
func readMark(fsys vfs.FS, name string) (uint64, error) {
	b, err := vfs.ReadFile(fsys, name, formatBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(b) == catalogMarkBytes {
		if writes := binary.LittleEndian.Uint64(b[8:]); string(b) == string(marshalMark(writes)) {
			return writes, nil
		}
	}
	return 0, &vfs.CorruptError{File: name, What: "not a valid mark of the job catalog; run kiln repair"}
}

// openBadger opens a catalog, and tells damage from what else may be in the way.
func openBadger(o badger.Options) (db *badger.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, &vfs.CorruptError{File: o.Dir, What: fmt.Sprintf("the job catalog cannot be read: %v; run kiln repair", p)}
		}
	}()
	db, err = badger.Open(o)
	var path *fs.PathError
	var errno syscall.Errno
	if err == nil || errors.As(err, &path) || errors.As(err, &errno) {
		return db, err
	}
	return nil, &vfs.CorruptError{File: o.Dir, What: fmt.Sprintf("the job catalog cannot be read: %v; run kiln repair", err)}
}

// verify reads all entries and holds them against the sum, and that against the
// mark, which is in a file of its own.
func (c *catalog) verify(dir string, mark uint64) error {
	have, sum, found := catalogSum{}, catalogSum{}, false
	err := c.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			key := it.Item().Key()
			err := it.Item().Value(func(value []byte) error {
				if string(key) != catalogSumKey {
					have.xor ^= entryHash(key, value)
					return nil
				}
				if found = len(value) == catalogSumBytes; found {
					sum = catalogSum{binary.LittleEndian.Uint64(value), binary.LittleEndian.Uint64(value[8:])}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot read the job catalog: %w", err)
	}
	if mark > sum.writes || found && sum.xor != have.xor {
		return &vfs.CorruptError{File: dir, What: "entries of the job catalog are lost or have changed; run kiln repair"}
	}
	c.sum = catalogSum{writes: sum.writes, xor: have.xor}
	return nil
}

// write is a transaction with the sum, and then the mark.
func (c *catalog) write(change func(w *catalogTxn) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.sum
	next.writes++
	err := c.db.Update(func(txn *badger.Txn) error {
		w := &catalogTxn{txn: txn, sum: &next}
		if err := change(w); err != nil {
			return err
		}
		return txn.Set([]byte(catalogSumKey), next.marshal())
	})
	if err != nil {
		return err
	}
	c.sum = next
	return c.writeMark()
}

// writeMark notes how many transactions there were. Those of a catalog in memory
// need none.
func (c *catalog) writeMark() error {
	if c.markName == "" {
		return nil
	}
	if c.mark == nil {
		if err := vfs.WriteFileAtomic(c.fs, c.markName, marshalMark(c.sum.writes)); err != nil {
			return err
		}
		var err error
		c.mark, err = c.fs.OpenWrite(c.markName)
		return err
	}
	if _, err := c.mark.WriteAt(marshalMark(c.sum.writes), 0); err != nil {
		return err
	}
	return c.mark.SyncData()
}

// catalogTxn is one transaction that keeps the sum.
type catalogTxn struct {
	txn *badger.Txn
	sum *catalogSum
}

// forget takes an entry out of the sum; false: there is none.
func (w *catalogTxn) forget(key []byte) (bool, error) {
	item, err := w.txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, item.Value(func(value []byte) error {
		w.sum.xor ^= entryHash(key, value)
		return nil
	})
}

func (w *catalogTxn) set(key, value []byte) error {
	if _, err := w.forget(key); err != nil {
		return err
	}
	w.sum.xor ^= entryHash(key, value)
	return w.txn.Set(key, value)
}

// remove takes an entry out; false: there was none.
func (w *catalogTxn) remove(key []byte) (bool, error) {
	found, err := w.forget(key)
	if err != nil || !found {
		return false, err
	}
	return true, w.txn.Delete(key)
}
