package bulk

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"kiln/internal/npmtest"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
)

// The account that every Azurite has; its key is public.
const (
	azuriteAccount = "devstoreaccount1"
	azuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
	azuriteDir     = "testdata/azurite"
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
	npmtest.Install(t, azuriteDir)
	cmd := exec.Command("node", "start.js", "--blobHost", "127.0.0.1", "--blobPort", "0",
		"--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent")
	cmd.Dir, cmd.Stderr = azuriteDir, os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	a := &azurite{t: t, url: azuriteAddress(t, stdout) + "/" + azuriteAccount}
	credential, err := service.NewSharedKeyCredential(azuriteAccount, azuriteKey)
	if err != nil {
		t.Fatal(err)
	}
	if a.client, err = service.NewClientWithSharedKeyCredential(a.url, credential, nil); err != nil {
		t.Fatal(err)
	}
	return a
}

// azuriteAddress reads the free port from what Azurite says when it listens.
func azuriteAddress(t *testing.T, stdout io.Reader) string {
	t.Helper()
	listens := regexp.MustCompile(`listens on (http://127\.0\.0\.1:[0-9]+)`)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if found := listens.FindStringSubmatch(lines.Text()); found != nil {
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return found[1]
		}
	}
	t.Fatalf("Azurite ended without listening: %v", lines.Err())
	return ""
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

func (a *azurite) connectionString() string {
	return fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;BlobEndpoint=%s;", azuriteAccount, azuriteKey, a.url)
}
