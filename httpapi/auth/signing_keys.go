package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"kiln/engine"
)

// signingKeysName is where the store's catalog has the keys that sign this
// server's access tokens.
const signingKeysName = "auth-signing-keys"

// signingKeys sign this server's access tokens, with ES256. The newest signs; those
// before it check tokens that they signed.
type signingKeys struct {
	store  *engine.Store
	now    func() time.Time
	logger *slog.Logger

	public atomic.Pointer[publicKeys] // nil: not made since keys changed

	mu   sync.Mutex
	keys []signingKey // the newest last; guarded by mu
}

// publicKeys are the public halves of the keys whose tokens may still count, until one
// of them is kept no longer.
type publicKeys struct {
	set   keySet
	until time.Time // zero: for ever
}

// signingKey is one key as the catalog has it.
type signingKey struct {
	Created int64           `json:"created"` // seconds of Unix time
	Key     jose.JSONWebKey `json:"key"`     // private
}

// storedSigningKeys reads the store's keys, and makes one if there is none.
func storedSigningKeys(store *engine.Store, now func() time.Time, logger *slog.Logger) (*signingKeys, error) {
	s := &signingKeys{store: store, now: now, logger: logger}
	text, err := store.CatalogGet(signingKeysName)
	if err != nil && !errors.Is(err, engine.ErrNotFound) {
		return nil, fmt.Errorf("cannot read the keys that sign access tokens: %w", err)
	}
	if err == nil {
		if err := json.Unmarshal(text, &s.keys); err != nil {
			return nil, fmt.Errorf("cannot read the keys that sign access tokens: %w", err)
		}
		for _, one := range s.keys {
			if _, ok := one.Key.Key.(*ecdsa.PrivateKey); !ok {
				return nil, errors.New("cannot read the keys that sign access tokens: one is no EC key")
			}
		}
	}
	return s, nil
}

// signer is the newest key, made anew when it is due.
func (s *signingKeys) signer() (jose.JSONWebKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if n := len(s.keys); n > 0 {
		if age := now.Sub(time.Unix(s.keys[n-1].Created, 0)); age < signingKeyAge && age > -skewMax {
			return s.keys[n-1].Key, nil
		}
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("cannot make a key for access tokens: %w", err)
	}
	made := signingKey{now.Unix(), jose.JSONWebKey{Key: private, KeyID: rand.Text(), Algorithm: string(jose.ES256), Use: "sig"}}
	// A key's last token was signed when the next key was made.
	keep := s.keys[max(0, len(s.keys)-1):]
	s.keys = append(slices.Clone(keep), made)
	// Tokens are checked without the lock while the disk is slow; those of the new key
	// come after this.
	defer s.public.Store(nil)
	text, err := json.Marshal(s.keys)
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("cannot keep a key for access tokens: %w", err)
	}
	if err := s.store.CatalogPut(signingKeysName, text); err != nil {
		s.logger.Warn("access tokens of this run will not outlive it", "error", err)
	}
	return made.Key, nil
}

// keysFor gives the public halves of the keys whose tokens may still count: the same
// set as long as those are the same.
func (s *signingKeys) keysFor(context.Context, string) (*keySet, error) {
	now := s.now()
	if p := s.public.Load(); p != nil && (p.until.IsZero() || !now.After(p.until)) {
		return &p.set, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &publicKeys{}
	for i, one := range s.keys {
		if i+1 < len(s.keys) {
			until := time.Unix(s.keys[i+1].Created, 0).Add(signingKeyKept)
			if now.After(until) {
				continue
			}
			if p.until.IsZero() { // the oldest goes first
				p.until = until
			}
		}
		p.set.keys = append(p.set.keys, one.Key.Public())
	}
	s.public.Store(p)
	return &p.set, nil
}
