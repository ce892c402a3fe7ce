package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"kiln/httpapi/access"
)

// bearing are the proofs of a request with a token.
func bearing(token string) proofs {
	return proofs{headers: []string{"Bearer " + token}, base: testBase}
}

// known counts the tokens that need no check of their signature.
func (a *Authenticator) known() (n int) {
	for i := range a.proven.sets {
		for j := range a.proven.sets[i] {
			if a.proven.sets[i][j].Load() != nil {
				n++
			}
		}
	}
	return n
}

// issuerClaims are those of a good token of the test's issuer.
func issuerClaims(clock *testClock) map[string]any {
	return map[string]any{"iss": "https://i.example", "aud": "kiln", "sub": "s", "exp": clock.now().Add(time.Hour).Unix()}
}

// Who looks at the metrics sees how many signatures were checked.
func TestChecksAreCounted(t *testing.T) {
	clock := newTestClock()
	a, token := newTestAuthenticator(t, clock)
	f := func(text string, known, anew uint64) {
		t.Helper()
		_, _ = a.prove(context.Background(), a.current(), bearing(text))
		if gotKnown, gotAnew := a.Checks(); gotKnown != known || gotAnew != anew {
			t.Errorf("%d known and %d checked, want %d and %d", gotKnown, gotAnew, known, anew)
		}
	}
	good := token(issuerClaims(clock))
	f(good, 0, 1)
	f(good, 1, 1)
	f(good+"A", 1, 2)
	f(good, 2, 2)
	clock.pass(provenLifeMax)
	f(good, 2, 3)
}

// What the clock says of a token does not depend on whether it is known, to the
// nanosecond, in either direction.
func TestAKnownTokenEndsLikeAnyOther(t *testing.T) {
	clock := newTestClock()
	start := clock.now()
	known, token := newTestAuthenticator(t, clock)
	claims := issuerClaims(clock)
	claims["exp"], claims["nbf"], claims["iat"] = start.Add(10*time.Second).Unix(), start.Unix(), start.Add(-time.Second).Unix()
	text := token(claims)
	f := func(at time.Time, want string) {
		t.Helper()
		clock.at.Store(start.UnixNano())
		known.proven.clear()
		if _, err := known.prove(context.Background(), known.current(), bearing(text)); err != nil || known.known() != 1 {
			t.Fatalf("%v, %d known", err, known.known())
		}
		clock.at.Store(at.UnixNano())
		_, warm := known.prove(context.Background(), known.current(), bearing(text))
		known.proven.clear()
		_, cold := known.prove(context.Background(), known.current(), bearing(text))
		if fmt.Sprint(warm) != fmt.Sprint(cold) || want == "" != (cold == nil) || cold != nil && !strings.Contains(cold.Error(), want) {
			t.Errorf("%s: known %v, else %v; want %q", at.Sub(start), warm, cold, want)
		}
	}
	ends := start.Add(10*time.Second + skewDefault)
	f(ends.Add(-1), "")
	f(ends, "expired")
	f(ends.Add(time.Hour), "expired")
	f(start.Add(-skewDefault), "")
	f(start.Add(-skewDefault-1), "(nbf)")
	f(start.Add(-skewDefault-time.Second-1), "(nbf)")
}

// A signature is checked again after a while, and when the clock was set back.
func TestAKnownTokenIsCheckedAgain(t *testing.T) {
	clock := newTestClock()
	a, token := newTestAuthenticator(t, clock)
	text := token(issuerClaims(clock))
	sum := sha256.Sum256([]byte(text))
	var last *proven
	f := func(what string, pass time.Duration, again bool) {
		t.Helper()
		clock.pass(pass)
		if _, err := a.prove(context.Background(), a.current(), bearing(text)); err != nil {
			t.Fatal(err)
		}
		e := a.proven.find(&sum)
		if e == nil || (e != last) != again {
			t.Errorf("%s: checked again %v, want %v", what, e != last, again)
		}
		last = e
	}
	f("first", 0, true)
	f("again", 0, false)
	f("at the end", provenLifeMax-1, false)
	f("after that", 1, true)
	f("the clock goes back", -1, true)
}

