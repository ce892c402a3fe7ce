package auth

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// keySource gives the keys that a token's signature is checked with.
type keySource interface {
	// keysFor gives the set to look for kid in: one that is fresh enough, or newer
	// when it does not have the kid.
	keysFor(ctx context.Context, kid string) (*keySet, error)
}

// keysFor of a fixed set is the set.
func (s *keySet) keysFor(context.Context, string) (*keySet, error) { return s, nil }

// remoteKeys is a key set behind a URL. It is asked for when it is first needed,
// when it is too old, and when a token names a key that it does not have, but
// never twice within fetchIntervalMin and never twice at once. While its owner
// does not answer, the last set counts for keysStaleMax.
type remoteKeys struct {
	name string // in the log
	// load gets the set and how long it may be kept; -1: not said.
	load   func(ctx context.Context) (*keySet, time.Duration, error)
	now    func() time.Time
	logger *slog.Logger
	// fresh is what nobody has to wait for. Requests look at it without a lock.
	fresh atomic.Pointer[freshKeys]

	mu     sync.Mutex // guards what follows
	set    *keySet    // nil: never had
	loaded time.Time  // when set was
	age    time.Duration
	tried  time.Time     // when the last question began
	failed bool          // it was not answered
	flight chan struct{} // closed when the question under way is over; nil: none is
}

// freshKeys are kept for age from loaded on.
type freshKeys struct {
	set    *keySet
	loaded time.Time
	age    time.Duration
}

func (r *remoteKeys) keysFor(ctx context.Context, kid string) (*keySet, error) {
	if f := r.fresh.Load(); f != nil && r.now().Sub(f.loaded) < f.age && (kid == "" || f.set.has(kid)) {
		return f.set, nil
	}
	r.mu.Lock()
	wait := r.refresh(kid)
	r.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ErrKeysAway
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil || r.now().Sub(r.loaded) > keysStaleMax {
		return nil, ErrKeysAway
	}
	return r.set, nil
}

// refresh begins a question if one is due, and gives what to wait for; nil: the
// keys at hand will do. While the owner does not answer, nobody waits for an
// answer that the old keys can do without. mu is held.
func (r *remoteKeys) refresh(kid string) <-chan struct{} {
	now := r.now()
	isOld := r.set == nil || now.Sub(r.loaded) >= r.age
	isUnknown := r.set != nil && kid != "" && !r.set.has(kid)
	if !isOld && !isUnknown {
		return nil
	}
	if r.flight == nil {
		if !r.tried.IsZero() && now.Sub(r.tried) < fetchIntervalMin && now.Sub(r.tried) >= 0 {
			return nil
		}
		r.tried, r.flight = now, make(chan struct{})
		go r.ask()
	}
	if r.failed && r.set != nil && !isUnknown {
		return nil
	}
	return r.flight
}

// ask is one question. It outlives the request that it began for: others wait too.
func (r *remoteKeys) ask() {
	set, age, err := r.load(context.Background())
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.set, r.loaded, r.age = set, r.now(), keepFor(age)
		r.fresh.Store(&freshKeys{r.set, r.loaded, r.age})
	} else {
		r.logger.Warn("the keys that tokens are checked with could not be had", "of", r.name, "error", err)
	}
	r.failed = err != nil
	close(r.flight)
	r.flight = nil
}

// keepFor is how long a set is kept whose sender allows age; -1: does not say.
func keepFor(age time.Duration) time.Duration {
	if age < 0 {
		return keysAgeDefault
	}
	return min(max(age, keysAgeMin), keysAgeMax)
}
