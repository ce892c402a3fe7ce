package backup

import (
	"context"
	"errors"
	"fmt"
)

// Pruned is what a pruning removed.
type Pruned struct {
	Backups []string `json:"backups"` // ids
	Files   int      `json:"files"`
	Bytes   int64    `json:"bytes"`
}

// ErrUnsafe: a pruning could remove what a backup needs.
var ErrUnsafe = errors.New("it is not known which files are needed")

// Prune keeps the newest backups of each store, so many of each, and removes
// what none of them needs: also what backups left that did not end. Manifests
// go first, so that a backup that is there has all its files.
func Prune(ctx context.Context, t Target, keep int) (pruned *Pruned, err error) {
	if keep < 1 {
		return nil, errors.New("cannot keep fewer than one backup")
	}
	ctx, unlock, err := t.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	c, err := readCatalog(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("cannot read the backups in %s: %w", t, err)
	}
	if len(c.damaged) > 0 {
		return nil, fmt.Errorf("cannot prune %s: %w, as these manifests cannot be read: %w", t, ErrUnsafe, errors.Join(c.damaged...))
	}
	pruned = &Pruned{Backups: []string{}}
	for _, m := range c.expire(keep) {
		if err := t.Remove(ctx, c.names[m.ID]); err != nil {
			return pruned, err
		}
		pruned.Backups = append(pruned.Backups, m.ID)
	}
	return pruned, c.removeUnneeded(ctx, pruned)
}

// expire takes out all but the newest backups of each store, and gives those.
func (c *catalog) expire(keep int) []*Manifest {
	left := map[string]int{}
	for _, m := range c.manifests {
		left[m.StoreID]++
	}
	var expired, kept []*Manifest
	for _, m := range c.manifests { // the oldest first
		if left[m.StoreID] > keep {
			left[m.StoreID]--
			expired = append(expired, m)
		} else {
			kept = append(kept, m)
		}
	}
	c.manifests = kept
	return expired
}

func (c *catalog) removeUnneeded(ctx context.Context, pruned *Pruned) error {
	needed := c.known()
	for _, folder := range []string{manifestsFolder, logFolder, checkpointsFolder, runsFolder} {
		files, err := c.target.List(ctx, folder)
		if err != nil {
			return err
		}
		for name, bytes := range files {
			full := folder + "/" + name
			_, isNeeded := needed[full]
			if isNeeded || folder == manifestsFolder && !isTemp(name) {
				continue
			}
			if !isTemp(name) && !fileName.MatchString(full) {
				continue // not of a backup
			}
			if err := c.target.Remove(ctx, full); err != nil {
				return err
			}
			pruned.Files++
			pruned.Bytes += bytes
		}
	}
	return nil
}