// Keys that were taken out count no longer than for tokens that are not known.
func TestARotationForgetsTokens(t *testing.T) {
	clock := newTestClock()
	a, token := newTestAuthenticator(t, clock)
	i := a.current().issuers["https://i.example"]
	set, down := i.keys.(*keySet), false
	i.keys = &remoteKeys{name: "test", now: clock.now, logger: slog.New(slog.DiscardHandler), load: func(context.Context) (*keySet, time.Duration, error) {
		if down {
			return nil, 0, errors.New("away")
		}
		return set, 30 * time.Second, nil
	}}
	claims := issuerClaims(clock)
	claims["exp"] = clock.now().Add(100 * time.Hour).Unix()
	text := token(claims)
	f := func(what string, pass time.Duration, want string) {
		t.Helper()
		clock.pass(pass)
		_, err := a.prove(context.Background(), a.current(), bearing(text))
		if want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f("first", 0, "")
	good := set
	set = &keySet{}
	f("the issuer is not asked yet", 30*time.Second-1, "")
	f("the key is gone", 1, "No key")
	set = good
	f("it is back", 30*time.Second, "")
	down = true
	f("the issuer is away", keysStaleMax, "")
	f("for too long", time.Second, ErrKeysAway.Error())
}

// What this server knows of a client is what its file says now, also for tokens that it
// knows.
func TestAChangeOfTheFileForgetsTokens(t *testing.T) {
	b := newBackend(t, nil)
	_, answer := b.ask(b.good(nil), "system/*.rs", nil)
	use := bearing(answer["access_token"].(string))
	who, err := b.prove(context.Background(), b.current(), use)
	if err != nil || who.Roles != access.RoleExporter || b.known() != 1 {
		t.Fatalf("%+v %v, %d known", who, err, b.known())
	}
	b.write("clients: [{id: ec, scopes: system/*.rs, roles: Reader, keys-url: 'https://o.example/keys'}]")
	b.clock.pass(fileLookInterval)
	if who, err = b.prove(context.Background(), b.current(), use); err != nil || who.Roles != access.RoleReader {
		t.Errorf("other roles: %+v, %v", who, err)
	}
	elsewhere := use
	elsewhere.base = "https://other.example/fhir"
	if _, err = b.prove(context.Background(), b.current(), elsewhere); err == nil {
		t.Error("another server took a known token")
	}
	if _, err = b.prove(context.Background(), b.current(), use); err != nil {
		t.Errorf("as before: %v", err)
	}
	b.write("clients: [{id: other, scopes: system/*.rs, keys-url: 'https://o.example/keys'}]")
	b.clock.pass(fileLookInterval)
	if _, err = b.prove(context.Background(), b.current(), use); err == nil || b.known() != 0 {
		t.Errorf("the client is gone: %v, %d known", err, b.known())
	}
}

// A key of this server's own that is kept no longer takes its tokens with it.
func TestAnOwnKeyThatIsGone(t *testing.T) {
	b := newBackend(t, nil)
	_, answer := b.ask(b.good(nil), "system/*.rs", nil)
	use := bearing(answer["access_token"].(string))
	if _, err := b.prove(context.Background(), b.current(), use); err != nil {
		t.Fatal(err)
	}
	before, _ := b.signing.keysFor(context.Background(), "")
	if again, _ := b.signing.keysFor(context.Background(), ""); again != before {
		t.Error("the keys are others each time: no token is known for long")
	}
	b.signing.mu.Lock()
	b.signing.keys = nil
	b.signing.mu.Unlock()
	b.signing.public.Store(nil)
	if _, err := b.prove(context.Background(), b.current(), use); err == nil {
		t.Error("a token of a key that is gone was taken")
	}
}

// Whoever stole a bound token cannot use it because its owner just did.
func TestAKnownTokenIsHeldToItsCertificate(t *testing.T) {
	clock := newTestClock()
	a, token := newTestAuthenticator(t, clock)
	mine, other := &x509.Certificate{Raw: []byte("mine")}, &x509.Certificate{Raw: []byte("other")}
	sum := sha256.Sum256(mine.Raw)
	claims := issuerClaims(clock)
	f := func(cnf any, certificate *x509.Certificate, want string) {
		t.Helper()
		claims["cnf"] = cnf
		p := bearing(token(claims))
		for range 2 {
			p.certificate = mine
			_, _ = a.prove(context.Background(), a.current(), p) // its owner is here before
			p.certificate = certificate
			_, err := a.prove(context.Background(), a.current(), p)
			if want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %v, want %q", cnf, err, want)
			}
		}
	}
	bound := map[string]any{"x5t#S256": encode(sum[:])}
	f(bound, mine, "")
	f(bound, other, "another client certificate")
	f(bound, nil, "the connection has none")
	f(map[string]any{"jkt": "x"}, mine, "cannot check")
	f(map[string]any{"x5t#S256": encode(sum[:]), "jkt": "x"}, mine, "cannot check")
	f(map[string]any{"x5t#S256": 1}, mine, "cannot check")
	f(map[string]any{"x5t#S256": ""}, mine, "cannot check")
	f(map[string]any{}, mine, "cannot check")
}

