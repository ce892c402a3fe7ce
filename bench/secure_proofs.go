package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/valyala/fasthttp"
)

const (
	// manyTokens are more than a server knows at a time, so each is checked in full.
	manyTokens = 3 * 4096

	// proofsLife is how long tokens and certificates count: longer than any run.
	proofsLife = 24 * time.Hour

	// auditHere stands for a directory of the server's own.
	auditHere = "AUDIT"
)

// secureWay is a server's flags, and how clients come to it.
type secureWay struct {
	name     string
	flags    []string
	tls      *tls.Config // nil: plain HTTP
	token    func() string
	fresh    bool // each request has a connection of its own
	creating bool // durable creates are measured too
}

// proving adds to a client's requests what the server wants to see.
func (w *secureWay) proving(c client) client {
	next := c.next
	c.next = func(r *mathrand.Rand, request *fasthttp.Request) {
		next(r, request)
		if w.token != nil {
			request.Header.Set("Authorization", "Bearer "+w.token())
		}
		if w.fresh {
			request.SetConnectionClose()
		}
	}
	return c
}

// proofs are an authority with certificates, and an issuer with tokens.
type proofs struct {
	trusted             *tls.Config // of clients that show nothing
	shown               *tls.Config // of clients with a certificate
	cert, key, ca, file string      // files of the server: its pair, the authority, --auth
	es256, rs256        string
	es256s              []string
	issuer              *http.Server
}

// ways are what is compared, the open server first.
func (p *proofs) ways() []secureWay {
	secure := []string{"--tls-cert", p.cert, "--tls-key", p.key}
	mutual := append(secure[:4:4], "--tls-client-ca", p.ca, "--auth", p.file)
	auth, audit, limits := []string{"--auth", p.file}, []string{"--audit-dir", auditHere}, []string{"--client-rate", "1000000", "--client-burst", "1000000"}
	all := append(append(mutual[:8:8], audit...), limits...)
	resuming := p.trusted.Clone()
	resuming.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	one := func(token string) func() string { return func() string { return token } }
	var next atomic.Uint64
	another := func() string { return p.es256s[next.Add(1)%uint64(len(p.es256s))] }
	return []secureWay{
		{name: "open, plain HTTP", creating: true},
		{name: "limits of clients", flags: limits, creating: true},
		{name: "audit", flags: audit, creating: true},
		{name: "one ES256 token", flags: auth, token: one(p.es256), creating: true},
		{name: "one RS256 token", flags: auth, token: one(p.rs256), creating: true},
		{name: "another ES256 token each time", flags: auth, token: another},
		{name: "TLS", flags: secure, tls: p.trusted, creating: true},
		{name: "mTLS, roles by certificate", flags: mutual, tls: p.shown, creating: true},
		{name: "all: mTLS, one ES256 token, audit, limits", flags: all, tls: p.shown, token: one(p.es256), creating: true},
		{name: "open, a connection each", fresh: true},
		{name: "TLS, a full handshake each", flags: secure, tls: p.trusted, fresh: true},
		{name: "TLS, a resumed handshake each", flags: secure, tls: resuming, fresh: true},
		{name: "mTLS, a full handshake each", flags: mutual, tls: p.shown, fresh: true},
	}
}

// makeProofs makes keys, certificates and tokens, and starts an issuer of keys.
func makeProofs(dir string) (*proofs, error) {
	p := &proofs{cert: filepath.Join(dir, "server.crt"), key: filepath.Join(dir, "server.key"), ca: filepath.Join(dir, "ca.crt"), file: filepath.Join(dir, "auth.yaml")}
	if err := p.makeCertificates(); err != nil {
		return nil, fmt.Errorf("cannot make certificates: %w", err)
	}
	if err := p.makeTokens(); err != nil {
		return nil, fmt.Errorf("cannot make tokens: %w", err)
	}
	return p, nil
}

func (p *proofs) close() { _ = p.issuer.Close() }

// pair is a certificate with its key.
type pair struct {
	der []byte
	key *ecdsa.PrivateKey
}

// issue makes a certificate (P-256) that by signs; nil: itself.
func issue(template *x509.Certificate, by *pair) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(proofsLife)
	parent, signer := template, key
	if by != nil {
		if parent, err = x509.ParseCertificate(by.der); err != nil {
			return nil, err
		}
		signer = by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	return &pair{der, key}, err
}

func (p *proofs) makeCertificates() error {
	authority, err := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "bench authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	if err != nil {
		return err
	}
	server, err := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, authority)
	if err != nil {
		return err
	}
	client, err := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "bench"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, authority)
	if err != nil {
		return err
	}
	root, err := x509.ParseCertificate(authority.der)
	if err != nil {
		return err
	}
	p.trusted = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}
	p.trusted.RootCAs.AddCert(root)
	p.shown = p.trusted.Clone()
	p.shown.Certificates = []tls.Certificate{{Certificate: [][]byte{client.der}, PrivateKey: client.key}}
	secret, err := x509.MarshalPKCS8PrivateKey(server.key)
	return errors.Join(err, writePEM(p.cert, "CERTIFICATE", server.der), writePEM(p.key, "PRIVATE KEY", secret), writePEM(p.ca, "CERTIFICATE", authority.der))
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// makeTokens also serves the keys, and writes the file that trusts their issuer.
func (p *proofs) makeTokens() error {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ec.Public(), KeyID: "e"}, {Key: long.Public(), KeyID: "r"}}})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.issuer = &http.Server{ReadHeaderTimeout: requestTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(keys) // a server that has gone asks again
	})}
	go func() { _ = p.issuer.Serve(listener) }() // until it is closed
	url := "http://" + listener.Addr().String()
	if p.rs256, err = token(url, jose.RS256, long, "r", 0); err != nil {
		return err
	}
	for i := range manyTokens {
		text, err := token(url, jose.ES256, ec, "e", i)
		if err != nil {
			return err
		}
		p.es256s = append(p.es256s, text)
	}
	p.es256 = p.es256s[0]
	text := "issuers:\n- {url: '" + url + "', keys-url: '" + url + "/keys', audiences: [bench], roles: {bench: Contributor}}\n" +
		"certificates:\n- {subject: CN=bench, roles: Contributor}\n"
	return os.WriteFile(p.file, []byte(text), 0o600)
}

// token is as large as those of the issuers of sites.
func token(issuer string, alg jose.SignatureAlgorithm, key crypto.Signer, kid string, n int) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return "", err
	}
	now := time.Now()
	return jwt.Signed(signer).Claims(map[string]any{
		"iss": issuer, "aud": "bench", "sub": "bench", "client_id": "bench", "jti": strconv.Itoa(n), "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(proofsLife).Unix(),
		"roles": []string{"bench"}, "tid": "b6c14d4e-7f57-4f4e-8f0c-5a51c2a9d111", "oid": "f1c3b0a2-58a1-4bd0-9a0b-0c2f6f0f8a22", "ver": "2.0",
	}).Serialize()
}
