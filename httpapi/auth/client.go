package auth

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"kiln/httpapi/access"
)

// client is one that may ask this server for tokens (SMART Backend Services).
type client struct {
	id, name string
	keysURL  string // "": its keys are in the file
	keys     keySource
	scopes   []access.Scope
	roles    access.Roles
}

type clientConfig struct {
	ID      string         `yaml:"id"`
	Name    string         `yaml:"name"`
	Keys    map[string]any `yaml:"keys"`
	KeysURL string         `yaml:"keys-url"`
	Scopes  string         `yaml:"scopes"`
	Roles   roleList       `yaml:"roles"`
}

func (c *config) addClient(at place, from *clientConfig) error {
	switch {
	case from.ID == "" || !isName(from.ID):
		return at.key("id").errorf("name the client, with %d bytes at most", nameBytesMax)
	case c.clients[from.ID] != nil:
		return at.key("id").errorf("the client is there twice")
	case !isName(from.Name):
		return at.key("name").errorf("it has more than %d bytes or control characters", nameBytesMax)
	case (from.Keys == nil) == (from.KeysURL == ""):
		return at.errorf("give keys (a JSON Web Key Set) or keys-url, and not both")
	}
	one := &client{id: from.ID, name: from.Name, keysURL: from.KeysURL, roles: access.Roles(from.Roles)}
	if from.KeysURL != "" {
		if err := checkURL(from.KeysURL); err != nil {
			return at.key("keys-url").errorf("%w", err)
		}
	} else {
		text, err := json.Marshal(from.Keys)
		if err != nil {
			return at.key("keys").errorf("%w", err)
		}
		set, err := parseKeySet(text, true)
		if err != nil {
			return at.key("keys").errorf("%w", err)
		}
		if len(set.keys) == 0 {
			return at.key("keys").errorf("none of the keys is one for signatures (RSA of %d bits and more, P-256, P-384)", rsaBitsMin)
		}
		one.keys = set
	}
	var err error
	if one.scopes, err = registeredScopes(from.Scopes); err != nil {
		return at.key("scopes").errorf("%w", err)
	}
	if len(one.scopes) == 0 {
		return at.key("scopes").errorf("name what the client may ask for, such as system/*.rs")
	}
	c.clients[one.id] = one
	return nil
}

// registeredScopes reads scopes of the file, of which every one has to be right.
func registeredScopes(text string) ([]access.Scope, error) {
	all, err := access.ParseScopes(text)
	if err != nil {
		return nil, err
	}
	for _, words := range [][]string{all.Malformed, all.Other} {
		if len(words) > 0 {
			return nil, fmt.Errorf("%q is no scope about resources", words[0])
		}
	}
	return all.Known, nil
}

// loadKeys gets the client's key set.
func (c *client) loadKeys(from *fetcher) func(context.Context) (*keySet, time.Duration, error) {
	return func(ctx context.Context) (*keySet, time.Duration, error) { return loadKeySet(ctx, from, c.keysURL) }
}
