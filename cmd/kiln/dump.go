package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"kiln/engine"
	"kiln/fhir"
	"kiln/index"
	"kiln/internal/vfs"
	"kiln/wal"
)

type dumpCmd struct {
	DataDir string `required:"" type:"path" placeholder:"DIR" help:"Data directory that no server has open."`
	Log     bool   `xor:"what" help:"Show the records of the log."`
	RunFile string `name:"run" xor:"what" placeholder:"FILE" help:"Show what one run file of the data directory holds."`
	Key     string `xor:"what" placeholder:"TYPE/ID" help:"Show every version of one resource, newest first."`
	File    string `xor:"what" placeholder:"FILE" help:"Show a file of the data directory, such as an error file, as it is without encryption; named from there."`
	keyFlags
}

// Run shows the files of the data directory, or what was asked for.
func (c *dumpCmd) Run(ctx context.Context, std streams) error {
	if err := mustExist(c.DataDir); err != nil {
		return err
	}
	out := bufio.NewWriter(std.out)
	err := c.dump(ctx, out, std)
	return errors.Join(err, out.Flush())
}

func (c *dumpCmd) dump(ctx context.Context, out *bufio.Writer, std streams) (err error) {
	if c.Key != "" {
		return c.dumpKey(ctx, out, std)
	}
	// Locking makes a file, which a foreign directory must not get.
	format, err := os.ReadFile(filepath.Join(c.DataDir, "FORMAT"))
	if err != nil {
		return fmt.Errorf("cannot look into %q: %w: %w", c.DataDir, engine.ErrForeign, err)
	}
	lock, err := vfs.OS().Lock(filepath.Join(c.DataDir, "LOCK"))
	if errors.Is(err, vfs.ErrLocked) {
		return fmt.Errorf("cannot look into %q: %w", c.DataDir, engine.ErrLocked)
	}
	if err != nil {
		return fmt.Errorf("cannot lock %q: %w", c.DataDir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	fsys, err := c.fs(ctx, std)
	switch {
	case err != nil:
		return err
	case c.Log:
		return c.dumpLog(ctx, fsys, out)
	case c.RunFile != "":
		return c.dumpRun(ctx, fsys, out)
	case c.File != "":
		return c.dumpFile(fsys, out)
	}
	fmt.Fprintf(out, "format  %s\n", strings.Join(strings.Fields(string(format)), " "))
	return c.dumpFiles(out)
}

// dumpFiles lists the data directory.
func (c *dumpCmd) dumpFiles(out *bufio.Writer) error {
	return filepath.WalkDir(c.DataDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(c.DataDir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%14d  %s\n", info.Size(), name)
		return nil
	})
}

// dumpLog shows one record a line.
func (c *dumpCmd) dumpLog(ctx context.Context, fsys vfs.FS, out *bufio.Writer) error {
	sum, err := wal.Dump(ctx, fsys, filepath.Join(c.DataDir, "log"), func(r wal.Record) error {
		_, err := fmt.Fprintf(out, "lsn %d segment %d offset %d %s of %d bytes: %s\n", r.LSN, r.Position.Segment, r.Position.Offset, recordName(r.Type), len(r.Payload), engine.DescribeRecord(r))
		return err
	})
	fmt.Fprintf(out, "%d segments, %d records, lsn %d to %d, %d torn bytes at the end\n", sum.Segments, sum.Records, sum.FirstLSN, sum.LastLSN, sum.TornBytes)
	return err
}

func recordName(t wal.RecordType) string {
	switch t {
	case wal.TypeCommit:
		return "COMMIT"
	case wal.TypeIngest:
		return "INGEST"
	case wal.TypeReplace:
		return "REPLACE"
	case wal.TypePurge:
		return "PURGE"
	case wal.TypeCheckpoint:
		return "CHECKPOINT"
	case wal.TypeFields:
		return "FIELDS"
	default:
		return fmt.Sprintf("type %d", t)
	}
}

// dumpFile copies a file.
func (c *dumpCmd) dumpFile(fsys vfs.FS, out io.Writer) error {
	if !filepath.IsLocal(c.File) {
		return usageError("--file %q is no name below the data directory", c.File)
	}
	file, err := fsys.Open(filepath.Join(c.DataDir, c.File))
	if err != nil {
		return fmt.Errorf("cannot open the file: %w", err)
	}
	defer file.Close() // only read from
	bytes, err := file.Bytes()
	if err == nil {
		_, err = io.Copy(out, io.NewSectionReader(file, 0, bytes))
	}
	if err != nil {
		return fmt.Errorf("cannot read the file: %w", err)
	}
	return nil
}

func (c *dumpCmd) dumpRun(ctx context.Context, fsys vfs.FS, out *bufio.Writer) error {
	id, temporary, ok := index.ParseRunName(filepath.Base(c.RunFile))
	if !ok || temporary {
		return usageError("--run %q is not the name of a run file, such as %s", c.RunFile, index.RunName(1))
	}
	return index.Dump(ctx, fsys, filepath.Join(c.DataDir, "runs"), id, out)
}

// dumpKey opens the store, which cuts a torn tail like any opening does.
func (c *dumpCmd) dumpKey(ctx context.Context, out *bufio.Writer, std streams) (err error) {
	name, id, ok := strings.Cut(c.Key, "/")
	kind := fhir.TypeByName([]byte(name))
	if !ok || kind == 0 || !fhir.ValidID([]byte(id)) {
		return usageError("--key %q is not TYPE/ID", c.Key)
	}
	logger := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	fsys, err := c.fs(ctx, std)
	if err != nil {
		return err
	}
	store, err := openStore(ctx, c.DataDir, logger, storeOptions{fs: fsys, readOnly: true, scrubInterval: -1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	snapshot, err := store.Snapshot()
	if err != nil {
		return err
	}
	defer snapshot.Release()
	return dumpVersions(ctx, out, snapshot, engine.HistoryQuery{Type: kind, ID: []byte(id), Count: dumpPage})
}

// dumpPage is how many versions are asked for at once.
const dumpPage = 1000

func dumpVersions(ctx context.Context, out *bufio.Writer, snapshot *engine.Snapshot, query engine.HistoryQuery) error {
	for {
		next, more, err := snapshot.History(ctx, query, func(v *engine.Version) error {
			state := "live"
			if v.Deleted {
				state = "deleted"
			}
			_, err := fmt.Fprintf(out, "version %d  lsn %d  %s  %d bytes\n%s\n", v.VersionID, v.LSN, state, len(v.Body), v.AppendJSON(nil))
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot show the versions of %s/%s: %w", query.Type, query.ID, err)
		}
		if !more {
			return nil
		}
		query.After = next
	}
}
