package backup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"kiln/bulk"
)

// blobTarget is a container of a storage account, or a folder in one.
type blobTarget struct {
	folder *bulk.BlobFolder
}

func (t *blobTarget) String() string { return t.folder.String() }

func (t *blobTarget) List(ctx context.Context, folder string) (map[string]int64, error) {
	return t.folder.List(ctx, folder)
}

func (t *blobTarget) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return t.folder.Open(ctx, name)
}

func (t *blobTarget) Put(ctx context.Context, name string, from io.Reader) error {
	return t.folder.Put(ctx, name, from)
}

func (t *blobTarget) Remove(ctx context.Context, name string) error {
	return t.folder.Remove(ctx, name)
}

func (t *blobTarget) Lock(ctx context.Context) (context.Context, func() error, error) {
	held, release, err := t.folder.Lease(ctx, lockName)
	if errors.Is(err, bulk.ErrLeased) {
		return nil, nil, fmt.Errorf("cannot use %s: %w; the lock of a process that died lasts a minute", t, ErrBusy)
	}
	return held, release, err
}
