package httpapi

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"

	"kiln/engine"
)

const (
	// pagingKeyBytes is the size of the key that seals paging tokens.
	pagingKeyBytes = 32
	// pagingKeyName is where the store's catalog has it, so that links that
	// clients hold outlive a restart.
	pagingKeyName = "paging-key"
)

// storedPagingKey reads the store's key, or makes it. A store that takes no
// writes gets a key for this run only: its reads have to go on.
func storedPagingKey(store *engine.Store, logger *slog.Logger) ([]byte, error) {
	key, err := store.CatalogGet(pagingKeyName)
	switch {
	case err == nil && len(key) == pagingKeyBytes:
		return key, nil
	case err == nil:
		return nil, fmt.Errorf("cannot seal paging tokens: the catalog's key has %d bytes, not %d", len(key), pagingKeyBytes)
	case !errors.Is(err, engine.ErrNotFound):
		return nil, fmt.Errorf("cannot seal paging tokens: %w", err)
	}
	key = make([]byte, pagingKeyBytes)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("cannot make a key for paging tokens: %w", err)
	}
	if err := store.CatalogPut(pagingKeyName, key); err != nil {
		logger.Warn("paging links of this run will not outlive it", "error", err)
	}
	return key, nil
}
