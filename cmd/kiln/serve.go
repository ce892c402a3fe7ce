package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"kiln/bulk"
	"kiln/bulk/backup"
	"kiln/fhir/ucum"
	"kiln/httpapi"
)

// drainTimeDefault is below what supervisors kill after (systemd 90 s, Kubernetes
// 30 s), as closing the store needs some of that.
const drainTimeDefault = 20 * time.Second

// failureLookInterval is how soon a failed log ends the process. Writers have
// their errors at once.
const failureLookInterval = time.Second

// validateStructure is the value of the flags that turns the check on.
const validateStructure = "structure"

type serveCmd struct {
	DataDir               string        `required:"" type:"path" placeholder:"DIR" help:"Data directory; made when it is missing or empty."`
	Listen                string        `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address to listen on; port 0 takes a free one (${default})."`
	ImportRoot            []string      `type:"path" placeholder:"DIR" help:"Directory below which $$import may read files; repeatable."`
	ImportOrigin          []string      `placeholder:"URL" help:"scheme://host[:port] from which $$import may read; repeatable. Wherever the name leads, link-local and metadata addresses are never connected to, and this machine only when it is written as localhost or a loopback address."`
	AzureConnectionString string        `placeholder:"TEXT" help:"Storage account whose blobs $$import may read, where their error files are stored, and where $$export may write (_container), as the portal shows it. Better set by environment, where other users do not see it."`
	AzureAccountURL       string        `name:"azure-account-url" placeholder:"URL" help:"https://ACCOUNT.blob.core.windows.net whose blobs $$import may read, where their error files are stored, and where $$export may write; without a key or SAS: by managed identity or another default credential."`
	AzureAccountKey       string        `placeholder:"KEY" help:"Shared key of --azure-account-url."`
	AzureSAS              string        `name:"azure-sas" placeholder:"SAS" help:"Shared access signature for --azure-account-url."`
	ExportDir             string        `type:"path" placeholder:"DIR" help:"Where export files are kept; of this server alone (default: in the data directory)."`
	ExportExpiry          time.Duration `default:"72h" placeholder:"TIME" help:"How long an export is kept after its end, unless it is deleted before; 0 keeps it until then (${default})."`
	BackupRoot            []string      `placeholder:"DIR|URL" help:"Directory, or address of a blob container or a folder in one, at or below which a client may have the server write backups (kiln backup --server); repeatable."`
	ReadOnly              bool          `help:"Serve a data directory without changing anything in it but its LOCK: no writes, no jobs, no background work. It may lie on a file system that is mounted for reading."`
	ExportSectionRows     uint64        `hidden:"" help:"How many versions a section of an export has, about; 0: the default. Tests make it small."`
	MergeFanIn            int           `hidden:"" help:"How many runs are merged at once; 0: the default, negative: none ever. bench merge and tests set it."`
	MinFree               byteSize      `default:"256MiB" placeholder:"BYTES" help:"Free space on the data disk below which writes are refused; imports and merges wait below twice that (${default})."`
	Ballast               byteSize      `default:"128MiB" placeholder:"BYTES" help:"Size that a file grows to with what is to be flushed, from an eighth of it; it holds space for getting out of a full disk, at most a 16th of what is free; 0: none (${default})."`
	BlockCache            byteSize      `default:"128MiB" placeholder:"BYTES" help:"Memory for blocks of resources and indexes that were read, decoded; columns that sort take up to a quarter more (${default})."`
	ScrubInterval         time.Duration `default:"168h" placeholder:"TIME" help:"How long after one check of everything on disk the next begins; 0: never (${default})."`
	ScrubRate             byteSize      `default:"16MiB" placeholder:"BYTES" help:"How much that check reads a second at most (${default})."`
	InitialImportMode     bool          `help:"Allow InitialLoad imports and refuse all other writes meanwhile."`
	Validate              string        `enum:"off,structure" default:"off" placeholder:"off|structure" help:"Check of lines that $$import reads: structure refuses resources that are not built as R4 says (${default})."`
	ValidateWrites        string        `enum:"off,structure" default:"structure" placeholder:"off|structure" help:"The same check for writes through the API (${default})."`
	UCUMEssence           string        `name:"ucum-essence" type:"existingfile" placeholder:"FILE" help:"An unchanged copy of ucum-essence.xml, which unitsofmeasure.org offers: searches for a quantity in a unit of UCUM then find it in other units too."`
	BaseURL               string        `placeholder:"URL" help:"Address that clients know the FHIR base by, when it is not the Host they ask."`
	CORSOrigin            []string      `name:"cors-origin" placeholder:"ORIGIN" help:"scheme://host[:port] of a site whose pages may use the server from a browser, or *; repeatable."`
	DrainTime             time.Duration `default:"${drain}" placeholder:"TIME" help:"How long requests in flight may take after a signal; longer ones are cut off (${default})."`
	transportFlags
	authFlags
	auditFlags
	limitFlags
	InsecureNoAuth bool `help:"Allow an address that other machines can reach although nobody is asked who they are."`
	keyFlags
}

// storeOptions are what the flags say about the store.
func (c *serveCmd) storeOptions() storeOptions {
	with := storeOptions{readOnly: c.ReadOnly, scrubRate: int64(c.ScrubRate), scrubInterval: c.ScrubInterval, mergeFanIn: c.MergeFanIn}
	if c.ScrubInterval <= 0 {
		with.scrubInterval = -1
	}
	with.blockCache = max(1, int64(c.BlockCache))
	with.freeMin, with.ballast = max(1, int64(c.MinFree)), int64(c.Ballast)
	if c.Ballast == 0 {
		with.ballast = -1
	}
	return with
}

