package bulk

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
)

// Limits of what is written to blob storage.
const (
	// blobBlockBytes is one block: what a broken connection costs.
	blobBlockBytes = 4 << 20
	// blobBlocksMax is Azure's bound; blocks of longer files are longer.
	blobBlocksMax = 50_000
	// blobWriteTimeout ends a request that storage lets hang: a block in that
	// time is 35 kB/s.
	blobWriteTimeout = 2 * time.Minute
)

// blockBlob is a blob that is written as blocks that nobody sees, then one list
// that makes them the blob.
type blockBlob struct {
	account   *azureAccount
	container string
	client    *blockblob.Client
	address   string                                 // without SAS
	refused   func(address string, status int) error // words an answer of the storage
}

func (a *azureAccount) blockBlob(container, name string, refused func(address string, status int) error) *blockBlob {
	client := a.client.NewContainerClient(container).NewBlockBlobClient(name)
	return &blockBlob{account: a, container: container, client: client, address: withoutSecrets(client.URL()), refused: refused}
}

// put writes the first bytes of a file.
func (b *blockBlob) put(ctx context.Context, file io.ReaderAt, bytes int64, contentType string) error {
	block := max(blobBlockBytes, (bytes+blobBlocksMax-1)/blobBlocksMax)
	var ids []string
	for from := int64(0); from < bytes; from += block {
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", len(ids)))
		if err := b.stage(ctx, id, file, from, min(block, bytes-from)); err != nil {
			return err
		}
		ids = append(ids, id)
	}
	return b.commit(ctx, ids, contentType)
}

// stage sends one block, and makes the container if that is what is missing. Each
// attempt has a reader of its own: a request that broke may still read from its.
func (b *blockBlob) stage(ctx context.Context, id string, file io.ReaderAt, from, bytes int64) error {
	return b.account.attempt(ctx, b.address, b.refused, func(ctx context.Context) error {
		send := func() error {
			body := streaming.NopCloser(io.NewSectionReader(file, from, bytes))
			_, err := b.client.StageBlock(ctx, id, body, nil)
			return err
		}
		err := send()
		if !bloberror.HasCode(err, bloberror.ContainerNotFound) {
			return err
		}
		if err := b.account.makeContainer(ctx, b.container); err != nil {
			return err
		}
		return send()
	})
}

// makeContainer makes a container that may be there already.
func (a *azureAccount) makeContainer(ctx context.Context, name string) error {
	_, err := a.client.NewContainerClient(name).Create(ctx, nil)
	if err != nil && !bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
		return err
	}
	return nil
}

// commit makes staged blocks the blob.
func (b *blockBlob) commit(ctx context.Context, ids []string, contentType string) error {
	return b.account.attempt(ctx, b.address, b.refused, func(ctx context.Context) error {
		_, err := b.client.CommitBlockList(ctx, ids, &blockblob.CommitBlockListOptions{
			HTTPHeaders: &blob.HTTPHeaders{BlobContentType: new(contentType)},
		})
		return err
	})
}

// attempt tries a writing request as often as reading ones are tried.
func (a *azureAccount) attempt(ctx context.Context, address string, refused func(address string, status int) error, try func(context.Context) error) error {
	return a.attempts(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, blobWriteTimeout)
		defer cancel()
		err := try(ctx)
		var response *azcore.ResponseError
		if errors.As(err, &response) && response.ErrorCode == string(bloberror.ContainerBeingDeleted) {
			return &storageBusy{refused: refused(address, response.StatusCode)}
		}
		if err != nil {
			return storageError(address, err, refused)
		}
		return nil
	})
}

func writeError(address string, status int) error {
	return &RequestError{Status: 500, Code: "exception", Text: address + ": the storage answered " + strconv.Itoa(status) + " " + http.StatusText(status)}
}
