package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"kiln/engine"
	"kiln/httpapi/access"
	"kiln/internal/vfs"
)

// Options are explicit; all but Logger are required.
type Options struct {
	FS vfs.FS
	// File is the path of the YAML file that says who may come in. A change of it
	// counts within fileLookInterval; one that cannot be read changes nothing, and
	// is logged.
	File string
	// Store keeps, in its catalog, the keys that sign access tokens and the
	// assertions that were used.
	Store *engine.Store
	// BaseURL is the FHIR base as clients know it, without a slash at the end: the
	// issuer and audience of this server's tokens. "": the address that a connection
	// came in at, never what the client calls the host.
	BaseURL string
	Now     func() time.Time
	Logger  *slog.Logger // nil: slog.Default()
}

// Authenticator proves who makes requests.
type Authenticator struct {
	opts    Options
	fetcher *fetcher
	signing *signingKeys
	replays *replays
	config  atomic.Pointer[config]
	proven  provenTokens

	mu     sync.Mutex        // guards what follows
	looked time.Time         // at the file
	sum    [sha256.Size]byte // of what was read last
	bad    error             // why that does not count; nil: it does
	// trouble is what was logged about the file last; "": nothing is wrong.
	trouble string
}

// New reads the file.
func New(opts Options) (*Authenticator, error) {
	if opts.FS == nil || opts.File == "" || opts.Store == nil || opts.Now == nil {
		return nil, errors.New("cannot authenticate without FS, File, Store and Now")
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	a := &Authenticator{opts: opts, fetcher: newFetcher(), looked: opts.Now()}
	var err error
	if a.signing, err = storedSigningKeys(opts.Store, opts.Now, opts.Logger); err != nil {
		return nil, err
	}
	if a.replays, err = storedReplays(opts.Store); err != nil {
		return nil, err
	}
	text, err := a.read()
	if err != nil {
		return nil, err
	}
	if err := a.take(text); err != nil {
		return nil, err
	}
	a.sum = sha256.Sum256(text)
	return a, nil
}

func (a *Authenticator) read() ([]byte, error) {
	text, err := vfs.ReadFile(a.opts.FS, a.opts.File, fileBytesMax)
	if err != nil {
		return nil, fmt.Errorf("cannot read who may come in: %w", err)
	}
	return text, nil
}

// take makes text what counts. Keys that were fetched already are kept.
func (a *Authenticator) take(text []byte) error {
	next, err := parseConfig(text)
	if err != nil {
		return fmt.Errorf("%s: %w", a.opts.File, err)
	}
	a.inherit(next, a.config.Load())
	a.config.Store(next)
	a.proven.clear() // nothing in it counts any more
	return nil
}

// inherit gives issuers and clients their key sources: those that they had before, if
// they are the same. before may be nil.
func (a *Authenticator) inherit(next, before *config) {
	if before == nil {
		before = &config{}
	}
	for _, i := range next.issuers {
		if old := before.issuers[i.url]; old != nil && old.keysURL == i.keysURL {
			i.keys, i.found = old.keys, old.found
			continue
		}
		i.found = new(atomic.Pointer[discovery])
		i.keys = &remoteKeys{name: i.url, load: i.loadKeys(a.fetcher), now: a.opts.Now, logger: a.opts.Logger}
	}
	for _, c := range next.clients {
		if c.keysURL == "" {
			continue
		}
		if old := before.clients[c.id]; old != nil && old.keysURL == c.keysURL {
			c.keys = old.keys
			continue
		}
		c.keys = &remoteKeys{name: c.id, load: c.loadKeys(a.fetcher), now: a.opts.Now, logger: a.opts.Logger}
	}
}

// current is what the file says. It is read again, at most once each
// fileLookInterval: a file of some kilobytes costs less than being wrong about
// times of changes. Nobody waits for a disk that hangs but who reads.
func (a *Authenticator) current() *config {
	if a.mu.TryLock() {
		defer a.mu.Unlock()
		if since := a.opts.Now().Sub(a.looked); since < 0 || since >= fileLookInterval {
			a.look()
		}
	}
	return a.config.Load()
}

// look reads the file again. A failure is logged once. mu is held.
func (a *Authenticator) look() {
	a.looked = a.opts.Now()
	text, err := a.read()
	if err == nil {
		if sum := sha256.Sum256(text); sum != a.sum {
			a.sum, a.bad = sum, a.take(text)
			if a.bad == nil {
				a.opts.Logger.Info("who may come in was read again", "file", a.opts.File)
			}
		}
		err = a.bad
	}
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	if trouble != "" && trouble != a.trouble {
		a.opts.Logger.Error("who may come in could not be read again; what was read before goes on to count", "error", err)
	}
	a.trouble = trouble
}

// proofs are what a request has to show.
type proofs struct {
	headers     []string          // Authorization, as often as it is there
	certificate *x509.Certificate // that the TLS layer verified; nil: none
	base        string            // only where there are clients with tokens of this server
}

func (a *Authenticator) proofsOf(ctx *fasthttp.RequestCtx, c *config) proofs {
	var p proofs
	if len(c.clients) > 0 {
		p.base = a.Base(ctx)
	}
	for _, value := range ctx.Request.Header.PeekAll("Authorization") {
		p.headers = append(p.headers, string(value))
	}
	if state := ctx.TLSConnectionState(); state != nil && len(state.VerifiedChains) > 0 {
		p.certificate = state.PeerCertificates[0]
	}
	return p
}

// Authenticate says who makes a request; nil without an error: it shows no proof.
// Refusals are an *access.CredentialsError; ErrKeysAway is nobody's fault here.
func (a *Authenticator) Authenticate(ctx *fasthttp.RequestCtx) (*access.Principal, error) {
	c := a.current()
	return a.prove(ctx, c, a.proofsOf(ctx, c))
}

// Base is the FHIR base as this server's tokens have it.
func (a *Authenticator) Base(ctx *fasthttp.RequestCtx) string {
	if a.opts.BaseURL != "" {
		return a.opts.BaseURL
	}
	scheme := "http://"
	if ctx.IsTLS() {
		scheme = "https://"
	}
	return scheme + ctx.LocalAddr().String() + "/fhir"
}

// prove takes the token, if there is one, and the certificate otherwise.
func (a *Authenticator) prove(ctx context.Context, c *config, p proofs) (*access.Principal, error) {
	token, err := bearerToken(p.headers)
	switch {
	case err != nil:
		return nil, err
	case token != "":
		return a.proveToken(ctx, c, token, &p)
	case p.certificate != nil:
		return c.proveCertificate(p.certificate)
	default:
		return nil, nil
	}
}
