package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	// KeyBytes is the length of a key: AES-256.
	KeyBytes = 32
	// TagBytes is what sealing adds to a piece.
	TagBytes   = 16
	nonceBytes = 12
	// SaltBytes is the length of a salt of Derive: two random ones never meet.
	SaltBytes = 16
)

// ErrKey: something is sealed under a key that was not given.
var ErrKey = errors.New("it is encrypted under a key that was not given")

// KeyID names a key: 8 bytes that follow from it and tell nothing about it.
type KeyID [8]byte

func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// ParseKeyID reads 16 lower-case hex digits.
func ParseKeyID(text string) (id KeyID, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) || text != strings.ToLower(text) {
		return id, errors.New("a key's id has 16 hex digits")
	}
	return KeyID(b), nil
}

// Keys are the operator's keys: the first is for what is written, all open what is
// read. Safe for concurrent use, nil: there are none.
type Keys struct {
	list []masterKey
}

type masterKey struct {
	id     KeyID
	secret [KeyBytes]byte
	wrap   cipher.AEAD // seals the keys of files
}

// ParseKeys reads keys, one or more words of 32 bytes each as base64 or hex. Errors
// never show any of the text.
func ParseKeys(text string) (*Keys, error) {
	keys := &Keys{}
	for i, word := range strings.Fields(text) {
		secret, err := parseKey(word)
		if err != nil {
			return nil, fmt.Errorf("cannot read encryption key %d: %w", i+1, err)
		}
		key := masterKey{secret: secret, wrap: newAEAD(expand(secret, "kiln file keys 1", KeyBytes))}
		key.id = KeyID(expand(secret, "kiln key id 1", len(key.id)))
		if keys.Has(key.id) {
			return nil, fmt.Errorf("cannot use the encryption keys: key %s is there twice", key.id)
		}
		keys.list = append(keys.list, key)
	}
	if len(keys.list) == 0 {
		return nil, errors.New("cannot use the encryption keys: there is none")
	}
	return keys, nil
}

func parseKey(word string) (key [KeyBytes]byte, err error) {
	b, err := hex.DecodeString(word)
	if err != nil {
		word = strings.TrimRight(word, "=")
		if b, err = base64.RawStdEncoding.DecodeString(word); err != nil {
			b, err = base64.RawURLEncoding.DecodeString(word)
		}
	}
	if err != nil || len(b) != KeyBytes {
		return key, fmt.Errorf("it is not %d bytes as base64 or hex", KeyBytes)
	}
	return [KeyBytes]byte(b), nil
}

// expand makes a key for one purpose of another.
func expand(secret [KeyBytes]byte, purpose string, bytes int) []byte {
	key, err := hkdf.Expand(sha256.New, secret[:], purpose, bytes)
	if err != nil {
		panic("BUG: " + err.Error()) // of lengths only
	}
	return key
}

func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("BUG: " + err.Error()) // of lengths only
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return aead
}

// Random fills b from the system's generator, which never fails.
func Random(b []byte) { _, _ = rand.Read(b) }

// Current is the key for what is written.
func (k *Keys) Current() KeyID { return k.list[0].id }

// IDs are those of all keys, the current one first.
func (k *Keys) IDs() []KeyID {
	var ids []KeyID
	for i := range k.list {
		ids = append(ids, k.list[i].id)
	}
	return ids
}

// Has tells whether a key was given.
func (k *Keys) Has(id KeyID) bool { return k != nil && slices.Contains(k.IDs(), id) }

func (k *Keys) find(id KeyID) (*masterKey, error) {
	if k != nil {
		for i := range k.list {
			if k.list[i].id == id {
				return &k.list[i], nil
			}
		}
	}
	return nil, fmt.Errorf("%w: key %s", ErrKey, id)
}

// Derived seals what is not a file of its own. Safe for concurrent use.
type Derived struct {
	AEAD  cipher.AEAD
	block cipher.Block
}

// Derive gives the key that follows from one of the keys, a purpose and a salt.
func (k *Keys) Derive(id KeyID, purpose string, salt [SaltBytes]byte) (*Derived, error) {
	key, err := k.find(id)
	if err != nil {
		return nil, err
	}
	secret := expand(key.secret, purpose+string(salt[:]), KeyBytes)
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &Derived{AEAD: newAEAD(secret), block: block}, nil
}

// Unchecked decrypts what GCM sealed with a nonce, but does not tell whether those are
// the bytes that were sealed: for what is left of something damaged.
func (d *Derived) Unchecked(dst []byte, nonce [nonceBytes]byte, sealed []byte) []byte {
	var counter [aes.BlockSize]byte
	copy(counter[:], nonce[:])
	binary.BigEndian.PutUint32(counter[nonceBytes:], 2) // 1 is the tag's
	at := len(dst)
	dst = append(dst, sealed...)
	cipher.NewCTR(d.block, counter[:]).XORKeyStream(dst[at:], dst[at:])
	return dst
}
