package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"kiln/bulk"
	"kiln/bulk/backup"
	"kiln/engine"
	"kiln/internal/vfs"
)

type backupCmd struct {
	DataDir string `type:"path" placeholder:"DIR" help:"Data directory that no server has open."`
	Server  string `placeholder:"URL" help:"FHIR base of a running server, which goes on and writes the backup itself: TARGET is as the server sees it, at or below its --backup-root."`
	Keep    int    `placeholder:"N" help:"Afterwards keep the newest N backups of each store in TARGET and remove what none of them needs; this command does so itself, so it must reach TARGET too. Without --data-dir and --server do only that."`
	List    bool   `help:"Show the backups in TARGET."`
	Verify  bool   `help:"Read everything in TARGET and check it; exit 4 when something is damaged."`
	Rate    string `placeholder:"BYTES" help:"Read at most so much a second, such as 50MB."`
	JSON    bool   `name:"json" help:"Print the result as JSON."`
	connectFlags
	blobFlags
	keyFlags
	files  vfs.FS // of data directories and targets
	Target string `arg:"" help:"Directory, or address of a blob container or a folder in one. A second backup copies only what is new."`
}

// blobFlags sign in where TARGET or SOURCE is an address.
type blobFlags struct {
	AzureConnectionString string `placeholder:"TEXT" help:"Storage account of a target that is an address, as the portal shows it. Better set by environment, where other users do not see it."`
	AzureAccountURL       string `name:"azure-account-url" placeholder:"URL" help:"https://ACCOUNT.blob.core.windows.net; not needed but for odd addresses. Without a key or SAS: by managed identity or another default credential."`
	AzureAccountKey       string `placeholder:"KEY" help:"Shared key of the account."`
	AzureSAS              string `name:"azure-sas" placeholder:"SAS" help:"Shared access signature for the account or the container."`
}

func (f *blobFlags) open(fsys vfs.FS, target string) (backup.Target, error) {
	if !backup.IsBlobAddress(target) {
		return backup.OpenTarget(fsys, target, bulk.AzureOptions{})
	}
	t, err := backup.OpenTarget(fsys, target, bulk.AzureOptions{
		ConnectionString: f.AzureConnectionString, AccountURL: f.AzureAccountURL, AccountKey: f.AzureAccountKey, SAS: f.AzureSAS,
	})
	if err != nil {
		return nil, usageError("%w", err)
	}
	return t, nil
}

// Run makes a backup, or does what a flag asks for instead.
func (c *backupCmd) Run(ctx context.Context, std streams) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Target == "" {
		return usageError("TARGET is empty")
	}
	if !backup.IsBlobAddress(c.Target) {
		full, err := filepath.Abs(c.Target)
		if err != nil {
			return fmt.Errorf("cannot find %q: %w", c.Target, err)
		}
		c.Target = full
	}
	fsys, err := c.fs(ctx, std)
	if err != nil {
		return err
	}
	c.files = fsys
	switch {
	case c.List:
		return c.list(ctx, std)
	case c.Verify:
		return c.verify(ctx, std)
	case c.Server == "" && c.DataDir == "":
		return c.prune(ctx, std)
	}
	return c.backup(ctx, std)
}

func (c *backupCmd) check() error {
	switch {
	case c.Keep < 0:
		return usageError("--keep %d is negative", c.Keep)
	case c.List && c.Verify, (c.List || c.Verify) && c.Keep > 0:
		return usageError("--list, --verify and --keep exclude each other")
	case !c.List && !c.Verify && c.Keep == 0 && c.Server == "" && c.DataDir == "":
		return usageError("what to back up? --data-dir DIR when no server has it open, or --server URL")
	}
	_, err := parseRate(c.Rate)
	return err
}

// parseRate reads bytes a second: 50MB, 50M, 50000000, 0.5GB; "" is no bound.
func parseRate(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	number, unit := strings.TrimSuffix(strings.ToUpper(text), "B"), 1.0
	for suffix, factor := range map[string]float64{"K": 1e3, "M": 1e6, "G": 1e9} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = rest, factor
		}
	}
	rate, err := strconv.ParseFloat(number, 64)
	if err != nil || !(rate*unit >= 1 && rate*unit <= 1e15) {
		return 0, usageError("--rate %q is no number of bytes a second, such as 50MB", text)
	}
	return int64(rate * unit), nil
}

// newPace is for work that is shown on a bar.
func newPace(rate string, bar *progress) backup.Pace {
	bytes, _ := parseRate(rate) // checked before
	return backup.Pace{
		BytesPerSecond: bytes, Now: time.Now, Sleep: backup.Sleep,
		Progress: func(done, total int64) { bar.bytes(float64(done), float64(total)) },
	}
}

