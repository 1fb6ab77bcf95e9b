package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/hark-jobs/hark/internal/exact"
)

// minRSABits is the smallest size of an RSA key (RFC 7518, section 3.3).
const minRSABits = 2048

// publicKey is a usable key of a JWKS, with the one method that it may verify.
type publicKey struct {
	kid string
	alg string
	key crypto.PublicKey
}

type keySet []publicKey

// find returns the keys that may have signed a token: those with its method and key id, or without a key id, all with its
// method.
func (s keySet) find(alg, kid string) []jwt.VerificationKey {
	var found []jwt.VerificationKey
	for _, k := range s {
		if k.alg == alg && (kid == "" || k.kid == kid) {
			found = append(found, k.key)
		}
	}
	return found
}

// jwkNames are the members of a JWK that hark decodes. It ignores all others, such as private parts and certificates.
var jwkNames = []string{"kty", "use", "key_ops", "alg", "kid", "crv", "x", "y", "n", "e"}

// parseKeys parses a JWK set (RFC 7517). As section 5 demands, it omits keys that hark cannot use: other types or methods,
// encryption keys, symmetric keys, and keys that are too small. Names are exact, and a set with a duplicate name is refused.
func parseKeys(data []byte) (keySet, error) {
	raw, err := exact.Object(data)
	if err != nil {
		return nil, fmt.Errorf("not a JWK set: %w", err)
	}
	keys, ok := raw["keys"].([]any)
	if !ok {
		return nil, errors.New("not a JWK set: it has no keys")
	}
	set := make(keySet, 0, len(keys))
	for _, one := range keys {
		members, _ := one.(map[string]any)
		known := make(map[string]any, len(jwkNames))
		for _, name := range jwkNames {
			if value, ok := members[name]; ok {
				known[name] = value
			}
		}
		text, err := json.Marshal(known)
		if err != nil {
			return nil, fmt.Errorf("not a JWK set: %w", err)
		}
		// Without the option Private, symmetric keys are refused, and of a private key only the public half is read.
		jwk, err := jwkset.NewJWKFromRawJSON(text, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil {
			continue
		}
		if k, ok := newPublicKey(jwk); ok {
			set = append(set, k)
		}
	}
	return set, nil
}

// newPublicKey returns the key, or false if hark cannot use it.
func newPublicKey(jwk jwkset.JWK) (publicKey, bool) {
	meta := jwk.Marshal()
	if meta.USE != "" && meta.USE != jwkset.UseSig {
		return publicKey{}, false
	}
	if len(meta.KEYOPS) > 0 && !slices.Contains(meta.KEYOPS, jwkset.KeyOpsVerify) {
		return publicKey{}, false
	}
	k := publicKey{kid: meta.KID, key: jwk.Key()}
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() >= minRSABits {
			k.alg = "RS256"
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			k.alg = "ES256"
		}
	case ed25519.PublicKey:
		k.alg = "EdDSA"
	}
	if k.alg == "" || meta.ALG != "" && meta.ALG.String() != k.alg {
		return publicKey{}, false
	}
	return k, true
}