// Run serves until the context ends.
func (c *serveCmd) Run(ctx context.Context, std streams) error {
	if err := errors.Join(c.transportFlags.check(), c.auditFlags.check(), c.limitFlags.check(), c.checkListen()); err != nil {
		return err
	}
	if c.ExportExpiry < 0 {
		return usageError("--export-expiry %s is negative", c.ExportExpiry)
	}
	logger := slog.New(slog.NewTextHandler(std.err, nil))
	units, err := readUnits(c.UCUMEssence)
	if err != nil {
		return err
	}
	with := c.storeOptions()
	if with.fs, err = c.fs(ctx, std); err != nil {
		return err
	}
	in, err := openInstance(ctx, c.DataDir, logger, bulk.Options{
		ImportRoots:       c.ImportRoot,
		ImportOrigins:     c.ImportOrigin,
		Azure:             c.azure(),
		ExportDir:         c.ExportDir,
		ExportExpiry:      c.ExportExpiry,
		SectionRows:       c.ExportSectionRows,
		InitialImportMode: c.InitialImportMode,
		ValidateStructure: c.Validate == validateStructure,
		Units:             units,
		Quotas:            c.quotas(),
	}, with)
	if err != nil {
		return err
	}
	if err = c.allowBackups(in, logger); err == nil {
		err = c.listenAndServe(ctx, logger, in, units)
	}
	if closeErr := in.close(); closeErr != nil {
		return errors.Join(err, fmt.Errorf("cannot close the store: %w", closeErr))
	}
	return err
}

func (c *serveCmd) azure() bulk.AzureOptions {
	return bulk.AzureOptions{
		ConnectionString: c.AzureConnectionString, AccountURL: c.AzureAccountURL,
		AccountKey: c.AzureAccountKey, SAS: c.AzureSAS,
	}
}

// allowBackups lets clients ask for backups to the roots.
func (c *serveCmd) allowBackups(in *instance, logger *slog.Logger) error {
	for i, root := range c.BackupRoot {
		if backup.IsBlobAddress(root) {
			continue
		}
		full, err := filepath.Abs(root)
		if err != nil {
			return fmt.Errorf("cannot find --backup-root %q: %w", root, err)
		}
		c.BackupRoot[i] = full
	}
	var err error
	in.backups, err = backup.NewJobs(backup.JobsOptions{
		Store: in.store, FS: in.store.FS(), Roots: c.BackupRoot, Azure: c.azure(), Kiln: version, Now: time.Now, Logger: logger,
	})
	return err
}

func (c *serveCmd) listenAndServe(ctx context.Context, logger *slog.Logger, in *instance, units *ucum.Table) (err error) {
	ctx, cancel := context.WithCancel(ctx) // ends what looks at certificates
	defer cancel()
	certificates, err := c.certificates(ctx, logger)
	if err != nil {
		return err
	}
	proxies, err := c.proxies()
	if err != nil {
		return err
	}
	record, err := c.auditFlags.open(in.store, c.ReadOnly, logger)
	if err != nil {
		return err
	}
	if record != nil {
		// Jobs that end until then are told.
		defer func() { err = errors.Join(err, in.jobs.Close(), record.Close()) }()
	}
	apart, err := c.auditsApart(in.store)
	if err != nil {
		return err
	}
	opts := httpapi.Options{
		BaseURL: c.BaseURL, InitialImportMode: c.InitialImportMode, CORSOrigins: c.CORSOrigin, ValidateWrites: c.ValidateWrites == validateStructure,
		Units: units, Certificates: certificates, TrustedProxies: proxies,
		Audit: record, AuditQueries: c.AuditQueries, AuditsApart: apart, ClientLimits: c.limits(),
	}
	if err := c.guard(&opts, in.store, logger); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	return in.serve(ctx, logger, listener, c.DrainTime, opts)
}

// unitsBytesMax bounds the table of units; the real one has 83 KB.
const unitsBytesMax = 4 << 20

// readUnits reads a table of units; nil: none is given.
func readUnits(path string) (*ucum.Table, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the table of units: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, unitsBytesMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the table of units: %w", err)
	case len(text) > unitsBytesMax:
		return nil, fmt.Errorf("cannot read the table of units: %s has more than %d bytes", path, unitsBytesMax)
	}
	units, err := ucum.Read(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return units, nil
}

// serve answers requests until the context ends, then finishes those in
// flight within drain. What the instance knows is filled into opts.
func (in *instance) serve(ctx context.Context, logger *slog.Logger, listener net.Listener, drain time.Duration, opts httpapi.Options) error {
	opts.Store, opts.Parameters, opts.Jobs, opts.Backups, opts.Logger = in.store, in.parameters, in.jobs, in.backups, logger
	opts.Now, opts.NewID, opts.Version = time.Now, uuid.NewString, version
	server, err := httpapi.New(opts)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	logger.Info("listening", "addr", listener.Addr().String(), "tls", opts.Certificates != nil, "version", version, "data", in.store.Dir())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	failed := in.failure(ctx)
	var cause error
	select {
	case err := <-served:
		return fmt.Errorf("cannot serve: %w", err)
	case cause = <-failed:
	case <-ctx.Done():
	}
	logger.Info("stopping")
	limited, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := server.Shutdown(limited); err != nil {
		return errors.Join(cause, err)
	}
	logger.Info("stopped")
	return cause
}

// failure tells when the store has stopped taking writes for good: a write to
// the log has failed and nobody knows what of it is on disk. Only opening the
// store again finds out, so the process ends and leaves that to whoever
// starts it.
func (in *instance) failure(ctx context.Context) <-chan error {
	failed := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(failureLookInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if in.store.Health().Failed != nil {
				failed <- errors.New("a write to the log failed, the store takes no more writes; start the server again to recover")
				return
			}
		}
	}()
	return failed
}
