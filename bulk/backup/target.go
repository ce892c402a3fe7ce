package backup

import (
	"context"
	"errors"
	"io"
	"net/url"
	"path/filepath"

	"kiln/bulk"
	"kiln/internal/vfs"
	"kiln/internal/vfs/sealed"
)

// Target is where backups are kept. Names are slash-separated, below it.
type Target interface {
	// String is the target as its operator knows it, without secrets.
	String() string
	// List gives the files of a folder by base name, with their lengths. A missing
	// folder is empty.
	List(ctx context.Context, folder string) (map[string]int64, error)
	// Open reads a file from its start. fs.ErrNotExist.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// Put writes a file, or replaces it: on nil it is there whole and durable, on
	// an error, or when the process ends, it is not there, or as it was, or whole.
	Put(ctx context.Context, name string, from io.Reader) error
	// Remove removes a file, durable on return; a missing one is no error.
	Remove(ctx context.Context, name string) error
	// Lock keeps other backups and prunings out. The context ends when the lock is
	// lost. ErrBusy.
	Lock(ctx context.Context) (context.Context, func() error, error)
}

// ErrBusy: another backup or pruning works on the target.
var ErrBusy = errors.New("another backup or pruning is at work there")

// OpenTarget takes a directory's path, or the http(s) address of a blob container
// or a folder in one. Where fsys encrypts, so does the target.
func OpenTarget(fsys vfs.FS, target string, azure bulk.AzureOptions) (Target, error) {
	keys := sealed.KeysOf(fsys)
	if keys == nil {
		return openTarget(fsys, target, azure)
	}
	t, err := openTarget(sealed.Inner(fsys), target, azure)
	if err != nil {
		return nil, err
	}
	return &sealedTarget{Target: t, keys: keys}, nil
}

func openTarget(fsys vfs.FS, target string, azure bulk.AzureOptions) (Target, error) {
	if IsBlobAddress(target) {
		folder, err := bulk.OpenBlobFolder(target, azure)
		if err != nil {
			return nil, err
		}
		return &blobTarget{folder: folder}, nil
	}
	return NewDirTarget(fsys, filepath.ToSlash(target)), nil
}

// IsBlobAddress tells an address from a path.
func IsBlobAddress(target string) bool {
	u, err := url.Parse(target)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
