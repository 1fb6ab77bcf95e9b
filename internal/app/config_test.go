package app

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natsconn"
	"github.com/hark-jobs/hark/internal/secret"
	"github.com/hark-jobs/hark/jobs"
)

// What is wrong with a configuration is one sentence with a code, before anything is started.
func TestConfig(t *testing.T) {
	pw := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(pw, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	password := secret.Secret{File: pw}
	for name, c := range map[string]struct {
		config Config
		code   string // "" if nothing is wrong
		says   string
	}{
		"embedded":                  {Config{}, "", ""},
		"listen on loopback":        {Config{NATSListen: "127.0.0.1:4222"}, "", ""},
		"listen on localhost":       {Config{NATSListen: "localhost:4222"}, "", ""},
		"listen on ::1":             {Config{NATSListen: "[::1]:4222"}, "", ""},
		"listen everywhere":         {Config{NATSListen: "0.0.0.0:4222"}, "nats_listen_needs_login", "--nats-password-file"},
		"listen without a host":     {Config{NATSListen: ":4222"}, "nats_listen_needs_login", ":4222"},
		"listen on a name":          {Config{NATSListen: "example.com:4222"}, "nats_listen_needs_login", "example.com"},
		"listen on nonsense":        {Config{NATSListen: "4222"}, "nats_listen_invalid", "host:port"},
		"listen with a user":        {Config{NATSListen: "0.0.0.0:4222", NATS: natsconn.Options{User: "hark", Password: password}}, "", ""},
		"listen with a token":       {Config{NATSListen: "0.0.0.0:4222", NATS: natsconn.Options{Token: password}}, "", ""},
		"listen without a password": {Config{NATSListen: "0.0.0.0:4222", NATS: natsconn.Options{User: "hark"}}, "nats_listen_needs_login", "--nats-password-file"},
		"a login for nothing":       {Config{NATS: natsconn.Options{User: "hark", Password: password}}, "nats_is_inside", "--nats-listen"},
		"an nkey for nothing":       {Config{NATSListen: "127.0.0.1:4222", NATS: natsconn.Options{CAFile: pw}}, "nats_options_invalid", "PEM"},
		"listen and elsewhere":      {Config{NATSListen: "127.0.0.1:4222", NATS: natsconn.Options{URL: "nats://a"}}, "nats_is_elsewhere", "--nats"},
		"no such file":              {Config{NATS: natsconn.Options{URL: "nats://a", User: "hark", Password: secret.Secret{File: pw + "x"}}}, "nats_options_invalid", "no such file"},
		"a short lease":             {Config{Settings: jobs.Settings{Lease: time.Millisecond}}, "setting_invalid", "too short"},
		"HTTP without a key":        {Config{Listen: "0.0.0.0:4280"}, "listen_needs_key", "--jwt-secret-file"},
		"HTTP with a key":           {Config{Listen: "0.0.0.0:4280", JWTSecret: password}, "", ""},
		"HTTP with an issuer":       {Config{Listen: "0.0.0.0:4280", JWTIssuer: "https://id.example.com", JWTAudience: []string{"hark"}}, "", ""},
		"an issuer that is a name":  {Config{Listen: "0.0.0.0:4280", JWTIssuer: "shop"}, "listen_needs_key", "--jwt-issuer"},
		"keys without an audience":  {Config{JWKS: "https://id.example.com/keys"}, "audience_missing", "--jwt-audience"},
		"the same and a secret":     {Config{JWKS: "HTTPS://id.example.com/keys", JWTSecret: password}, "audience_missing", "--jwt-audience"},
		"an issuer without one":     {Config{JWTIssuer: "https://id.example.com"}, "audience_missing", "--jwt-audience"},
		"an issuer and a secret":    {Config{JWTIssuer: "https://id.example.com", JWTSecret: password}, "", ""},
		"an empty audience":         {Config{JWTSecret: password, JWTAudience: []string{""}}, "audience_missing", "--jwt-audience"},
		"a file of keys":            {Config{JWKS: "keys.json"}, "", ""},
		"a short age of tokens":     {Config{JWTSecret: password, MaxTokenAge: time.Millisecond}, "max_token_age_invalid", "--max-token-age"},
	} {
		t.Run(name, func(t *testing.T) {
			c.config.Notifier, c.config.Data = true, "data"
			err := c.config.defaults()
			var user *UserError
			switch {
			case c.code == "" && err != nil:
				t.Error(err)
			case c.code != "" && (!errors.As(err, &user) || user.Code != c.code || !strings.Contains(user.Message, c.says)):
				t.Errorf("got %+v, want %s with %q", err, c.code, c.says)
			case c.code != "" && (!strings.HasSuffix(user.Message, ".") || strings.Contains(user.Message, "s3cret")):
				t.Errorf("it says %q", user.Message)
			}
		})
	}
}
