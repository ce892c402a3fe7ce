package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// catalog is the small key-value store of jobs: registrations and their ends.
// What a job has published is in the log, not here. Badger, with synchronous
// writes; every option that we depend on is named. A value is cut into chunks,
// because large values would go to Badger's value log, whose collection we do
// not trust:
//
//	key:   the caller's | 0x00 | chunk number u16 big endian
//	value: CRC32C of the whole value u32 | count of chunks u16 | the chunk
type catalog struct {
	db *badger.DB
	// mu is held by the one write under way.
	mu       sync.Mutex
	sum      catalogSum
	fs       vfs.FS
	markName string // "": a catalog in memory
	mark     vfs.File
	keys     *sealed.Keys // nil: values are kept as they are
	strict   bool         // all values are sealed
}

const (
	// CatalogValueBytesMax bounds a value: a registration of 10,000 inputs has
	// about 2 MB. All chunks must fit one transaction, which is 15 % of
	// catalogMemTableBytes.
	CatalogValueBytesMax  = 4 << 20
	catalogMemTableBytes  = 32 << 20
	catalogChunkBytes     = 512 << 10
	catalogChunkHeader    = 6
	catalogValueLogBytes  = 1 << 20 // unused, but Badger makes one
	catalogValueThreshold = 1 << 20 // above every chunk
)

// openCatalog opens the catalog, or makes one. While keys change, tidies has it write its
// tables again when it is closed, so that the values of before do not stay in them.
func openCatalog(opts Options, tidies bool) (*catalog, error) {
	dir := opts.Dir + "/" + catalogDir
	if opts.ReadOnly && !opts.CatalogInMem {
		return openCatalogForReading(opts, dir)
	}
	if opts.CatalogInMem {
		dir = ""
	} else if err := prepareCatalog(opts.FS, opts.Dir, dir); err != nil {
		return nil, fmt.Errorf("cannot open the job catalog: %w", err)
	}
	o := catalogOptions(dir).WithInMemory(opts.CatalogInMem).WithCompactL0OnClose(tidies && !opts.CatalogInMem)
	if opts.CatalogInMem {
		o = o.WithMemTableSize(catalogMemTableBytesSim).WithValueThreshold(catalogMemTableBytesSim / 10)
	}
	if opts.CatalogInMem {
		db, err := badger.Open(o)
		if err != nil {
			return nil, fmt.Errorf("cannot make a job catalog in memory: %w", err)
		}
		return &catalog{db: db}, nil
	}
	c, err := openVerified(o, opts.FS, opts.Dir+"/"+catalogMarkName)
	if err != nil {
		return nil, fmt.Errorf("cannot open the job catalog: %w", err)
	}
	return c, nil
}

// openVerified opens a catalog that has all that was written to it.
func openVerified(o badger.Options, fsys vfs.FS, markName string) (*catalog, error) {
	mark, err := readMark(fsys, markName)
	if err != nil {
		return nil, err
	}
	db, err := openBadger(o)
	if err != nil {
		return nil, err
	}
	c := &catalog{db: db, fs: fsys, markName: markName}
	if err := c.verify(o.Dir, mark); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return c, nil
}

// openCatalogForReading opens the catalog as it lies there. One that was not closed
// has logs that only an opening for writing puts in order, and on a file system
// that is mounted for reading Badger opens none: then a copy is read. Where that
// cannot be made no jobs are known.
func openCatalogForReading(opts Options, dir string) (*catalog, error) {
	err := catalogReadable(opts.FS, opts.Dir, dir)
	if err == nil {
		var c *catalog
		if c, err = openVerified(catalogOptions(dir).WithReadOnly(true), opts.FS, opts.Dir+"/"+catalogMarkName); err == nil {
			return c, nil
		}
	}
	db, memErr := badger.Open(catalogOptions("").WithInMemory(true))
	if memErr != nil {
		return nil, fmt.Errorf("cannot make a job catalog in memory: %w", memErr)
	}
	if opts.TempDir != "" {
		err = readCatalogCopy(db, opts, dir)
	}
	if err != nil {
		opts.Logger.Warn("the job catalog cannot be opened for reading: no import, export or backup is known", "error", err)
		err = db.DropAll() // some of it would be worse
	}
	return &catalog{db: db}, err
}

// catalogCopyBytesMin must be free where a copy of the catalog is opened: Badger maps
// logs of twice catalogMemTableBytes, and the tables come along.
const catalogCopyBytesMin = 4 * catalogMemTableBytes

