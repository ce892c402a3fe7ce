package httpapi

import (
	"crypto/x509"
	"time"

	"github.com/valyala/fasthttp"
)

// clientProof is what a client's certificate proved in the handshake, and how long
// that counts: connections stay open for longer than authorities are trusted.
type clientProof struct {
	peers []*x509.Certificate // the client's first; empty: it showed none
	by    *securing           // whose authorities it was checked against last
	until time.Time           // when the first certificate of its chain ends
}

// isTrusted checks the certificate again when the authorities are others than those
// it was checked against, and when it ends.
func (c *countedTLS) isTrusted(now time.Time) bool {
	p, current := &c.proof, c.listener.secures.current.Load()
	if p.by == nil {
		state := c.ConnectionState()
		p.peers, p.by = state.PeerCertificates, c.secured
		p.lasts(state.VerifiedChains)
	}
	switch {
	case len(p.peers) == 0:
		return true
	case p.by == current:
		return !now.After(p.until)
	}
	between := x509.NewCertPool()
	for _, peer := range p.peers[1:] {
		between.AddCert(peer)
	}
	chains, err := p.peers[0].Verify(x509.VerifyOptions{
		Roots: current.config.ClientCAs, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return false
	}
	p.by = current
	p.lasts(chains)
	return true
}

// lasts takes the end of the chain that lasts longest.
func (p *clientProof) lasts(chains [][]*x509.Certificate) {
	p.until = time.Time{}
	for _, chain := range chains {
		end := chain[0].NotAfter
		for _, one := range chain {
			if one.NotAfter.Before(end) {
				end = one.NotAfter
			}
		}
		if end.After(p.until) {
			p.until = end
		}
	}
}

// checkCertificate refuses requests of a client whose certificate does not count any
// more. It may connect again, and then the handshake decides.
func (x *exchange) checkCertificate() error {
	conn, isTLS := x.ctx.Conn().(*countedTLS)
	if !isTLS || conn.isTrusted(x.now()) {
		return nil
	}
	x.ctx.SetConnectionClose()
	x.ctx.Response.Header.Set("WWW-Authenticate", authRealm)
	return &problem{fasthttp.StatusUnauthorized, codeLogin, "The certificate that this connection was opened with does not count any more; connect again with another."}
}
