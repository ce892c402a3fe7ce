package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"kiln/engine"
	"kiln/fhir"
	"kiln/httpapi/audit"
)

// auditPositionName is the catalog's note of how far the audit files are in the store.
// It is not in backups: a restored store looks through all files.
const auditPositionName = "audit-position"

// auditKeeper keeps audit events in a store, as AuditEvents under their own ids. It
// writes to the store and not through the server, so that keeping makes no events.
type auditKeeper struct {
	store   *engine.Store
	scanner *fhir.Scanner
}

// NewAuditKeeper gives what audit.Options.Keeper takes.
func NewAuditKeeper(store *engine.Store) audit.Keeper {
	return &auditKeeper{store: store, scanner: fhir.NewScanner(fhir.ScannerOptions{})}
}

// KeepsAudits tells whether a store has ever kept audit events.
func KeepsAudits(store *engine.Store) (bool, error) {
	_, err := store.CatalogGet(auditPositionName)
	if errors.Is(err, engine.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (k *auditKeeper) Position() (audit.Position, error) {
	text, err := k.store.CatalogGet(auditPositionName)
	if errors.Is(err, engine.ErrNotFound) {
		return audit.Position{}, nil
	}
	if err != nil {
		return audit.Position{}, err
	}
	offset, name, ok := strings.Cut(string(text), " ")
	at, err := strconv.ParseInt(offset, 10, 64)
	if !ok || err != nil || at < 0 {
		return audit.Position{}, fmt.Errorf("cannot read the catalog's note %q of what is kept", text)
	}
	return audit.Position{File: name, Offset: at}, nil
}

func (k *auditKeeper) Remember(p audit.Position) error {
	return k.store.CatalogPut(auditPositionName, []byte(strconv.FormatInt(p.Offset, 10)+" "+p.File))
}

// Keep writes the events that the store does not have, in one commit. One that it has,
// or had until somebody deleted it, is left as it is.
func (k *auditKeeper) Keep(ctx context.Context, lines []byte) (kept, refused int, err error) {
	changes, refused, err := k.missing(lines)
	if err != nil || len(changes) == 0 {
		return 0, refused, err
	}
	if _, err = k.store.Commit(ctx, changes); isForGood(err) {
		var more int
		kept, more, err = k.keepEach(ctx, changes)
		return kept, refused + more, err
	}
	if err != nil {
		return 0, 0, err
	}
	return len(changes), refused, nil
}

// keepEach leaves out what the store will never take.
func (k *auditKeeper) keepEach(ctx context.Context, changes []engine.Change) (kept, refused int, err error) {
	for i := range changes {
		switch _, err = k.store.Commit(ctx, changes[i:i+1]); {
		case isForGood(err):
			refused++
		case err != nil:
			return 0, 0, err
		default:
			kept++
		}
	}
	return kept, refused, nil
}

// isForGood: the store would refuse it again.
func isForGood(err error) bool {
	return errors.Is(err, engine.ErrUnindexable) || errors.Is(err, engine.ErrTooLarge)
}

// missing are the lines that the store does not have, as changes.
func (k *auditKeeper) missing(lines []byte) (changes []engine.Change, refused int, err error) {
	snap, err := k.store.Snapshot()
	if err != nil {
		return nil, 0, err
	}
	defer snap.Release()
	seen := map[string]bool{}
	for line := range bytes.Lines(lines) {
		r, err := k.scanner.Scan(line, nil)
		if err != nil || string(r.TypeName) != "AuditEvent" || !fhir.ValidID(r.ID) {
			refused++
			continue
		}
		if seen[string(r.ID)] {
			continue
		}
		seen[string(r.ID)] = true
		switch _, err := snap.Get(r.Type, r.ID); {
		case err == nil:
			continue
		case !errors.Is(err, engine.ErrNotFound):
			return nil, 0, fmt.Errorf("cannot look for an audit event: %w", err)
		}
		changes = append(changes, engine.Change{
			Type: r.Type, ID: bytes.Clone(r.ID), IDAt: r.IDAt, Body: bytes.Clone(r.Body), Splice: r.Splice, If: engine.Precondition{Absent: true},
		})
	}
	return changes, refused, nil
}
