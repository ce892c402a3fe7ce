package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/hashicorp/go-retryablehttp"

	"kiln/internal/vfs"
)

const (
	// tokenBytesMax is more than servers take in a header.
	tokenBytesMax = 16 << 10
	// authoritiesBytesMax is that of a bundle of many authorities.
	authoritiesBytesMax = 4 << 20
)

// connectFlags are how a command trusts a server and says who it is. A token is
// never an argument: other users of the machine see those.
type connectFlags struct {
	CAFile     string `name:"ca-file" type:"existingfile" placeholder:"FILE" help:"PEM file with the authorities that the server's certificate may be from, instead of the system's."`
	ClientCert string `type:"existingfile" placeholder:"FILE" help:"PEM file with the certificate to show to the server (mutual TLS)."`
	ClientKey  string `type:"existingfile" placeholder:"FILE" help:"PEM file with the private key of --client-cert."`
	TokenFile  string `type:"existingfile" placeholder:"FILE" help:"File with the bearer token to send; it is read before each request, so that another program can renew it. It goes to the origin of --server only, and in clear text only to this machine."`
}

// client takes the FHIR base; an address without a path means its /fhir.
func (f *connectFlags) client(server string) (*client, error) {
	c, base, err := plainClient(server)
	if err != nil {
		return nil, err
	}
	if err := f.configure(c.http, base); err != nil {
		return nil, err
	}
	return c, nil
}

func (f *connectFlags) configure(retrying *retryablehttp.Client, base *url.URL) error {
	if (f.ClientCert == "") != (f.ClientKey == "") {
		return usageError("--client-cert and --client-key belong together: give both or none")
	}
	transport, ok := retrying.HTTPClient.Transport.(*http.Transport)
	if !ok {
		panic("BUG: the HTTP client has another transport")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	transport.TLSClientConfig = config
	if f.CAFile != "" {
		text, err := vfs.ReadFile(vfs.OS(), f.CAFile, authoritiesBytesMax)
		if err != nil {
			return fmt.Errorf("cannot read --ca-file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return usageError("--ca-file %s has no certificate in PEM form", f.CAFile)
		}
	}
	if f.ClientCert != "" {
		// Read for each connection: certificates are renewed while an export runs.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(f.ClientCert, f.ClientKey)
			if err != nil {
				return nil, &finalError{fmt.Errorf("cannot use --client-cert with --client-key: %w", err)}
			}
			return &pair, nil
		}
	}
	if f.TokenFile == "" {
		return nil
	}
	if base.Scheme != "https" && !isLoopback(base.String()) {
		return usageError("--token-file would send the token to %s in clear text: use an https:// address", base.Host)
	}
	if _, err := readToken(f.TokenFile); err != nil {
		return err
	}
	retrying.HTTPClient.Transport = &tokenSender{next: transport, file: f.TokenFile, scheme: base.Scheme, host: base.Host}
	return nil
}

// tokenSender adds the token to requests for one origin, and to no other, whatever
// redirects or manifests say.
type tokenSender struct {
	next         http.RoundTripper
	file         string
	scheme, host string
}

// RoundTrip sends one request.
func (s *tokenSender) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Scheme != s.scheme || request.URL.Host != s.host {
		return s.next.RoundTrip(request)
	}
	token, err := readToken(s.file)
	if err != nil {
		return nil, &finalError{err}
	}
	request = request.Clone(request.Context())
	request.Header.Set("Authorization", "Bearer "+token)
	return s.next.RoundTrip(request)
}

// readToken reads a token (RFC 6750 section 2.1). Its errors show nothing of it.
func readToken(name string) (string, error) {
	text, err := vfs.ReadFile(vfs.OS(), name, tokenBytesMax)
	if err != nil {
		return "", fmt.Errorf("cannot read --token-file: %w", err)
	}
	text = bytes.TrimSpace(text)
	for _, c := range text {
		if c <= ' ' || c >= 0x7f {
			return "", fmt.Errorf("cannot use --token-file %s: it must hold one token and nothing else", name)
		}
	}
	if len(text) == 0 {
		return "", fmt.Errorf("cannot use --token-file %s: it is empty", name)
	}
	return string(text), nil
}

// isOurFault finds errors of this side's files and of the server's certificate,
// which asking again does not change.
func isOurFault(err error) bool {
	var final *finalError
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &final) || errors.As(err, &untrusted)
}
