package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"kiln/engine"
	"kiln/internal/vfs/sealed"
)

type keysCmd struct {
	DataDir   string `type:"path" placeholder:"DIR" help:"Data directory that no server has open."`
	ExportDir string `type:"path" placeholder:"DIR" help:"The server's --export-dir, if it has one."`
	Forget    bool   `help:"Encrypt the error files of imports anew, and take keys that nothing is under any more out of what the store asks for."`
	JSON      bool   `name:"json" help:"Print one JSON object."`
	New       bool   `help:"Print a new key and do nothing else."`
	keyFlags
}

// keyLine is what is under one key.
type keyLine struct {
	Key     string `json:"key"`
	Current bool   `json:"current"`
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`
	Runs    int    `json:"runs"`
	Records int    `json:"logRecords"`
	Values  int    `json:"catalogValues"`
}

// Run tells what is under which key.
func (c *keysCmd) Run(ctx context.Context, std streams) (err error) {
	if c.New {
		var key [sealed.KeyBytes]byte
		sealed.Random(key[:])
		_, err := fmt.Fprintln(std.out, base64.StdEncoding.EncodeToString(key[:]))
		return err
	}
	if c.DataDir == "" {
		return usageError("which store? --data-dir DIR, or --new for a new key")
	}
	if err := mustExist(c.DataDir); err != nil {
		return err
	}
	fsys, err := c.fs(ctx, std)
	if err != nil {
		return err
	}
	if sealed.KeysOf(fsys) == nil {
		return usageError("the keys of the store are needed: --encryption-key-file, %s or --encryption-key-command", encryptionKeyEnv)
	}
	logger := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := openStore(ctx, c.DataDir, logger, storeOptions{fs: fsys, readOnly: !c.Forget, scrubInterval: -1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return c.report(ctx, store, std.out)
}

func (c *keysCmd) report(ctx context.Context, store *engine.Store, out io.Writer) error {
	var dirs []string
	if c.ExportDir != "" {
		dirs = append(dirs, c.ExportDir)
	}
	resealed := 0
	if c.Forget {
		n, err := store.ResealErrorFiles(ctx)
		if err != nil {
			return err
		}
		resealed = n
	}
	usage, err := store.KeyUsage(ctx, dirs...)
	if err != nil {
		return err
	}
	lines, gone := []keyLine{}, []string{}
	for _, u := range usage {
		l := keyLine{Key: u.Key.String(), Current: u.Current, Files: u.Files, Bytes: u.Bytes, Runs: u.RunFiles, Records: u.Records, Values: u.Values}
		if u.IsPlain() {
			l.Key = "plain"
		}
		lines = append(lines, l)
	}
	if c.Forget {
		ids, err := store.ForgetKeys(usage)
		if err != nil {
			return err
		}
		for _, id := range ids {
			gone = append(gone, id.String())
		}
	}
	if c.JSON {
		return printJSON(out, map[string]any{"keys": lines, "forgotten": gone, "resealedErrorFiles": resealed})
	}
	for _, l := range lines {
		what := ""
		if l.Current {
			what = ", for what is new"
		}
		fmt.Fprintf(out, "%-16s  %d files (%d runs), %d bytes, %d records of the log, %d values of the catalog%s\n", l.Key, l.Files, l.Runs, l.Bytes, l.Records, l.Values, what)
	}
	if resealed > 0 {
		fmt.Fprintf(out, "%d error files of imports were encrypted anew\n", resealed)
	}
	for _, id := range gone {
		fmt.Fprintf(out, "%s  is not needed any more\n", id)
	}
	return nil
}
