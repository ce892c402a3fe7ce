package backup

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"kiln/engine"
	"kiln/index"
	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

const (
	runsFolder        = "runs"
	checkpointsFolder = "checkpoints"
	logFolder         = "log"
	manifestsFolder   = "manifests"

	manifestFormat = "kiln-backup"
	// manifestVersion is of the manifest and of all that it names.
	manifestVersion = 2
	manifestPlain   = 1 // of one that is not encrypted
	// manifestBytesMax bounds what is read: a run takes 160 bytes, and a store of
	// 1e9 versions has some 50.
	manifestBytesMax = 16 << 20
	// idTimeLayout sorts as the instants do.
	idTimeLayout = "20060102T150405.000Z"
)

// Manifest is one backup: everything that makes the store as of LSN. It is JSON.
type Manifest struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	ID      string `json:"id"`
	Kiln    string `json:"kiln"` // the program that wrote it
	// StoreID is of the store that was copied, 16 hex digits. A restored one gets
	// an id of its own, so the manifests of one id are of one history.
	StoreID  string    `json:"storeId"`
	Instant  time.Time `json:"instant"`
	LSN      uint64    `json:"lsn"`
	Flushed  uint64    `json:"flushed"`
	Versions uint64    `json:"versions"`
	// LastSum is the engine.LogRecord.Sum of the record of LSN in hex; "": not known.
	LastSum string `json:"lastSum,omitempty"`
	// Keys are the ids of the keys that files were encrypted under; none: they are plain.
	// Files that older backups copied may be under older keys.
	Keys []string `json:"keys,omitempty"`
	// Follows is the backup from whose LSN on the log below is whole; "": none.
	Follows    string    `json:"follows,omitempty"`
	Checkpoint File      `json:"checkpoint"`
	Runs       []RunFile `json:"runs"`
	// Log has the records from Flushed+1 to LSN at least, by rising LSN.
	Log []LogFile `json:"log"`
}

// File is a file of the target.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// RunFile is a run; its name says which.
type RunFile struct {
	File
	Merged bool `json:"merged,omitempty"` // a merge made it
}