// readCatalogCopy reads a catalog into memory by way of a copy, which is put in order.
func readCatalogCopy(db *badger.DB, opts Options, dir string) error {
	if free, err := opts.FS.FreeBytes(opts.TempDir); err != nil || free < catalogCopyBytesMin {
		return errors.Join(err, fmt.Errorf("%w for a copy of it in %q: %d bytes are free, at least %d must be", ErrNoSpace, opts.TempDir, free, catalogCopyBytesMin))
	}
	names, err := opts.FS.List(dir)
	if err != nil {
		return err
	}
	copied := path.Join(opts.TempDir, catalogDir)
	err = copyFiles(opts.FS, dir, copied, names)
	if err == nil {
		err = removeEmptyLogs(opts.FS, copied)
	}
	if err == nil {
		err = readCatalogInto(db, opts, copied)
	}
	return errors.Join(err, opts.FS.RemoveAll(copied))
}

func readCatalogInto(db *badger.DB, opts Options, dir string) error {
	c, err := openVerified(catalogOptions(dir), opts.FS, opts.Dir+"/"+catalogMarkName)
	if err != nil {
		return err
	}
	batch := db.NewWriteBatch()
	defer batch.Cancel()
	err = c.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err == nil {
				err = batch.Set(it.Item().KeyCopy(nil), value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, batch.Flush(), c.close())
}

// catalogReadable is why Badger should not even try: it would walk into the holes of
// logs that were not closed, and on a full disk a mapped hole ends the process, on some
// file systems when it is only read.
func catalogReadable(fsys vfs.FS, dataDir, dir string) error {
	free, err := fsys.FreeBytes(dataDir)
	if err != nil {
		return err
	}
	if free < catalogOpenBytesMin {
		return fmt.Errorf("%w: %d bytes are free, at least %d must be", ErrNoSpace, free, catalogOpenBytesMin)
	}
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".mem") {
			return errors.New("it was not closed")
		}
	}
	return nil
}

// catalogOptions names every option that we depend on.
func catalogOptions(dir string) badger.Options {
	return badger.DefaultOptions(dir).
		WithSyncWrites(true).
		WithLogger(nil).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithMemTableSize(catalogMemTableBytes).
		WithNumMemtables(2).
		WithNumCompactors(2).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithValueThreshold(catalogValueThreshold).
		WithValueLogFileSize(catalogValueLogBytes).
		WithChecksumVerificationMode(options.OnTableRead)
}

// catalogOpenBytesMin must be free for Badger to open. It writes its new logs
// through mappings of files with holes, and a hole that cannot be filled ends
// the process with SIGBUS.
const catalogOpenBytesMin = 1 << 20

func prepareCatalog(fsys vfs.FS, dataDir, dir string) error {
	free, err := fsys.FreeBytes(dataDir)
	if err != nil {
		return err
	}
	if free < catalogOpenBytesMin {
		return fmt.Errorf("%w: %d bytes are free, at least %d must be to start", ErrNoSpace, free, catalogOpenBytesMin)
	}
	return removeEmptyLogs(fsys, dir)
}

// removeEmptyLogs removes Badger's logs of no length. Badger makes a log empty
// before it gives it its length, and cuts it to nothing before it removes it; a
// process that ends in between leaves one, which Badger then refuses to open.
// Nothing was ever written to them, or all of it is in tables.
func removeEmptyLogs(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".mem") && !strings.HasSuffix(name, ".vlog") {
			continue
		}
		info, err := fsys.Stat(dir + "/" + name)
		if err != nil {
			return err
		}
		if info.Bytes > 0 || info.IsDir {
			continue
		}
		if err := fsys.Remove(dir + "/" + name); err != nil {
			return err
		}
	}
	return nil
}

// catalogMemTableBytesSim keeps simulations, which open stores by the
// thousand, from clearing memory most of the time.
const catalogMemTableBytesSim = 1 << 20

func (c *catalog) close() error {
	err := c.db.Close()
	if c.mark != nil {
		err = errors.Join(err, c.mark.Close())
	}
	return err
}

const (
	// catalogDeleteBytesMin is for a few keys in the log; less than for values, since
	// deletions are what an operator makes room with.
	catalogDeleteBytesMin = 1 << 20
	// catalogCloseBytesMin is for the table that Badger makes of what is in memory,
	// which is a few hundred KB but for thousands of jobs.
	catalogCloseBytesMin = 8 << 20
)

// closeCatalog closes it, or on a full disk leaves it as a process that was
// killed does: everything is in its logs.
func (s *Store) closeCatalog() error {
	if !s.opts.ReadOnly {
		if err := s.catalogRoom(catalogCloseBytesMin); errors.Is(err, ErrNoSpace) {
			s.opts.Logger.Warn("the job catalog is left open: the data disk is full", "error", err)
			return nil
		}
	}
	return s.catalog.close()
}

