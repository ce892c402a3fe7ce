package bulk

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"kiln/internal/npmtest"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
)

const (
	azuriteKey = npmtest.AzuriteKey
	azuriteDir = "testdata/azurite"
)

// azurite is a running blob service.
type azurite struct {
	t      *testing.T
	url    string // of the account
	client *service.Client
}

// startAzurite installs Azurite as the lock file says, unless it is there, and
// runs it in memory until the test ends.
func startAzurite(t *testing.T) *azurite {
	t.Helper()
	a := &azurite{t: t, url: npmtest.StartAzurite(t, azuriteDir)}
	credential, err := service.NewSharedKeyCredential(npmtest.AzuriteAccount, azuriteKey)
	if err != nil {
		t.Fatal(err)
	}
	if a.client, err = service.NewClientWithSharedKeyCredential(a.url, credential, nil); err != nil {
		t.Fatal(err)
	}
	return a
}

// container makes a container with a name of its own.
func (a *azurite) container(name string) *azuriteContainer {
	a.t.Helper()
	c := &azuriteContainer{azurite: a, client: a.client.NewContainerClient(name)}
	if _, err := c.client.Create(context.Background(), nil); err != nil {
		a.t.Fatal(err)
	}
	return c
}

type azuriteContainer struct {
	*azurite
	client *container.Client
}

// put writes a blob and returns its address and ETag.
func (c *azuriteContainer) put(name string, data []byte) (address, etag string) {
	c.t.Helper()
	blob := c.client.NewBlockBlobClient(name)
	answer, err := blob.UploadBuffer(context.Background(), data, &blockblob.UploadBufferOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return c.client.URL() + "/" + (&url.URL{Path: name}).EscapedPath(), string(*answer.ETag)
}

// sas signs reading for the whole account.
func (a *azurite) sas() string {
	a.t.Helper()
	signed, err := a.client.GetSASURL(sas.AccountResourceTypes{Object: true, Container: true, Service: true},
		sas.AccountPermissions{Read: true, List: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		a.t.Fatal(err)
	}
	_, query, _ := strings.Cut(signed, "?")
	return query
}

func (a *azurite) connectionString() string { return npmtest.AzuriteConnection(a.url) }
