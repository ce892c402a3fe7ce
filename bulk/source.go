package bulk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"kiln/internal/vfs"
)

// source is one input as it is stored (compressed or not).
type source interface {
	// bytes is the stored length; -1 when the server does not tell.
	bytes() int64
	// etag is compared with the request's; "" when there is none.
	etag() string
	// stream reads from an offset to the end. It reads ahead on its own.
	stream(ctx context.Context, from int64) (io.ReadCloser, error)
	io.Closer
}

// Texts of a job that fails because of an input.
const (
	textEtag         = "Input file Etag not match. %s"
	textUnauthorized = "Due to unauthorized request, import processing operation failed."
	textGone         = "Input file deleted, renamed, or moved during job. Import processing operation failed."
)

// openSource opens a file or asks a server for size and ETag. Errors that are
// the input's are *RequestError.
func (m *Manager) openSource(ctx context.Context, address string) (source, error) {
	u, err := parseInputURL(address)
	if err != nil {
		return nil, invalidParameter("input.url")
	}
	if m.addresses.account.holds(u) {
		return m.addresses.account.open(ctx, address)
	}
	if isHTTP(u) {
		return m.client.open(ctx, address)
	}
	root, name, err := m.addresses.resolve(u.Path)
	if err != nil {
		return nil, badRequest(textOutsideRoots, address)
	}
	return openFile(root, name, address)
}

// fileSource is a local file. Its length and time of change stand for an ETag,
// so that a file which another took the place of is not gone on with.
type fileSource struct {
	file     vfs.File
	size     int64
	modified int64
}

func openFile(root, name, address string) (source, error) {
	file, info, err := vfs.OpenBelow(root, name)
	if err != nil {
		return nil, fileError(address, err)
	}
	return &fileSource{file: file, size: info.Bytes, modified: info.Modified}, nil
}

func fileError(address string, err error) error {
	if errors.Is(err, vfs.ErrNotRegular) {
		return &RequestError{Status: 400, Code: "invalid", Text: fmt.Sprintf("%s is not a regular file", address)}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &RequestError{Status: 404, Code: "not-found", Text: fmt.Sprintf("%s does not exist", address)}
	}
	if errors.Is(err, fs.ErrPermission) {
		return &RequestError{Status: 403, Code: "forbidden", Text: fmt.Sprintf("%s may not be read by this server", address)}
	}
	return fmt.Errorf("cannot open input %q: %w", address, err)
}

func (s *fileSource) bytes() int64 { return s.size }
func (s *fileSource) etag() string { return fmt.Sprintf(`"%x-%x"`, s.size, s.modified) }
func (s *fileSource) Close() error { return s.file.Close() }

// stream needs no read-ahead: the kernel does that.
func (s *fileSource) stream(_ context.Context, from int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.file, from, s.size-from)), nil
}
