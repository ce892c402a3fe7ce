package main

import (
	"bufio"
	"bytes"
	"os/exec"
	"slices"
	"testing"

	"kiln/internal/npmtest"
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
	{"bulk export of patients", ""},
	{"patch", ""},
	{"transaction", ""},
	{"conditional create", ""},
	{"search by id", ""},
}

// TestClientsOfOthersWork runs FHIR clients from npm against the binary.
func TestClientsOfOthersWork(t *testing.T) {
	t.Parallel()
	npmtest.Install(t, clientsDir)
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
