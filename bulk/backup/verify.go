package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"kiln/internal/vfs"
)

// List gives the backups of a target, the oldest first. Manifests that cannot be
// read go to damaged.
func List(ctx context.Context, t Target, damaged func(error)) ([]*Manifest, error) {
	c, err := readCatalog(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("cannot read the backups in %s: %w", t, err)
	}
	for _, err := range c.damaged {
		damaged(err)
	}
	return c.manifests, nil
}

// Verified is what a check of a target read.
type Verified struct {
	Backups int   `json:"backups"`
	Files   int   `json:"files"`
	Bytes   int64 `json:"bytes"`
	Damaged int   `json:"damaged"`
}

// Verify reads every file that some backup of the target needs, once, and that
// each description can be followed through its log to the runs that are there.
// Damage goes to report; the error is what kept it from reading.
func Verify(ctx context.Context, t Target, pace Pace, report func(error)) (*Verified, error) {
	c, err := readCatalog(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("cannot read the backups in %s: %w", t, err)
	}
	v := &Verified{Backups: len(c.manifests)}
	found := func(err error) {
		v.Damaged++
		report(err)
	}
	for _, err := range c.damaged {
		found(err)
	}
	files := c.known()
	for _, f := range files {
		pace.expect(f.Bytes)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err := verifyFile(ctx, &pace, t, files[name])
		if err != nil && damageIn(err) == nil {
			return v, err
		}
		if err != nil {
			found(err)
		}
		v.Files++
		v.Bytes += files[name].Bytes
	}
	if v.Damaged > 0 {
		return v, nil
	}
	for _, m := range c.manifests {
		err := c.verifyManifest(ctx, &pace, m)
		if err != nil && damageIn(err) == nil && !errors.Is(err, ErrNewerFormat) {
			return v, err
		}
		if err != nil {
			found(err)
		}
	}
	return v, nil
}

func verifyFile(ctx context.Context, pace *Pace, t Target, f File) error {
	r, file, err := openChecked(ctx, pace, t, f)
	if err != nil {
		return err
	}
	err = drain(r)
	return errors.Join(err, file.Close())
}

// verifyManifest plans a restore of a backup.
func (c *catalog) verifyManifest(ctx context.Context, pace *Pace, m *Manifest) error {
	r := &restoring{RestoreOptions: RestoreOptions{Source: c.target, Pace: *pace}, from: &chosen{base: m, lsn: m.LSN, log: m.Log}}
	if err := r.plan(ctx); err != nil {
		return err
	}
	if own := (&history{c: c, runs: ownRuns(m)}); !own.hasRuns(r.replay) {
		return &vfs.CorruptError{File: c.target.String() + "/" + c.names[m.ID], What: "the manifest lacks a run that the backup needs"}
	}
	return nil
}

func ownRuns(m *Manifest) map[string]File {
	runs := map[string]File{}
	for _, f := range m.Runs {
		runs[f.Name] = f.File
	}
	return runs
}
