package httpapi

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// Paging tokens are sealed: they name places in the store, also of what their client
// may not see, and numbers of writes. They grant nothing that their address does not
// give; nobody can rely on what is in them, or have the server work on numbers it never
// gave out. A sealed token is
//
//	+---------+----------+-----------------+--------+
//	| version | nonce 12 | AES-256-GCM ... | tag 16 |     authenticated with the version
//	+---------+----------+-----------------+--------+
//
// The nonce is HMAC-SHA256 of what is sealed, so equal pages have equal links and a
// nonce comes twice only with the same token.
const (
	tokenNonceBytes = 12
	tokenTagBytes   = 16
	tokenSealBytes  = tokenNonceBytes + tokenTagBytes
)

func tokenMAC(key []byte, texts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	for _, text := range texts {
		mac.Write(text)
	}
	return mac.Sum(nil)
}

// tokenCipher is the cipher of a key, and the key of nonces.
func tokenCipher(key []byte) (sealer cipher.AEAD, nonces []byte) {
	block, err := aes.NewCipher(tokenMAC(key, []byte("kiln paging token seal")))
	if err == nil {
		sealer, err = cipher.NewGCM(block)
	}
	if err != nil {
		panic("BUG: a hash is no key: " + err.Error())
	}
	return sealer, tokenMAC(key, []byte("kiln paging token nonce"))
}

// sealToken is the text of a token that begins with its version.
func sealToken(key, token []byte) string {
	sealer, nonces := tokenCipher(key)
	nonce := tokenMAC(nonces, token)[:tokenNonceBytes]
	b := append(make([]byte, 0, len(token)+tokenSealBytes), token[0])
	b = append(b, nonce...)
	return base64.RawURLEncoding.EncodeToString(sealer.Seal(b, nonce, token[1:], token[:1]))
}

// openToken undoes sealToken. The token has the version and is at least head bytes
// long; errToken otherwise.
func openToken(key []byte, text string, version byte, head int) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || base64.RawURLEncoding.EncodedLen(len(b)) != len(text) || len(b) < head+tokenSealBytes || b[0] != version { // line ends are skipped by the decoder
		return nil, errToken
	}
	sealer, _ := tokenCipher(key)
	token, err := sealer.Open([]byte{version}, b[1:1+tokenNonceBytes], b[1+tokenNonceBytes:], b[:1])
	if err != nil {
		return nil, errToken
	}
	return token, nil
}
