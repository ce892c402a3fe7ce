package auth

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/sync/singleflight"

	"kiln/httpapi/access"
)

// proven is a token that was good, without its text: what it says, and what that was
// checked against. What may be another thing for the next request (the clock, the
// certificate of its connection) is not in it but checked for each of them.
type proven struct {
	sum  [sha256.Size]byte // of the whole token
	made time.Time
	// under is what the file said: issuers, audiences, roles, clients, skew.
	under *config
	base  string // of a token of this server: the address that it is for; "": another's
	// set is that of the keys that had the signature's key. The source gives another
	// one when it has asked again, and a key that was withdrawn is not in that.
	keys         keySource
	set          *keySet
	kid          string
	times        jwt.Claims // exp, nbf and iat, nothing else
	confirmation confirmation
	who          *access.Principal // shared by requests, so nobody changes it
}

// counts compares with the clock and the connection, which every request does.
func (e *proven) counts(now time.Time, certificate *x509.Certificate) error {
	if err := checkTimes(&e.times, now, e.under.skew); err != nil {
		return err
	}
	return e.confirmation.check(certificate)
}

// isOf tells whether the token was checked against what there is now.
func (e *proven) isOf(c *config, base string, now time.Time) bool {
	return e.under == c && (e.base == "" || e.base == base) && !now.Before(e.made) && now.Sub(e.made) < provenLifeMax
}

// bytes is about what the entry holds in memory: its texts are copies.
func (e *proven) bytes() int {
	who := e.who
	n := int(unsafe.Sizeof(*e)+unsafe.Sizeof(*who)) + len(e.base) + len(e.kid) + len(e.confirmation.certificate) +
		len(who.Issuer) + len(who.Subject) + len(who.Client) + len(who.Name) + len(who.FHIRUser) + len(who.Patient)
	for i := range who.Scopes {
		n += int(unsafe.Sizeof(who.Scopes[i])) + len(who.Scopes[i].Text) + len(who.Scopes[i].Filter)
	}
	return n
}

// provenTokens are the tokens that were good a moment ago, so that the next request
// with one costs a hash and not a signature. What a hash leads to:
//
//	set 0     [ token | token | token | token ]
//	...
//	set 1023  [ token | token | token | token ]
//
// Readers take no lock. A token that finds its set full takes the place of the one that
// was checked first, which is checked again when it comes: whoever makes tokens that meet
// in a set gains no more than that. What was refused is not kept. The zero value is ready.
type provenTokens struct {
	sets    [provenSets][provenWays]atomic.Pointer[proven]
	flights singleflight.Group
	hits    atomic.Uint64 // tokens that were known
	misses  atomic.Uint64 // those whose signature was checked, or that were refused before
}

// Checks tells how many tokens were known from before, and how many had to be checked
// anew, bad ones included.
func (a *Authenticator) Checks() (known, anew uint64) {
	return a.proven.hits.Load(), a.proven.misses.Load()
}

func (t *provenTokens) setOf(sum *[sha256.Size]byte) *[provenWays]atomic.Pointer[proven] {
	return &t.sets[binary.LittleEndian.Uint64(sum[:])%provenSets]
}

// find gives what is known of a token; nil: nothing.
func (t *provenTokens) find(sum *[sha256.Size]byte) *proven {
	set := t.setOf(sum)
	for i := range set {
		if e := set[i].Load(); e != nil && e.sum == *sum {
			return e
		}
	}
	return nil
}

// keep takes a token in. Of two that race for a place one is not kept.
func (t *provenTokens) keep(e *proven) {
	if e.bytes() > provenBytesMax {
		return
	}
	set := t.setOf(&e.sum)
	at, oldest := 0, e.made
	for i := range set {
		old := set[i].Load()
		if old == nil || old.sum == e.sum || old.under != e.under {
			at = i
			break
		}
		if old.made.Before(oldest) {
			at, oldest = i, old.made
		}
	}
	set[at].Store(e)
}

// clear forgets all tokens.
func (t *provenTokens) clear() {
	for i := range t.sets {
		for j := range t.sets[i] {
			t.sets[i][j].Store(nil)
		}
	}
}

// proveToken checks a token, whoever issued it.
func (a *Authenticator) proveToken(ctx context.Context, c *config, text string, p *proofs) (*access.Principal, error) {
	sum, now := sha256.Sum256([]byte(text)), a.opts.Now()
	if e := a.proven.find(&sum); e != nil && e.isOf(c, p.base, now) {
		set, err := e.keys.keysFor(ctx, e.kid)
		if err != nil {
			return nil, err
		}
		if set == e.set {
			if err := e.counts(now, p.certificate); err != nil {
				return nil, err
			}
			a.proven.hits.Add(1)
			return e.who, nil
		}
	}
	a.proven.misses.Add(1)
	e, err := a.checkToken(ctx, c, text, sum, p.base)
	if err != nil {
		return nil, err
	}
	if err := e.counts(a.opts.Now(), p.certificate); err != nil {
		return nil, err
	}
	a.proven.keep(e)
	return e.who, nil
}

// checkToken reads a token and checks its signature. Those who come with the same token
// meanwhile share the work, where they would do the same.
func (a *Authenticator) checkToken(ctx context.Context, c *config, text string, sum [sha256.Size]byte, base string) (*proven, error) {
	token, err := takeApart(text)
	if err != nil {
		return nil, err
	}
	from, isOwn := c.issuers[token.issuer], false
	if from == nil && len(c.clients) > 0 && token.issuer == base {
		from, isOwn = a.own(base), true
	}
	if from == nil {
		return nil, invalidToken("The token is from an issuer (iss) that this server does not know.")
	}
	if token.jku != "" && token.jku != from.keysURL {
		return nil, invalidToken("The token names keys (jku) that are not its issuer's.")
	}
	set, err := token.keysIn(ctx, from.keys, from.algorithms)
	if err != nil {
		return nil, err
	}
	e := &proven{sum: sum, made: a.opts.Now(), under: c, keys: from.keys, set: set, kid: token.kid}
	if isOwn {
		e.base = base
	}
	shared, err, _ := a.proven.flights.Do(string(sum[:]), func() (any, error) { return e, e.fill(token, from) })
	if other := shared.(*proven); other.under == e.under && other.base == e.base && other.set == e.set {
		return other, err
	}
	return e, e.fill(token, from)
}

// fill checks the token's signature and takes over what its claims say.
func (e *proven) fill(token *unverified, from *issuer) error {
	var registered jwt.Claims
	var claims tokenClaims
	var all map[string]any
	if err := token.verifyBy(e.set, &registered, &claims, &all); err != nil {
		return err
	}
	err := checkAudience(&registered, from.audiences)
	if err != nil {
		return err
	}
	e.times = jwt.Claims{Expiry: registered.Expiry, NotBefore: registered.NotBefore, IssuedAt: registered.IssuedAt}
	e.confirmation = claims.confirmation()
	if e.who, err = from.principal(&registered, &claims, all); err != nil {
		return err
	}
	for i := range e.who.Scopes { // parts of one text, most of which may be other words
		one := &e.who.Scopes[i]
		one.Text, one.Filter = strings.Clone(one.Text), strings.Clone(one.Filter)
	}
	if e.base != "" {
		e.who, err = e.under.asClient(e.who)
	}
	return err
}
