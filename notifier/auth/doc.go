// Package auth identifies the caller of a request: it verifies the JWT of a request, issues tokens, stores them in a cookie,
// checks the origin of the calling page, revokes tokens, and issues one-use tickets for event streams that can send neither
// a header nor a cookie.
//
// # Which key verifies what
//
//	alg in the header        key                            from
//	HS256                    the shared secret              Options.Secret
//	RS256, ES256, EdDSA      the public key with that kid   Options.JWKS
//	anything else, none      refused
//
// A key verifies only the methods of its own row, and the methods of a row without a key are refused. So the public key of a
// JWKS can never verify an HS256 signature.
//
// Every refusal is an [*Error] with a stable code and one sentence. None of them contains the token.
package auth
