package httpapi

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"kiln/internal/vfs"
)

// certificateBytesMax bounds each file; a chain has a few kilobytes, a bundle of
// many authorities some hundred.
const certificateBytesMax = 4 << 20

// CertificateOptions name the files that a server proves itself with. FS, CertFile,
// KeyFile and Now are required; Logger may be nil.
type CertificateOptions struct {
	FS       vfs.FS
	CertFile string // PEM: the server's certificate, then those that lead to a root
	KeyFile  string // PEM, not encrypted
	// ClientCAFile is PEM: whose certificates clients may show; "": none is asked for.
	ClientCAFile string
	// ClientsMay lets clients in that show no certificate. One that is shown must be
	// good in any case.
	ClientsMay bool
	Now        func() time.Time
	Logger     *slog.Logger
}

// Certificates are what connections are secured with. They are read again by Look,
// so that a new pair needs no restart; a bad one leaves the old in use.
type Certificates struct {
	opts     CertificateOptions
	current  atomic.Pointer[securing]
	reloads  atomic.Uint64
	failures atomic.Uint64

	mu   sync.Mutex
	read [3][]byte // what the files held at the last look; guarded by mu
}

// securing is one state of the files.
type securing struct {
	config   *tls.Config
	notAfter time.Time // of the first certificate
}

// NewCertificates reads the files.
func NewCertificates(opts CertificateOptions) (*Certificates, error) {
	if opts.FS == nil || opts.Now == nil || opts.CertFile == "" || opts.KeyFile == "" {
		return nil, errors.New("cannot secure connections without FS, Now, CertFile and KeyFile")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	c := &Certificates{opts: opts}
	var err error
	if c.read, err = c.files(); err != nil {
		return nil, err
	}
	next, err := c.securing(c.read)
	if err != nil {
		return nil, err
	}
	c.current.Store(next)
	return c, nil
}

// Look reads the files, and uses what they hold now when it is another thing and
// good. What is not good is told once in the log, and again by the metrics.
func (c *Certificates) Look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	read, err := c.files()
	if err == nil {
		if same(read, c.read) {
			return
		}
		c.read = read
		var next *securing
		if next, err = c.securing(read); err == nil {
			c.current.Store(next)
			c.reloads.Add(1)
			c.opts.Logger.Info("using the new TLS certificate", "file", c.opts.CertFile, "not_after", next.notAfter.UTC())
			return
		}
	} else if c.read[0] == nil { // the same trouble as at the last look
		return
	} else {
		c.read = [3][]byte{}
	}
	c.failures.Add(1)
	c.opts.Logger.Error("the new TLS files are not used: connections go on with the old ones", "error", err)
}

func same(a, b [3][]byte) bool {
	return bytes.Equal(a[0], b[0]) && bytes.Equal(a[1], b[1]) && bytes.Equal(a[2], b[2])
}

// files reads certificate, key and authorities. By content and not by time: what
// mounts secrets swaps links, and may keep times.
func (c *Certificates) files() (read [3][]byte, err error) {
	for i, name := range []string{c.opts.CertFile, c.opts.KeyFile, c.opts.ClientCAFile} {
		if name == "" {
			continue
		}
		if read[i], err = vfs.ReadFile(c.opts.FS, filepath.ToSlash(name), certificateBytesMax); err != nil {
			return read, fmt.Errorf("cannot read a TLS file: %w", err)
		}
	}
	return read, nil
}

// tls12Suites are those of TLS 1.2 with forward secrecy and authenticated
// encryption (RFC 9325 section 4.2); those of TLS 1.3 are all such.
func tls12Suites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

func (c *Certificates) securing(read [3][]byte) (*securing, error) {
	// The library's errors name no bytes of a key.
	pair, err := tls.X509KeyPair(read[0], read[1])
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate %q with the key %q: %w", c.opts.CertFile, c.opts.KeyFile, err)
	}
	if c.opts.Now().After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("cannot use the certificate %q: it ended on %s", c.opts.CertFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		CipherSuites: tls12Suites(),
		NextProtos:   []string{"http/1.1"},
		Time:         c.opts.Now,
	}
	if c.opts.ClientCAFile != "" {
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(read[2]) {
			return nil, fmt.Errorf("cannot use %q: it has no certificate in PEM form", c.opts.ClientCAFile)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
		if c.opts.ClientsMay {
			config.ClientAuth = tls.VerifyClientCertIfGiven
		}
		// A resumed session would go by the authorities of its first handshake.
		config.SessionTicketsDisabled = true
	}
	return &securing{config: config, notAfter: pair.Leaf.NotAfter}, nil
}

// config is what the next connection is secured with.
func (c *Certificates) config() *tls.Config { return c.current.Load().config }

func (c *Certificates) writeMetrics(w io.Writer) {
	metrics.WriteCounterUint64(w, "kiln_tls_reloads_total", c.reloads.Load())
	metrics.WriteCounterUint64(w, "kiln_tls_reload_failures_total", c.failures.Load())
	metrics.WriteGaugeFloat64(w, "kiln_tls_certificate_not_after_seconds", float64(c.current.Load().notAfter.Unix()))
}
