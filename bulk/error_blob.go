package bulk

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Limits of error files in blob storage.
const (
	// errorContainerDefault is the container that Microsoft's server uses.
	errorContainerDefault = "fhirlogs"
	// errorUploadsMax files of one job are stored at a time.
	errorUploadsMax = 8

	errorBlobType = "application/fhir+ndjson"
)

// errorBlobName is `{type}{job}-{registration}_{number of the input}.ndjson`.
// Servers share accounts, and each counts its jobs from 1: the registration,
// which is of its time and content, keeps one from writing over another's file.
func errorBlobName(r *importRecord, input int) string {
	registration := crc32.Checksum([]byte(r.Hash+r.Created.Format(time.RFC3339Nano)), crc32.MakeTable(crc32.Castagnoli))
	return fmt.Sprintf("%s%d-%08x_%d.ndjson", r.Request.Inputs[input].Type, r.ID, registration, input+1)
}

// storeErrors copies the error files of inputs that are blobs into the
// account, whole, each under one name however often that is done. It returns
// the addresses by input number. The local files stay the truth: a file that
// storage does not take is served from here, and the log and a counter say so.
// The error is that of a context that ended.
func (m *Manager) storeErrors(ctx context.Context, j *importJob, record *importRecord) (map[int]string, error) {
	if !j.prepared || m.addresses.account == nil {
		return nil, nil
	}
	addresses := make([]string, len(j.published.Inputs))
	var group errgroup.Group
	group.SetLimit(errorUploadsMax)
	var refused atomic.Bool // by then the account is not asked to take the others
	for i, in := range j.published.Inputs {
		u, err := parseInputURL(record.Request.Inputs[i].URL)
		if in[progressErrorBytes] == 0 || err != nil || !m.addresses.account.holds(u) {
			continue
		}
		j.storing.Store(true)
		group.Go(func() error {
			if refused.Load() || ctx.Err() != nil {
				return ctx.Err()
			}
			address, err := m.storeErrorFile(ctx, record, i, in[progressErrorBytes], j.published.Sums[i])
			if err != nil && ctx.Err() == nil {
				if !m.opts.Store.NoteDamage(err) {
					refused.Store(true)
				}
				m.counters.errorFilesKept.Add(1)
				m.logger.Error("cannot store an error file in the blob account, it is served from here", "import", j.id, "blob", address, "error", err)
				return nil
			}
			addresses[i] = address
			return ctx.Err()
		})
	}
	err := group.Wait()
	stored := make(map[int]string)
	for i, address := range addresses {
		if address != "" {
			stored[i] = address
			m.counters.errorFilesStored.Add(1)
		}
	}
	return stored, err
}

// storeErrorFile copies one file, which must be what was written, and returns the
// blob's address.
func (m *Manager) storeErrorFile(ctx context.Context, record *importRecord, input int, bytes int64, sums []byte) (string, error) {
	files := newErrorFiles(m.opts.Store.FS(), m.opts.Store.Dir(), record.ID)
	name := path.Join(files.dir, errorFileName(record.ID, input, record.Request.Inputs[input].Type))
	file, err := files.fs.Open(name)
	if err != nil {
		return "", err
	}
	if err := (&checkedFile{name: name, from: file, bytes: bytes, sums: sums}).verify(ctx); err != nil {
		return "", errors.Join(err, file.Close())
	}
	container := record.Request.ErrorContainer
	if container == "" {
		container = errorContainerDefault
	}
	blob := m.addresses.account.blockBlob(container, errorBlobName(record, input), writeError)
	return blob.address, errors.Join(blob.put(ctx, file, bytes, errorBlobType), file.Close())
}
