package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// headDir is the key directory of one head generation: key -> ordinal of the
// key's newest version, by LSN. It lives in memory only: the log rebuilds it
// at every open, and on disk Badger would add a crash on a full disk and
// silent loss on damage. Every option that we depend on is named.
type headDir struct {
	db *badger.DB
}

const (
	// dirMemTableBytes takes about 100,000 keys before Badger makes a table of
	// them; opening one costs 3 ms at 16 MiB and 1.4 ms at 1 MiB.
	dirMemTableBytes = 16 << 20
	// dirMemTableBytesSmall is for heads below smallHeadBytes (simulations).
	dirMemTableBytesSmall = 256 << 10
	smallHeadBytes        = 4 << 20
	// dirCompactors is the least that Badger takes.
	dirCompactors = 2
	dirMemTables  = 3
)

func openHeadDir(headBytes int64) (*headDir, error) {
	memTableBytes := int64(dirMemTableBytes)
	if headBytes <= smallHeadBytes {
		memTableBytes = dirMemTableBytesSmall
	}
	o := badger.DefaultOptions("").
		WithInMemory(true).
		WithLogger(nil).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).           // there is one writer
		WithNumVersionsToKeep(math.MaxInt32). // snapshots read at their LSN
		WithMemTableSize(memTableBytes).
		WithBaseTableSize(memTableBytes / 4).
		WithNumMemtables(dirMemTables).
		WithNumCompactors(dirCompactors).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithValueThreshold(1 << 10)
	db, err := badger.OpenManaged(o)
	if err != nil {
		return nil, fmt.Errorf("cannot open the head's key directory: %w", err)
	}
	return &headDir{db: db}, nil
}

// keyOrdinal is one entry of the directory.
type keyOrdinal struct {
	key     string
	ordinal int32
}

// put makes the entries readable at lsn and later. Badger bounds a
// transaction; several of one lsn are fine because nobody reads at lsn yet.
func (d *headDir) put(entries []keyOrdinal, lsn uint64) error {
	txn := d.db.NewTransactionAt(lsn, true)
	defer func() { txn.Discard() }()
	for _, e := range entries {
		value := binary.LittleEndian.AppendUint32(nil, uint32(e.ordinal))
		err := txn.Set([]byte(e.key), value)
		if errors.Is(err, badger.ErrTxnTooBig) {
			if err := txn.CommitAt(lsn, nil); err != nil {
				return fmt.Errorf("cannot write the head's key directory: %w", err)
			}
			txn = d.db.NewTransactionAt(lsn, true)
			err = txn.Set([]byte(e.key), value)
		}
		if err != nil {
			return fmt.Errorf("cannot write the head's key directory: %w", err)
		}
	}
	if err := txn.CommitAt(lsn, nil); err != nil {
		return fmt.Errorf("cannot write the head's key directory: %w", err)
	}
	return nil
}

// get returns the ordinal of key as of lsn; none when there is none.
func (d *headDir) get(key []byte, lsn uint64) (int32, error) {
	txn := d.db.NewTransactionAt(lsn, false)
	defer txn.Discard()
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return none, nil
	}
	ordinal := int32(none)
	if err == nil {
		err = item.Value(func(value []byte) error {
			ordinal = int32(binary.LittleEndian.Uint32(value))
			return nil
		})
	}
	if err != nil {
		return none, fmt.Errorf("cannot read the head's key directory: %w", err)
	}
	return ordinal, nil
}

func (d *headDir) close() error { return d.db.Close() }
