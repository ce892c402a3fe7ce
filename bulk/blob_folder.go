package bulk

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/lease"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

const (
	// folderSendsMax blocks of a file are sent at a time: 16 MiB are in memory.
	folderSendsMax = 4
	// folderLeaseSeconds is the longest lease that ends by itself when its holder dies.
	folderLeaseSeconds = 60
	// folderRenewal leaves time for two more attempts before a lease ends.
	folderRenewal = folderLeaseSeconds * time.Second / 4
)

// BlobFolder is the blobs of a container whose names begin alike. Backups are kept there.
type BlobFolder struct {
	account   *azureAccount
	container string
	prefix    string // "" or with a slash at the end
	address   string // of the folder, without a signature
}

// OpenBlobFolder takes the address of a container or of a folder in one. Without a
// connection string and an account's address, the account is the address's host.
// Nothing is asked of the network yet.
func OpenBlobFolder(address string, o AzureOptions) (*BlobFolder, error) {
	u, err := url.Parse(address)
	if err != nil || !isHTTP(u) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("cannot use %s: want https://ACCOUNT.blob.core.windows.net/CONTAINER/FOLDER; a signature is given by --azure-sas", withoutSecrets(address))
	}
	if o.ConnectionString == "" && o.AccountURL == "" {
		o.AccountURL = u.Scheme + "://" + u.Host
	}
	account, err := newAzureAccount(o, Options{}.network())
	if err != nil {
		return nil, err
	}
	if !account.holds(u) {
		return nil, fmt.Errorf("cannot use %s: it is not of the storage account that is given", address)
	}
	name, prefix, _ := strings.Cut(strings.Trim(strings.TrimPrefix(u.Path, account.path), "/"), "/")
	if name == "" || checkContainer(name) != nil || strings.Contains("/"+prefix+"/", "/../") || strings.Contains("/"+prefix+"/", "/./") || strings.Contains(prefix, "//") {
		return nil, fmt.Errorf("cannot use %s: want a container's name, and maybe a folder's, behind the account's address", address)
	}
	f := &BlobFolder{account: account, container: name, prefix: prefix, address: strings.TrimRight(u.String(), "/")}
	if f.prefix != "" {
		f.prefix += "/"
	}
	return f, nil
}

func (f *BlobFolder) String() string { return f.address }

// at is the address of a file.
func (f *BlobFolder) at(name string) string { return f.address + "/" + name }

func (f *BlobFolder) attempt(ctx context.Context, address string, try func(context.Context) error) error {
	return blobFailure(ctx, address, f.account.attempt(ctx, address, folderError, try))
}

// folderError words an answer of the storage.
func folderError(address string, status int) error {
	e := &RequestError{Status: 500, Code: "exception", Input: address, Text: address + ": the storage account answered " + strconv.Itoa(status) + " " + http.StatusText(status)}
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		e.Text += "; the credential must be valid, and allowed to list, read and write the container's blobs, and to delete them where backups are pruned"
	}
	return e
}