// Nothing that is like a known token is taken for it, and nothing refused is kept.
func TestNothingPassesForAKnownToken(t *testing.T) {
	clock := newTestClock()
	a, token := newTestAuthenticator(t, clock)
	text := token(issuerClaims(clock))
	if _, err := a.prove(context.Background(), a.current(), bearing(text)); err != nil {
		t.Fatal(err)
	}
	refused := func(what, other string) {
		t.Helper()
		for range 2 {
			if who, err := a.prove(context.Background(), a.current(), bearing(other)); err == nil {
				t.Errorf("%s: %+v", what, who)
			}
		}
	}
	for i := range text {
		for _, c := range []byte("Aw.") {
			if text[i] != c {
				refused(fmt.Sprintf("byte %d", i), text[:i]+string(c)+text[i+1:])
			}
		}
	}
	refused("a byte less", text[:len(text)-1])
	refused("a byte more", text+"A")
	refused("padded", text+"=")
	claims := issuerClaims(clock)
	claims["sub"] = "other"
	parts, others := strings.Split(text, "."), strings.Split(token(claims), ".")
	refused("another's claims", parts[0]+"."+others[1]+"."+parts[2])
	claims["exp"] = clock.now().Add(-time.Hour).Unix()
	refused("expired", token(claims))
	claims = issuerClaims(clock)
	claims["aud"] = "other"
	refused("for another", token(claims))
	if who, err := a.prove(context.Background(), a.current(), bearing(text)); err != nil || who.Subject != "s" || a.known() != 1 {
		t.Errorf("%+v, %v, %d known", who, err, a.known())
	}
}

func TestKnownTokensAreBounded(t *testing.T) {
	clock := newTestClock()
	a, token := newTestAuthenticator(t, clock)
	text := token(issuerClaims(clock))
	sum := sha256.Sum256([]byte(text))
	if _, err := a.prove(context.Background(), a.current(), bearing(text)); err != nil {
		t.Fatal(err)
	}
	e := a.proven.find(&sum)
	for i := range uint64(10 * provenSets * provenWays) {
		clock.pass(1)
		one := *e
		one.made = clock.now()
		binary.LittleEndian.PutUint64(one.sum[8:], i)
		binary.LittleEndian.PutUint64(one.sum[:], i*0x9e3779b97f4a7c15)
		a.proven.keep(&one)
		if got := a.proven.find(&one.sum); got != &one {
			t.Fatalf("token %d is not known: %v", i, got)
		}
	}
	if n := a.known(); n > provenSets*provenWays || n < provenSets*provenWays*9/10 {
		t.Errorf("%d tokens are known", n)
	}
	if a.proven.find(&sum) != nil {
		t.Error("the oldest is still there")
	}
	claims := issuerClaims(clock)
	claims["scope"] = strings.Repeat("system/Observation.rs ", 200)
	large := token(claims)
	if who, err := a.prove(context.Background(), a.current(), bearing(large)); err != nil || len(who.Scopes) != 200 {
		t.Errorf("%v", err)
	}
	if sum = sha256.Sum256([]byte(large)); a.proven.find(&sum) != nil {
		t.Error("a token that takes a lot of memory is kept")
	}
}

