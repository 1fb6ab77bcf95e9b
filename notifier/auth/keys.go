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
)

// minRSABits is the least an RSA key must have (RFC 7518, section 3.3).
const minRSABits = 2048

// publicKey is one usable key of a JWKS, with the one method it may verify.
type publicKey struct {
	kid string
	alg string
	key crypto.PublicKey
}

type keySet []publicKey

// find returns the keys that may have signed a token: those of its method and key id, or, if the token
// names none, all of its method.
func (s keySet) find(alg, kid string) []jwt.VerificationKey {
	var found []jwt.VerificationKey
	for _, k := range s {
		if k.alg == alg && (kid == "" || k.kid == kid) {
			found = append(found, k.key)
		}
	}
	return found
}

// jwkNames are the members of a JWK that hark reads. Of what else there may be, private parts and certificates among it,
// nothing is decoded.
var jwkNames = []string{"kty", "use", "key_ops", "alg", "kid", "crv", "x", "y", "n", "e"}

// parseKeys reads a JWK set (RFC 7517). Keys that hark has no use for are left out, as section 5 asks:
// those of other types or methods, for encryption, symmetric ones, and too small ones. Names are exact, and a set that
// has one twice is refused.
func parseKeys(data []byte) (keySet, error) {
	raw, err := exactObject(data)
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
		exact := make(map[string]any, len(jwkNames))
		for _, name := range jwkNames {
			if value, ok := members[name]; ok {
				exact[name] = value
			}
		}
		text, err := json.Marshal(exact)
		if err != nil {
			return nil, fmt.Errorf("not a JWK set: %w", err)
		}
		// Without the option Private no symmetric key is ever read, and of a private one only its public half.
		jwk, err := jwkset.NewJWKFromRawJSON(text, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil {
			continue
		}
		if k, ok := usable(jwk); ok {
			set = append(set, k)
		}
	}
	return set, nil
}

func usable(jwk jwkset.JWK) (publicKey, bool) {
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
