package bulk

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"path"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"golang.org/x/sync/errgroup"
)

// Limits of error files in blob storage.
const (
	// errorContainerDefault is the container that Microsoft's server uses.
	errorContainerDefault = "fhirlogs"
	// errorBlockBytes is one block: what a broken connection costs.
	errorBlockBytes = 4 << 20
	// errorBlocksMax is Azure's bound; blocks of longer files are longer.
	errorBlocksMax = 50_000
	// errorUploadsMax files of one job are stored at a time.
	errorUploadsMax = 8
	// errorBlockTimeout ends a request that storage lets hang: a block in that
	// time is 35 kB/s.
	errorBlockTimeout = 2 * time.Minute

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
			address, err := m.storeErrorFile(ctx, record, i, in[progressErrorBytes])
			if err != nil && ctx.Err() == nil {
				refused.Store(true)
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

// storeErrorFile copies one file and returns the blob's address.
func (m *Manager) storeErrorFile(ctx context.Context, record *importRecord, input int, bytes int64) (string, error) {
	files := newErrorFiles(m.opts.Store.FS(), m.opts.Store.Dir(), record.ID)
	file, err := files.fs.Open(path.Join(files.dir, errorFileName(record.ID, input, record.Request.Inputs[input].Type)))
	if err != nil {
		return "", err
	}
	container := record.Request.ErrorContainer
	if container == "" {
		container = errorContainerDefault
	}
	address, err := m.addresses.account.put(ctx, container, errorBlobName(record, input), file, bytes)
	return address, errors.Join(err, file.Close())
}

// put writes the first bytes of a file as a block blob: blocks that nobody
// sees, then one list that makes them the blob. The address has no SAS.
func (a *azureAccount) put(ctx context.Context, container, name string, file io.ReaderAt, bytes int64) (string, error) {
	client := a.client.NewContainerClient(container).NewBlockBlobClient(name)
	address := withoutSecrets(client.URL())
	block := max(errorBlockBytes, (bytes+errorBlocksMax-1)/errorBlocksMax)
	var blocks []string
	for from := int64(0); from < bytes; from += block {
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", len(blocks)))
		body := io.NewSectionReader(file, from, min(block, bytes-from))
		if err := a.stage(ctx, container, client, id, address, body); err != nil {
			return address, err
		}
		blocks = append(blocks, id)
	}
	return address, a.attempt(ctx, address, func(ctx context.Context) error {
		_, err := client.CommitBlockList(ctx, blocks, &blockblob.CommitBlockListOptions{
			HTTPHeaders: &blob.HTTPHeaders{BlobContentType: new(errorBlobType)},
		})
		return err
	})
}

// stage sends one block, and makes the container if that is what is missing.
func (a *azureAccount) stage(ctx context.Context, container string, client *blockblob.Client, id, address string, body io.ReadSeeker) error {
	return a.attempt(ctx, address, func(ctx context.Context) error {
		send := func() error {
			if _, err := body.Seek(0, io.SeekStart); err != nil {
				return err
			}
			_, err := client.StageBlock(ctx, id, streaming.NopCloser(body), nil)
			return err
		}
		err := send()
		if !bloberror.HasCode(err, bloberror.ContainerNotFound) {
			return err
		}
		_, err = a.client.NewContainerClient(container).Create(ctx, nil)
		if err != nil && !bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
			return err
		}
		return send()
	})
}

// attempt tries a writing request as often as reading ones are tried.
func (a *azureAccount) attempt(ctx context.Context, address string, try func(context.Context) error) error {
	return a.attempts(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, errorBlockTimeout)
		defer cancel()
		err := try(ctx)
		var response *azcore.ResponseError
		if errors.As(err, &response) && response.ErrorCode == string(bloberror.ContainerBeingDeleted) {
			return &storageBusy{refused: writeError(address, response.StatusCode)}
		}
		if err != nil {
			return storageError(address, err, writeError)
		}
		return nil
	})
}

func writeError(address string, status int) error {
	return &RequestError{Status: 500, Code: "exception", Text: address + ": the storage answered " + strconv.Itoa(status) + " " + http.StatusText(status)}
}
