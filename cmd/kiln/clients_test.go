package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

const clientsDir = "testdata/clients"

// clientSteps are what each client does, in order; needs names the feature that
// a step waits for.
var clientSteps = []struct{ name, needs string }{
	{"metadata", ""},
	{"create", ""},
	{"update", ""},
	{"delete", ""},
	{"history", ""},
	{"bulk export", ""},
	{"patch", ""},
	{"transaction", ""},
	{"conditional create", ""},
	{"search by id", ""},
}

// TestClientsOfOthersWork runs FHIR clients from npm against the binary.
func TestClientsOfOthersWork(t *testing.T) {
	t.Parallel()
	installClients(t)
	for _, client := range []string{"fhir-kit-client", "@medplum/core"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			s := serve(t, t.TempDir())
			failures := runClient(t, s.base, client)
			for _, step := range clientSteps {
				t.Run(step.name, func(t *testing.T) {
					if step.needs != "" {
						t.Skipf("pending: needs %s", step.needs)
					}
					failure, ran := failures[step.name]
					if !ran || failure != "" {
						t.Errorf("%s: ran: %v; %s\nserver's log:\n%s", step.name, ran, failure, s.log)
					}
				})
			}
		})
	}
}

// runClient makes every step that waits for nothing and returns what went
// wrong in each.
func runClient(t *testing.T, base, client string) map[string]string {
	t.Helper()
	args := []string{"clients.mjs", base, client}
	for _, step := range clientSteps {
		if step.needs == "" {
			args = append(args, step.name)
		}
	}
	cmd := exec.Command("node", args...)
	cmd.Dir = clientsDir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %v: %v\n%s", args, err, stderr.Bytes())
	}
	failures := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		result := decode[struct{ Step, Error string }](t, slices.Clone(lines.Bytes()))
		failures[result.Step] = result.Error
	}
	return failures
}

// installClients installs the clients as the lock file says, unless they are
// there.
func installClients(t *testing.T) {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("npm is not there, and the clients come with it")
	}
	lock, err := os.Stat(filepath.Join(clientsDir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	// npm writes this file when everything is in place.
	done, err := os.Stat(filepath.Join(clientsDir, "node_modules", ".package-lock.json"))
	if err == nil && !done.ModTime().Before(lock.ModTime()) {
		return
	}
	cmd := exec.Command(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = clientsDir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}