func catalogKey(key string, chunk int) []byte {
	return binary.BigEndian.AppendUint16(append([]byte(key), 0), uint16(chunk))
}

// CatalogPut sets a value, durable on return.
func (s *Store) CatalogPut(key string, value []byte) error {
	if len(value) > CatalogValueBytesMax {
		return fmt.Errorf("cannot put %d bytes into the catalog, at most %d: %w", len(value), CatalogValueBytesMax, ErrTooLarge)
	}
	if s.opts.ReadOnly {
		return ErrOpenedReadOnly
	}
	if err := s.CheckRoom(s.opts.Dir); err != nil {
		return err // a full disk would end the process: Badger writes through a mapping
	}
	value, err := s.catalog.seal(key, value)
	if err != nil {
		return fmt.Errorf("cannot write %q to the catalog: %w", key, err)
	}
	chunks := max(1, (len(value)+catalogChunkBytes-1)/catalogChunkBytes)
	err = s.catalog.write(func(w *catalogTxn) error {
		for i := range chunks {
			part := value[i*catalogChunkBytes : min(len(value), (i+1)*catalogChunkBytes)]
			b := binary.LittleEndian.AppendUint32(nil, bodyCRC(value))
			b = binary.LittleEndian.AppendUint16(b, uint16(chunks))
			if err := w.set(catalogKey(key, i), append(b, part...)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot write %q to the catalog: %w", key, noSpace(err))
	}
	return nil
}

// CatalogGet returns a copy of the value. ErrNotFound.
func (s *Store) CatalogGet(key string) ([]byte, error) {
	var value []byte
	err := s.catalog.db.View(func(txn *badger.Txn) error {
		var err error
		value, err = catalogValue(txn, key)
		return err
	})
	if err == nil {
		value, err = s.catalog.open(key, value)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %q from the catalog: %w", key, err)
	}
	return value, nil
}

// catalogValue puts the chunks together and verifies the whole.
func catalogValue(txn *badger.Txn, key string) ([]byte, error) {
	value := []byte{}
	var crc uint32
	for i, chunks := 0, 1; i < chunks; i++ {
		item, err := txn.Get(catalogKey(key, i))
		if errors.Is(err, badger.ErrKeyNotFound) && i == 0 {
			return nil, ErrNotFound
		}
		if err != nil {
			return nil, err
		}
		err = item.Value(func(b []byte) error {
			if len(b) < catalogChunkHeader {
				return errShortPayload
			}
			crc, chunks = binary.LittleEndian.Uint32(b), int(binary.LittleEndian.Uint16(b[4:]))
			value = append(value, b[catalogChunkHeader:]...)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if bodyCRC(value) != crc {
		return nil, &vfs.CorruptError{File: catalogDir, What: fmt.Sprintf("the value of %q fails its checksum", key)}
	}
	return value, nil
}

// CatalogDelete removes a value, durable on return. A missing one is no error.
func (s *Store) CatalogDelete(key string) error {
	if s.opts.ReadOnly {
		return ErrOpenedReadOnly
	}
	if err := s.catalogRoom(catalogDeleteBytesMin); err != nil {
		return fmt.Errorf("cannot delete %q from the catalog: %w", key, err)
	}
	err := s.catalog.write(func(w *catalogTxn) error {
		for i := range CatalogValueBytesMax/catalogChunkBytes + 1 {
			if found, err := w.remove(catalogKey(key, i)); !found || err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot delete %q from the catalog: %w", key, noSpace(err))
	}
	return nil
}

// CatalogList calls fn for each value whose key begins with prefix, in key
// order, as of one moment. fn owns the value.
func (s *Store) CatalogList(prefix string, fn func(key string, value []byte) error) error {
	return s.catalog.list(prefix, fn)
}

func (c *catalog) list(prefix string, fn func(key string, value []byte) error) error {
	return c.each(prefix, func(key string, stored []byte) error {
		value, err := c.open(key, stored)
		if err != nil {
			return fmt.Errorf("cannot read %q from the catalog: %w", key, err)
		}
		return fn(key, value)
	})
}

// each gives the values as they are kept.
func (c *catalog) each(prefix string, fn func(key string, stored []byte) error) error {
	return c.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte(prefix)})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			k := it.Item().KeyCopy(nil)
			if len(k) < 3 || binary.BigEndian.Uint16(k[len(k)-2:]) != 0 {
				continue // not a first chunk
			}
			key := string(k[:len(k)-3])
			value, err := catalogValue(txn, key)
			if err != nil {
				return fmt.Errorf("cannot read %q from the catalog: %w", key, err)
			}
			if err := fn(key, value); err != nil {
				return err
			}
		}
		return nil
	})
}
