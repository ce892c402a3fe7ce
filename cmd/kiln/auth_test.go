package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kiln/internal/npmtest"
)

const joseDir = "testdata/jose"

// TestAClientWithSignedJWTs has the npm library jose make keys, get a token with them
// and fetch an export, by keys in the file and both algorithms.
func TestAClientWithSignedJWTs(t *testing.T) {
	t.Parallel()
	npmtest.Install(t, joseDir)
	data, dir := filepath.Join(t.TempDir(), "data"), t.TempDir()
	write(t, dir, "p.ndjson", patients(3, "x"))
	mustKiln(t, 0, "load", "--data-dir", data, dir)
	type keys struct{ JWKS, JWK json.RawMessage }
	made, text := map[string]keys{}, "clients:\n"
	for _, alg := range []string{"RS384", "ES384"} {
		made[alg] = decode[keys](t, runJose(t, nil, "keys", alg))
		text += "- {id: tool-" + alg + ", name: Tool, scopes: system/*.rs, keys: " + string(made[alg].JWKS) + "}\n"
	}
	auth := filepath.Join(dir, "auth.yaml")
	write(t, dir, "auth.yaml", text)
	s := serve(t, data, "--auth", auth)
	for alg, key := range made {
		input, err := json.Marshal(map[string]any{"jwk": key.JWK, "alg": alg, "client": "tool-" + alg})
		if err != nil {
			t.Fatal(err)
		}
		got := decode[struct {
			Token, Assertion, Scope string
			Refused                 int
			Lines                   []string
		}](t, runJose(t, input, "export", s.base))
		if got.Refused != http.StatusUnauthorized || got.Scope != "system/*.rs" || len(got.Lines) != 3 {
			t.Errorf("%s: %+v", alg, got)
		}
		for _, secret := range []string{got.Token, got.Assertion} {
			if part := secret[strings.LastIndexByte(secret, '.')+1:]; len(part) < 40 || strings.Contains(s.log.String(), part) {
				t.Errorf("%s: the log has a token: %s", alg, s.log)
			}
		}
	}
}

func runJose(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("node", append([]string{"backend.mjs"}, args...)...)
	cmd.Dir, cmd.Stdin = joseDir, bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %v: %v\n%s", args, err, stderr.Bytes())
	}
	return out
}

func TestAnAuthFileThatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "auth.yaml", "issuers:\n- url: https://a.example\n  audience: x\n")
	r := kiln(t, "serve", "--data-dir", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--auth", filepath.Join(dir, "auth.yaml"))
	if r.code != exitFailed || !strings.Contains(r.err, "auth.yaml: line 3: field audience not found (no such key)") {
		t.Errorf("exit code %d, stderr %s", r.code, r.err)
	}
}
