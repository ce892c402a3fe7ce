package backup

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"kiln/internal/vfs/sealed"
)

// sealedSuffix ends the names of encrypted files in a target. Manifests are plain: they
// hold names, lengths, hashes and instants, so that backups can be listed.
const sealedSuffix = ".sealed"

// sealedTarget keeps files encrypted in another target. Names, lengths and hashes are
// those of the content. Plain files of backups that were made before are read as they
// are, and count as there.
type sealedTarget struct {
	Target
	keys *sealed.Keys
}

// keysOf are those of a target; nil: it encrypts nothing.
func keysOf(t Target) *sealed.Keys {
	if s, ok := t.(*sealedTarget); ok {
		return s.keys
	}
	return nil
}

// isPlainName tells what is kept under its own name.
func isPlainName(name string) bool {
	return path.Dir(name) == manifestsFolder || isTemp(name) || !fileName.MatchString(name)
}

func (t *sealedTarget) List(ctx context.Context, folder string) (map[string]int64, error) {
	stored, err := t.Target.List(ctx, folder)
	if err != nil || folder == manifestsFolder {
		return stored, err
	}
	files := make(map[string]int64, len(stored))
	for name, bytes := range stored {
		content, isSealed := strings.CutSuffix(name, sealedSuffix)
		if _, both := stored[name+sealedSuffix]; both {
			continue // the encrypted one counts
		}
		if isSealed {
			bytes = sealed.ContentBytes(bytes)
		}
		files[content] = bytes
	}
	return files, nil
}

func (t *sealedTarget) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if isPlainName(name) {
		return t.Target.Open(ctx, name)
	}
	file, err := t.Target.Open(ctx, name+sealedSuffix)
	if isMissing(err) {
		return t.Target.Open(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	return &openedFile{Reader: sealed.NewOpening(file, t.String()+"/"+name+sealedSuffix, t.keys), Closer: file}, nil
}

type openedFile struct {
	io.Reader
	io.Closer
}

func (t *sealedTarget) Put(ctx context.Context, name string, from io.Reader) error {
	if isPlainName(name) {
		return t.Target.Put(ctx, name, from)
	}
	return t.Target.Put(ctx, name+sealedSuffix, sealed.NewSealing(from, t.keys))
}

func (t *sealedTarget) Remove(ctx context.Context, name string) error {
	if !isPlainName(name) {
		if err := t.Target.Remove(ctx, name+sealedSuffix); err != nil {
			return err
		}
	}
	return t.Target.Remove(ctx, name)
}

// readable is an error when a backup is encrypted and the target has no key.
func (m *Manifest) readable(t Target) error {
	if len(m.Keys) == 0 || keysOf(t) != nil {
		return nil
	}
	return fmt.Errorf("cannot read backup %s in %s: %w: key %s", m.ID, t, sealed.ErrKey, strings.Join(m.Keys, " "))
}
