package npmtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// The account that every Azurite has; its key is public.
const (
	AzuriteAccount = "devstoreaccount1"
	AzuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// StartAzurite installs Azurite as dir's lock file says, unless it is there, and runs it
// in memory until the test ends. It gives the address of the account.
func StartAzurite(t *testing.T, dir string) string {
	t.Helper()
	Install(t, dir)
	cmd := exec.Command("node", "start.js", "--blobHost", "127.0.0.1", "--blobPort", "0",
		"--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
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
	return azuriteAddress(t, stdout) + "/" + AzuriteAccount
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

// AzuriteConnection is the connection string of the account at an address.
func AzuriteConnection(address string) string {
	return fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=%s;AccountKey=%s;BlobEndpoint=%s;", AzuriteAccount, AzuriteKey, address)
}
