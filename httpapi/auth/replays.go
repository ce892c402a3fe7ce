package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"kiln/engine"
)

// replaysPrefix is where the store's catalog has the assertions that were used, so
// that a restart does not let them be used again:
//
//	auth-jti/{sha256 of client and jti, hex}	when it expires, seconds of Unix time
const replaysPrefix = "auth-jti/"

// replays remembers the assertions that were used, until they expire.
type replays struct {
	store *engine.Store

	mu sync.Mutex // guards what follows
	// used has when each expires, by client and key in the catalog.
	used  map[string]map[string]time.Time
	swept time.Time // when used was looked through last
	gone  []string  // keys in the catalog that have expired and are still there
}

var (
	errReplayed    = errors.New("the assertion was used before")
	errReplaysFull = errors.New("too many assertions of the client have not expired yet")
)

// storedReplays reads what was used before. Whose it was is not known any more, which
// only matters for the bound.
func storedReplays(store *engine.Store) (*replays, error) {
	r := &replays{store: store, used: map[string]map[string]time.Time{"": {}}}
	err := store.CatalogList(replaysPrefix, func(key string, value []byte) error {
		seconds, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil {
			return fmt.Errorf("%s is no time: %w", key, err)
		}
		r.used[""][key] = time.Unix(seconds, 0)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read which assertions were used: %w", err)
	}
	return r, nil
}

// use takes note of an assertion that counts until expires. It is durable on return,
// unless the store takes no writes at all: then the note is of this run.
func (r *replays) use(client, jti string, now, expires time.Time) error {
	sum := sha256.Sum256([]byte(client + "\x00" + jti))
	key := replaysPrefix + hex.EncodeToString(sum[:])
	if err := r.note(client, key, now, expires); err != nil {
		return err
	}
	err := r.store.CatalogPut(key, strconv.AppendInt(nil, expires.Unix()+1, 10))
	if errors.Is(err, engine.ErrOpenedReadOnly) {
		return nil
	}
	return err
}

func (r *replays) note(client, key string, now, expires time.Time) error {
	for _, old := range r.expired(now) {
		// What stays is read at the next start, and goes after that.
		_ = r.store.CatalogDelete(old)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, of := range []string{"", client} {
		if _, has := r.used[of][key]; has {
			return errReplayed
		}
	}
	if len(r.used[client]) >= replaysMax {
		return errReplaysFull
	}
	if r.used[client] == nil {
		r.used[client] = map[string]time.Time{}
	}
	r.used[client][key] = expires
	return nil
}

// expired takes out what cannot be used any more, and gives some of what the catalog
// still has of that: whoever comes after a pause does not wait for all of it to be deleted.
func (r *replays) expired(now time.Time) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if since := now.Sub(r.swept); since < 0 || since >= replaysSweepInterval {
		r.swept = now
		r.sweep(now)
	}
	some := r.gone[:min(len(r.gone), replaysDeletedMax)]
	if r.gone = r.gone[len(some):]; len(r.gone) == 0 {
		r.gone = nil
	}
	return some
}

// sweep looks through all of them. r.mu is held.
func (r *replays) sweep(now time.Time) {
	for client, of := range r.used {
		for key, expires := range of {
			if now.After(expires.Add(time.Second)) {
				delete(of, key)
				r.gone = append(r.gone, key)
			}
		}
		if len(of) == 0 && client != "" {
			delete(r.used, client)
		}
	}
}
