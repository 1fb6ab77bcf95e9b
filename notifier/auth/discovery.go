package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/hark-jobs/hark/internal/exact"
)

// wellKnown is the path of an issuer's discovery document (OpenID Connect Discovery 1.0, section 4).
const wellKnown = "/.well-known/openid-configuration"

// IsURL reports whether text is an http or https URL, as opposed to the path of a file or to any other name.
func IsURL(text string) bool {
	lower := strings.ToLower(text)
	return strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://")
}

// safeURL returns an error unless the response of the URL can be trusted. Over plain HTTP an attacker on the network could
// replace the issuer's keys. With loopback, plain HTTP to this machine is allowed.
func safeURL(u *url.URL, loopback bool) error {
	if u.Scheme == "https" && u.Hostname() != "" || loopback && u.Scheme == "http" && isLoopback(u) {
		return nil
	}
	return errors.New("it must be an https URL")
}

// isLoopback reports whether the host of the URL is this machine.
func isLoopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// fromIssuer makes run fetch the keys that the issuer's discovery document names.
func (s *keySource) fromIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err == nil {
		err = safeURL(u, true)
	}
	if err == nil && (u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil) {
		err = errors.New("it must be a URL without a query, a fragment and a login")
	}
	if err != nil {
		return fmt.Errorf("the issuer %.200q: %w", issuer, err)
	}
	client := s.newClient(u)
	from := strings.TrimSuffix(issuer, "/") + wellKnown
	s.name = from
	s.load = func(ctx context.Context) (keySet, error) {
		return discoverKeys(ctx, client, from, issuer, isLoopback(u))
	}
	return nil
}

func discoverKeys(ctx context.Context, client *http.Client, from, issuer string, loopback bool) (keySet, error) {
	data, err := fetch(ctx, client, from, "application/json")
	if err != nil {
		return nil, err
	}
	keys, err := parseDiscovery(data, issuer, loopback)
	if err != nil {
		return nil, err
	}
	set, err := fetchKeys(ctx, client, keys)
	if err != nil {
		return nil, fmt.Errorf("its keys at %.200s: %w", keys, err)
	}
	return set, nil
}

// parseDiscovery returns the jwks_uri of a discovery document. The document must be the issuer's own: its issuer must be
// the one that was configured, character by character (section 4.3, and RFC 8414, section 3.3).
func parseDiscovery(data []byte, issuer string, loopback bool) (keys string, err error) {
	document, err := exact.Object(data)
	if err != nil {
		return "", fmt.Errorf("not a discovery document: %w", err)
	}
	if own, _ := document["issuer"].(string); own != issuer {
		return "", fmt.Errorf("it is the document of another issuer: %.200q", own)
	}
	keys, _ = document["jwks_uri"].(string)
	u, err := url.Parse(keys)
	if err == nil {
		err = safeURL(u, loopback)
	}
	if err != nil {
		return "", fmt.Errorf("its jwks_uri %.200q: %w", keys, err)
	}
	return keys, nil
}