// List gives the files whose names begin with folder/, by the rest of their names,
// with their lengths. A missing container is empty.
func (f *BlobFolder) List(ctx context.Context, folder string) (map[string]int64, error) {
	prefix := f.prefix + folder + "/"
	files := map[string]int64{}
	pages := f.account.client.NewContainerClient(f.container).NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix})
	for pages.More() {
		var page container.ListBlobsFlatResponse
		err := f.attempt(ctx, f.address, func(ctx context.Context) (err error) {
			page, err = pages.NextPage(ctx)
			if bloberror.HasCode(err, bloberror.ContainerNotFound) {
				page.Segment = nil
				return nil
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if page.Segment == nil {
			return files, nil
		}
		for _, item := range page.Segment.BlobItems {
			if item.Name == nil || item.Properties == nil || item.Properties.ContentLength == nil {
				return nil, fmt.Errorf("%s: the storage lists a blob without its name or length", f.address)
			}
			files[strings.TrimPrefix(*item.Name, prefix)] = *item.Properties.ContentLength
		}
	}
	return files, nil
}

// Open reads a file from its start, in ranges. fs.ErrNotExist.
func (f *BlobFolder) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	s := &azureSource{account: f.account, client: f.account.client.NewContainerClient(f.container).NewBlobClient(f.prefix + name), address: f.at(name)}
	missing := false
	err := f.attempt(ctx, s.address, func(ctx context.Context) error {
		properties, err := s.client.GetProperties(ctx, nil)
		var response *azcore.ResponseError
		if missing = errors.As(err, &response) && response.StatusCode == http.StatusNotFound; missing {
			return nil
		}
		if err == nil && (properties.ContentLength == nil || properties.ETag == nil) {
			return &RequestError{Status: 500, Code: "exception", Text: s.address + ": the storage tells no length or no ETag"}
		}
		if err == nil {
			s.size, s.tag = *properties.ContentLength, *properties.ETag
		}
		return err
	})
	switch {
	case missing:
		return nil, fmt.Errorf("cannot open %s: %w", s.address, fs.ErrNotExist)
	case err != nil:
		return nil, err
	}
	return s.stream(ctx, 0)
}

// Put writes a file, or replaces it. Its blocks are seen by nobody until one list
// makes them the blob.
func (f *BlobFolder) Put(ctx context.Context, name string, from io.Reader) error {
	b := f.account.blockBlob(f.container, f.prefix+name, folderError)
	nonce := uuid.New() // a late block of another writer is not taken for one of this
	sends, sending := errgroup.WithContext(ctx)
	sends.SetLimit(folderSendsMax)
	var ids []string
	var err error
	for last := false; !last && err == nil && sending.Err() == nil; {
		block := make([]byte, blobBlockBytes)
		n, readErr := io.ReadFull(from, block)
		last = readErr == io.EOF || readErr == io.ErrUnexpectedEOF
		if readErr != nil && !last {
			err = readErr
			break
		}
		if n == 0 {
			break
		}
		id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%x%08d", nonce[:8], len(ids)))
		ids = append(ids, id)
		sends.Go(func() error { return b.stage(sending, id, bytes.NewReader(block[:n]), 0, int64(n)) })
	}
	if sendErr := sends.Wait(); err == nil {
		err = sendErr
	}
	if err == nil {
		err = b.commit(ctx, ids, "application/octet-stream")
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", b.address, blobFailure(ctx, b.address, err))
	}
	return nil
}

// Remove removes a file; a missing one is no error.
func (f *BlobFolder) Remove(ctx context.Context, name string) error {
	return f.attempt(ctx, f.at(name), func(ctx context.Context) error {
		_, err := f.account.client.NewContainerClient(f.container).NewBlobClient(f.prefix+name).Delete(ctx, nil)
		if bloberror.HasCode(err, bloberror.BlobNotFound, bloberror.ContainerNotFound) {
			return nil
		}
		return err
	})
}

// ErrLeased: somebody else holds the lease.
var ErrLeased = errors.New("somebody else holds the lease")

// Lease takes the lease of a blob, making it when it is missing, and renews it until
// release. The context that it gives ends when the lease could not be renewed in
// time. ErrLeased.
func (f *BlobFolder) Lease(ctx context.Context, name string) (context.Context, func() error, error) {
	client := f.account.client.NewContainerClient(f.container).NewBlockBlobClient(f.prefix + name)
	holder, err := lease.NewBlobClient(client, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a lease: %w", err)
	}
	leased := false
	err = f.attempt(ctx, f.at(name), func(ctx context.Context) error {
		if err := f.touch(ctx, client); err != nil {
			return err
		}
		_, err := holder.AcquireLease(ctx, folderLeaseSeconds, nil)
		leased = bloberror.HasCode(err, bloberror.LeaseAlreadyPresent)
		if leased {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if leased {
		return nil, nil, fmt.Errorf("cannot lease %s: %w", f.at(name), ErrLeased)
	}
	held, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.renew(held, cancel, holder, name)
	}()
	return held, func() error {
		cancel(context.Canceled)
		<-ended
		// A lease that cannot be given back ends by itself.
		return f.attempt(context.WithoutCancel(ctx), f.at(name), func(ctx context.Context) error {
			_, err := holder.ReleaseLease(ctx, nil)
			return err
		})
	}, nil
}

// touch makes an empty blob where there is none.
func (f *BlobFolder) touch(ctx context.Context, client *blockblob.Client) error {
	_, err := client.GetProperties(ctx, nil)
	var response *azcore.ResponseError
	if err == nil || !errors.As(err, &response) || response.StatusCode != http.StatusNotFound {
		return err
	}
	if err := f.account.makeContainer(ctx, f.container); err != nil {
		return err
	}
	any := azcore.ETagAny
	_, err = client.UploadBuffer(ctx, nil, &blockblob.UploadBufferOptions{
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: &any}},
	})
	if bloberror.HasCode(err, bloberror.BlobAlreadyExists, bloberror.ConditionNotMet, bloberror.LeaseIDMissing) {
		return nil
	}
	return err
}

// renew keeps the lease until the context ends. One that was not renewed in time is lost.
func (f *BlobFolder) renew(ctx context.Context, lost context.CancelCauseFunc, holder *lease.BlobClient, name string) {
	ticker := time.NewTicker(folderRenewal)
	defer ticker.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		attempt, cancel := context.WithTimeout(ctx, folderRenewal)
		_, err := holder.RenewLease(attempt, nil)
		cancel()
		if err == nil {
			failures = 0
			continue
		}
		if failures++; failures == 2 || bloberror.HasCode(err, bloberror.LeaseIDMismatchWithLeaseOperation, bloberror.LeaseNotPresentWithLeaseOperation, bloberror.LeaseLost) {
			lost(fmt.Errorf("the lease of %s is lost", f.at(name)))
			return
		}
	}
}