// backupReport is what --json prints.
type backupReport struct {
	*backup.Result
	Pruned *backup.Pruned `json:"pruned,omitempty"`
}

func (c *backupCmd) backup(ctx context.Context, std streams) error {
	started := time.Now()
	var report backupReport
	var err error
	if c.Server != "" { // a server that answers has the directory
		report.Result, err = c.ofServer(ctx, std)
	} else {
		report.Result, err = c.ofDirectory(ctx, std)
	}
	if err != nil {
		return damageOr(err)
	}
	for _, warning := range report.Warnings {
		fmt.Fprintf(std.err, "kiln: warning: %s\n", warning)
	}
	if c.Keep > 0 {
		if report.Pruned, err = c.removeOld(ctx); err != nil {
			err = fmt.Errorf("backup %s is made, but old ones are not removed: %w", report.ID, err)
		}
	}
	if c.JSON {
		return errors.Join(printJSON(std.out, report), err)
	}
	report.print(std.out, time.Since(started))
	return err
}

func (r *backupReport) print(out io.Writer, took time.Duration) {
	fmt.Fprintf(out, "backup %s of %d versions (LSN %d) in %s, in %s\n", r.ID, r.Versions, r.LSN, r.Target, rounded(took))
	fmt.Fprintf(out, "copied %d bytes of %d, %d run files of %d", r.BytesCopied, r.Bytes, r.RunsCopied, r.Runs)
	if r.BytesMerged > 0 {
		fmt.Fprintf(out, "; %d bytes are runs that merges made of older ones", r.BytesMerged)
	}
	fmt.Fprintln(out)
	if r.Follows != "" {
		fmt.Fprintf(out, "every moment since %s is in reach, but for runs that came and went in between\n", r.Follows)
	}
	if r.Pruned != nil {
		printPruned(out, r.Pruned)
	}
}

// ofDirectory opens the store for as long as the backup takes. Jobs and merges
// rest, and the catalog is not touched.
func (c *backupCmd) ofDirectory(ctx context.Context, std streams) (*backup.Result, error) {
	if _, err := os.Stat(filepath.Join(c.DataDir, "FORMAT")); err != nil {
		return nil, fmt.Errorf("cannot back up %q: it holds no store: %w", c.DataDir, err)
	}
	target, err := c.open(c.files, c.Target)
	if err != nil {
		return nil, err
	}
	logger := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := engine.Open(ctx, engine.Options{
		FS: c.files, Dir: c.DataDir, Now: time.Now, NewID: rand.Uint64, Logger: logger, CatalogInMem: true, MergeFanIn: -1,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open data directory %q: %w", c.DataDir, err)
	}
	bar := newProgress(std.err, "backing up")
	result, err := backup.Run(ctx, backup.Options{Store: store, FS: store.FS(), Target: target, Kiln: version, Pace: newPace(c.Rate, bar)})
	bar.done()
	if ctx.Err() != nil {
		err = errors.New("interrupted; the same command goes on from the run files that were copied")
	}
	return result, errors.Join(err, store.Close())
}

// ofServer asks a server, and follows it to the end.
func (c *backupCmd) ofServer(ctx context.Context, std streams) (*backup.Result, error) {
	server, err := c.client(c.Server)
	if err != nil {
		return nil, err
	}
	type parameter map[string]any
	parameters := []parameter{{"name": "target", "valueString": c.Target}}
	if rate, _ := parseRate(c.Rate); rate > 0 {
		parameters = append(parameters, parameter{"name": "rate", "valueInteger": rate})
	}
	body, err := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": parameters})
	if err != nil {
		return nil, fmt.Errorf("cannot write the request: %w", err)
	}
	status, err := server.kickOff(ctx, http.MethodPost, server.base+"/$backup", body)
	if err != nil {
		return nil, err
	}
	bar := newProgress(std.err, "backing up")
	defer bar.done()
	text, err := server.follow(ctx, status, bar)
	if err != nil {
		return nil, stillRunning(err, status)
	}
	result := new(backup.Result)
	if err := json.Unmarshal(text, result); err != nil {
		return nil, fmt.Errorf("cannot read the server's answer: %w", err)
	}
	return result, nil
}

func printJSON(out io.Writer, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("cannot write the result: %w", err)
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

// damageOr gives damage its exit code.
func damageOr(err error) error {
	var damage *vfs.CorruptError
	if errors.As(err, &damage) {
		return &exitError{code: exitDamage, err: err}
	}
	return err
}