// LogFile has the records from First to Last, whole.
type LogFile struct {
	File
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

var (
	// ErrNoBackup: the target has no such backup, or none at all.
	ErrNoBackup = errors.New("no such backup")
	// ErrNewerFormat: a newer Kiln wrote the backup.
	ErrNewerFormat = errors.New("the backup was written by a newer Kiln")
)

// runName names a run by what it is: the id is used once in a store, but two
// copies of a store go on with the same one.
func runName(meta index.RunMeta) string {
	return fmt.Sprintf("%s/%016x-%016x-%d.run", runsFolder, uint64(meta.ID), meta.Hash, meta.Bytes)
}

func backupID(v *engine.BackupView) string {
	return time.UnixMilli(v.Instant.Milli).UTC().Format(idTimeLayout) + fmt.Sprintf("-%08x", uint32(v.StoreID>>32))
}

func storeIDText(id uint64) string { return fmt.Sprintf("%016x", id) }

// Bytes is of all files that the backup needs, those that it shares with others too.
func (m *Manifest) Bytes() int64 {
	total := int64(0)
	for _, f := range m.files() {
		total += f.Bytes
	}
	return total
}

func (m *Manifest) files() []File {
	files := []File{m.Checkpoint}
	for i := range m.Runs {
		files = append(files, m.Runs[i].File)
	}
	for i := range m.Log {
		files = append(files, m.Log[i].File)
	}
	return files
}

// manifestName has the hash of the content.
var manifestName = regexp.MustCompile(`^([0-9]{8}T[0-9]{6}\.[0-9]{3}Z-[0-9a-f]{8})\.([0-9a-f]{64})\.json$`)

func (m *Manifest) marshal() (name string, data []byte, err error) {
	if data, err = json.MarshalIndent(m, "", " "); err != nil {
		return "", nil, err
	}
	data = append(data, '\n')
	sum := sha256.Sum256(data)
	return fmt.Sprintf("%s/%s.%x.json", manifestsFolder, m.ID, sum), data, nil
}

// catalog is what a target holds.
type catalog struct {
	target    Target
	manifests []*Manifest // by rising instant and LSN
	// damaged are manifests that cannot be read; what they need is not known.
	damaged []error
	names   map[string]string // of the manifests' files, by id
}

func readCatalog(ctx context.Context, t Target) (*catalog, error) {
	files, err := t.List(ctx, manifestsFolder)
	if err != nil {
		return nil, err
	}
	c := &catalog{target: t, names: map[string]string{}}
	for name, bytes := range files {
		if isTemp(name) {
			continue
		}
		m, err := readManifest(ctx, t, name, bytes)
		if err == nil {
			err = m.readable(t)
		}
		if isDamage(err) || errors.Is(err, sealed.ErrKey) || errors.Is(err, ErrNewerFormat) {
			c.damaged = append(c.damaged, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		c.manifests = append(c.manifests, m)
		c.names[m.ID] = manifestsFolder + "/" + name
	}
	slices.SortFunc(c.manifests, func(a, b *Manifest) int {
		return cmp.Or(a.Instant.Compare(b.Instant), cmp.Compare(a.LSN, b.LSN), strings.Compare(a.ID, b.ID))
	})
	slices.SortFunc(c.damaged, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return c, nil
}

func isDamage(err error) bool {
	var damage *vfs.CorruptError
	return errors.As(err, &damage)
}

// damagedFile says that a file of a target is not what was written.
func damagedFile(t Target, name, format string, args ...any) error {
	return &vfs.CorruptError{File: t.String() + "/" + name, What: fmt.Sprintf(format, args...)}
}

func readManifest(ctx context.Context, t Target, name string, size int64) (*Manifest, error) {
	full := manifestsFolder + "/" + name
	parts := manifestName.FindStringSubmatch(name)
	if parts == nil || size > manifestBytesMax {
		return nil, damagedFile(t, full, "it is no manifest of a backup, by its name or length")
	}
	file, err := t.Open(ctx, full)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, manifestBytesMax))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("cannot read %s/%s: %w", t, full, err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != parts[2] {
		return nil, damagedFile(t, full, "the manifest has another SHA-256 than its name says")
	}
	m := new(Manifest)
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(m); err != nil || m.Format != manifestFormat {
		return nil, damagedFile(t, full, "it is no manifest of a backup")
	}
	if m.Version > manifestVersion {
		return nil, fmt.Errorf("cannot read %s/%s: %w: format %d, this Kiln knows %d", t, full, ErrNewerFormat, m.Version, manifestVersion)
	}
	if m.ID != parts[1] || !m.isSound() {
		return nil, damagedFile(t, full, "the manifest contradicts itself")
	}
	return m, nil
}

// isSound checks what restoring relies on; the names lead nowhere else.
func (m *Manifest) isSound() bool {
	for _, f := range m.files() {
		if !fileName.MatchString(f.Name) || f.Bytes < 0 || len(f.SHA256) != 2*sha256.Size {
			return false
		}
	}
	next := m.Flushed + 1
	for i, f := range m.Log {
		if i == 0 && f.First > next || i > 0 && f.First != next || f.Last < f.First {
			return false
		}
		next = f.Last + 1
	}
	return m.Flushed <= m.LSN && next == m.LSN+1
}

var fileName = regexp.MustCompile(`^(runs|checkpoints|log)/[0-9A-Za-z][0-9A-Za-z.-]*$`)

// pick is the backup of an id, or of the beginning of one; the newest for "".
func (c *catalog) pick(id string) (*Manifest, error) {
	var found []*Manifest
	for _, m := range c.manifests {
		if strings.HasPrefix(m.ID, id) {
			found = append(found, m)
		}
	}
	switch {
	case len(found) > 0 && id == "" || len(found) == 1:
		return found[len(found)-1], nil
	case len(found) > 1:
		return nil, fmt.Errorf("cannot choose a backup in %s: %d begin with %q", c.target, len(found), id)
	case len(c.damaged) > 0:
		return nil, errors.Join(fmt.Errorf("cannot find backup %q in %s: %w", id, c.target, ErrNoBackup), errors.Join(c.damaged...))
	}
	return nil, fmt.Errorf("cannot find backup %q in %s: %w", id, c.target, ErrNoBackup)
}

// of is the newest backup of a store; nil: none.
func (c *catalog) of(storeID string) *Manifest {
	for _, m := range slices.Backward(c.manifests) {
		if m.StoreID == storeID {
			return m
		}
	}
	return nil
}

// known are the files that the manifests vouch for, by name.
func (c *catalog) known() map[string]File {
	files := map[string]File{}
	for _, m := range c.manifests {
		for _, f := range m.files() {
			files[f.Name] = f
		}
	}
	return files
}
