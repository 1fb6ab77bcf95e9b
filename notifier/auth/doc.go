// Package auth says who is asking: it verifies the JWT of a request, issues tokens, keeps them in a
// cookie, tells a page of ours from a page of somebody else, and hands out one-use tickets for event
// streams that can send neither header nor cookie.
//
// # Which key verifies what
//
//	alg in the header        key                            from
//	HS256                    the shared secret              Options.Secret
//	RS256, ES256, EdDSA      the public key with that kid   Options.JWKS
//	anything else, none      refused
//
// A key is only ever looked up among those of its own row, and a row without a key is not accepted at
// all: the public key of a JWKS can never verify an HS256 signature.
//
// Every refusal is an [*Error] with a stable code and one sentence; none of them repeats the token.
package auth