// Those who come with one token at the same time share one check, unless what they are
// to be checked against is not the same.
func TestCheckingATokenIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := newTestClock()
		a, token := newTestAuthenticator(t, clock)
		text := token(issuerClaims(clock))
		sum := sha256.Sum256([]byte(text))
		e, err := a.checkToken(context.Background(), a.current(), text, sum, testBase)
		if err != nil {
			t.Fatal(err)
		}
		f := func(what string, shared *proven, same bool) {
			t.Helper()
			a.proven.clear()
			release := make(chan struct{})
			go a.proven.flights.Do(string(sum[:]), func() (any, error) { <-release; return shared, nil })
			synctest.Wait()
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					if who, err := a.prove(context.Background(), a.current(), bearing(text)); err != nil || who.Subject != "s" || (who == shared.who) != same {
						t.Errorf("%s: %+v, %v", what, who, err)
					}
				})
			}
			synctest.Wait()
			close(release)
			all.Wait()
		}
		f("the same", e, true)
		for _, change := range []func(*proven){
			func(e *proven) { e.under = &config{} }, func(e *proven) { e.base = "x" }, func(e *proven) { e.set = &keySet{} },
		} {
			other := *e
			other.who = &access.Principal{Subject: "other"}
			change(&other)
			f("another", &other, false)
		}
	})
}

// TestTokensAreProvenByMany has readers, a file that changes and tokens that push each
// other out at the same time; it is for the race detector.
func TestTokensAreProvenByMany(t *testing.T) {
	b := newBackend(t, nil)
	var tokens []string
	for range 8 {
		_, answer := b.ask(b.good(nil), "system/*.rs", nil)
		tokens = append(tokens, answer["access_token"].(string))
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 200 {
				if _, err := b.prove(context.Background(), b.current(), bearing(tokens[(i+j)%len(tokens)])); err != nil {
					t.Error(err)
				}
				if j%20 == i {
					b.clock.pass(fileLookInterval / 8)
				}
				if j%50 == i {
					b.proven.clear()
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkProve is what a request's token costs: with its signature, and known.
func BenchmarkProve(b *testing.B) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	for alg, key := range map[jose.SignatureAlgorithm]crypto.Signer{jose.ES256: ec, jose.RS256: long} {
		clock := newTestClock()
		a, _ := newTestAuthenticator(b, clock)
		a.current().issuers["https://i.example"].keys = &keySet{keys: []jose.JSONWebKey{{Key: key.Public()}}}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
		if err != nil {
			b.Fatal(err)
		}
		claims := issuerClaims(clock)
		claims["scope"], claims["roles"] = "system/*.rs", []string{"r"}
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			b.Fatal(err)
		}
		for _, known := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/known=%v", alg, known), func(b *testing.B) {
				b.ReportAllocs()
				sum := sha256.Sum256([]byte(text))
				for b.Loop() {
					if _, err := a.prove(context.Background(), a.current(), bearing(text)); err != nil {
						b.Fatal(err)
					}
					if !known {
						for i := range a.proven.setOf(&sum) {
							a.proven.setOf(&sum)[i].Store(nil)
						}
					}
				}
			})
		}
	}
}
