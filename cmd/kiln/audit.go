package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"

	"kiln/engine"
	"kiln/httpapi"
	"kiln/httpapi/audit"
	"kiln/internal/vfs"
)

// auditFlags say where accesses are recorded.
type auditFlags struct {
	AuditDir      string        `type:"path" placeholder:"DIR" help:"Record every access, allowed or denied, as a FHIR AuditEvent, a JSON line each, in files in this directory. While it cannot be written requests are answered 503."`
	AuditFileSize byteSize      `default:"64MiB" placeholder:"BYTES" help:"Size at which the next audit file begins (${default})."`
	AuditFileAge  time.Duration `default:"24h" placeholder:"TIME" help:"Age at which the next audit file begins (${default})."`
	AuditKeep     byteSize      `default:"0" placeholder:"BYTES" help:"Remove the oldest audit files while all together have more; 0 keeps all (${default})."`
	AuditQueries  bool          `help:"Record the values of search parameters too, which may tell of patients; without it only names are recorded."`
	AuditStore    bool          `help:"Keep the events in the store too, as AuditEvent resources, a moment later: those that the files have from before, too. They are for Admins, and for tokens with scopes that name AuditEvent."`
}

func (f *auditFlags) check() error {
	switch {
	case f.AuditDir == "" && (f.AuditStore || f.AuditQueries):
		return usageError("--audit-store and --audit-queries need --audit-dir")
	case f.AuditFileSize <= 0 || f.AuditFileAge <= 0:
		return usageError("--audit-file-size and --audit-file-age must be above 0")
	}
	return nil
}

// open begins a file; nil: nothing is recorded.
func (f *auditFlags) open(store *engine.Store, readOnly bool, logger *slog.Logger) (*audit.Log, error) {
	if f.AuditDir == "" {
		return nil, nil
	}
	if f.AuditStore && readOnly {
		return nil, usageError("--audit-store and --read-only exclude each other")
	}
	site, _ := os.Hostname() // "": it is left out
	opts := audit.Options{
		FS: vfs.OS(), Dir: f.AuditDir, Now: time.Now, Instance: uuid.NewString(), Site: site, Logger: logger,
		FileBytes: int64(f.AuditFileSize), FileAge: f.AuditFileAge, KeepBytes: int64(f.AuditKeep),
	}
	if f.AuditStore {
		opts.Keeper = httpapi.NewAuditKeeper(store)
	}
	return audit.Open(opts)
}

// auditsApart tells whether the store has this server's events, or had them once.
func (f *auditFlags) auditsApart(store *engine.Store) (bool, error) {
	if f.AuditStore {
		return true, nil
	}
	kept, err := httpapi.KeepsAudits(store)
	if err != nil {
		return false, fmt.Errorf("cannot find out whether the store keeps audit events: %w", err)
	}
	return kept, nil
}
